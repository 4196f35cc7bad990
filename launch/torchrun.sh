#!/usr/bin/env bash
# usage: launch/torchrun.sh CONFIG [flags of sngd train]          on every node, with the same arguments
#   RANKS=2         processes on this node ("gpu": one for each GPU, the default where there are any)
#   NODES=2 HEAD=node1:29400 [RUN_ID=name]    several nodes, which meet at a port of the first one
#   MAX_RESTARTS=3  start the ranks again when one is lost; needs --run-dir, where they go on
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# = 0 ]; then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
if [ -z "${RANKS:-}" ]; then if nvidia-smi -L >/dev/null 2>&1; then RANKS=gpu; else RANKS=$(nproc); fi; fi
cores=$(nproc)
if [ "$RANKS" = gpu ]; then per_rank=$((cores / $(nvidia-smi -L | wc -l))); else per_rank=$((cores / RANKS)); fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((per_rank > 0 ? per_rank : 1))}
export TORCH_CPP_LOG_LEVEL=${TORCH_CPP_LOG_LEVEL:-ERROR} # the store's stack traces when a rank is lost
options=(--nproc-per-node "$RANKS" --max-restarts "${MAX_RESTARTS:-0}")
if [ -n "${HEAD:-}" ]; then
  # this node's address towards the first one, which is that one if both are the same
  towards='import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.connect((sys.argv[1], 9))
print(s.getsockname()[0], s.getpeername()[0])'
  read -r mine head <<<"$(python -c "$towards" "${HEAD%:*}")"
  case $head in "$mine" | 127.*) hosts=true ;; *) hosts=false ;; esac
  options+=(--nnodes "${NODES:-1}" --rdzv-backend c10d --rdzv-endpoint "$HEAD" --rdzv-id "${RUN_ID:-sngd}")
  options+=(--rdzv-conf "is_host=$hosts" --local-addr "$mine")
fi
if [ "${MAX_RESTARTS:-0}" != 0 ]; then
  case " $* " in *" --run-dir"*) ;; *) echo "error: MAX_RESTARTS needs --run-dir DIR" >&2; exit 2 ;; esac
  export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # ranks that share the agents' store do not meet again reliably
  set -- "$@" --resume
fi
exec torchrun "${options[@]}" "$here/train.py" "$@"
