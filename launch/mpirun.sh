#!/usr/bin/env bash
# usage: launch/mpirun.sh CONFIG [flags of sngd train]
#   RANKS=2         processes in all (default: one for each GPU or core of this machine)
#   HOSTFILE=hosts  Open MPI: lines "node1 slots=8"; MPICH: lines "node1:8"
#   MPIRUN=mpirun   of Open MPI or MPICH; mpi4py loads the library that belongs to it
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# = 0 ]; then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
MPIRUN=${MPIRUN:-mpirun}
if [ -z "${RANKS:-}" ]; then RANKS=$({ nvidia-smi -L 2>/dev/null || true; } | wc -l); [ "$RANKS" != 0 ] || RANKS=$(nproc); fi
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > RANKS ? cores / RANKS : 1))}
export TORCH_CPP_LOG_LEVEL=${TORCH_CPP_LOG_LEVEL:-ERROR} # the store's stack traces when a rank is lost
lib=$(dirname "$(dirname "$(command -v "$MPIRUN")")")/lib
if compgen -G "$lib/libmpi.so*" >/dev/null; then export LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; fi
options=(-n "$RANKS")
run=(python "$here/train.py")
if "$MPIRUN" --version 2>&1 | grep -q "Open MPI\|OpenRTE\|prterun"; then
  options+=(--bind-to none -x OMP_NUM_THREADS -x TORCH_CPP_LOG_LEVEL -x LD_LIBRARY_PATH) # torch places its threads by itself
  if [ -n "${HOSTFILE:-}" ]; then options+=(--hostfile "$HOSTFILE"); else options+=(--oversubscribe); fi
  if [ "$(id -u)" = 0 ]; then options+=(--allow-run-as-root); fi
else # MPICH kills all ranks when one is killed and does not say which: its shell does. It leaves signals to the rank
  if [ -n "${HOSTFILE:-}" ]; then options+=(-f "$HOSTFILE"); fi
  told="echo \"error: rank \$PMI_RANK on \$(hostname) ended with signal \$((code - 128))\" >&2"
  run=(bash -c "trap : TERM USR1; ${run[*]@Q} \"\$@\" || { code=\$?; [ \$code -le 128 ] || $told; exit \$code; }" rank)
fi
exec "$MPIRUN" "${options[@]}" "${run[@]}" "$@"
