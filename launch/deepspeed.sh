#!/usr/bin/env bash
# usage: launch/deepspeed.sh CONFIG [flags of sngd train]
#   RANKS=2         processes on this machine (default: one for each GPU or core)
#   HOSTFILE=hosts  lines "node1 slots=8": start them there by ssh, through pdsh; LAUNCHER=openmpi, slurm, … otherwise
#   PORT=29500      that is free on the first machine (default: another one for every run)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# = 0 ]; then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
gpus=$({ nvidia-smi -L 2>/dev/null || true; } | wc -l)
if [ "$gpus" = 0 ]; then export DS_ACCELERATOR=${DS_ACCELERATOR:-cpu}; fi
if [ -z "${RANKS:-}" ]; then if [ "$gpus" = 0 ]; then RANKS=$(nproc); else RANKS=$gpus; fi; fi
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > RANKS ? cores / RANKS : 1))}
export TORCH_CPP_LOG_LEVEL=${TORCH_CPP_LOG_LEVEL:-ERROR} # the store's stack traces when a rank is lost
options=(--master_port "${PORT:-$((20000 + $$ % 12000))}" --no_local_rank)
if [ -n "${HOSTFILE:-}" ]; then
  options+=(--hostfile "$HOSTFILE" --launcher "${LAUNCHER:-pdsh}")
else
  options+=(--hostfile /dev/null --num_accelerators "$RANKS")
fi
deepspeed "${options[@]}" "$here/train.py" "$@" &
runner=$!
# it would die of them and leave its ranks behind; its child tells them
trap 'kill -TERM $(cat "/proc/$runner/task/$runner/children" 2>/dev/null) 2>/dev/null || true' TERM USR1
code=0
wait "$runner" || code=$?
while kill -0 "$runner" 2>/dev/null; do code=0; wait "$runner" || code=$?; done # a signal ends a wait
exit "$code"
