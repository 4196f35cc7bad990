#!/usr/bin/env bash
# An allocation to work in. From the folder that holds slurm/:
#   slurm/interactive.sh --nodes 1 --gpus-per-node 2 --time 1:00:00                  a shell on a node
#   slurm/interactive.sh --nodes 2 --gpus-per-node 8 -- configs/heat.py [flags]      a run, then the end of it
#   slurm/interactive.sh -- configs/heat.py [flags]                                  a run, inside an allocation
set -euo pipefail
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  options+=("$1")
  shift
done
if [ $# = 0 ]; then
  exec srun ${options[@]+"${options[@]}"} --pty "${SHELL:-bash}"
fi
if [ -z "${SLURM_JOB_ID:-}" ]; then
  exec salloc ${options[@]+"${options[@]}"} "$0" "$@"
fi
shift
export SLURM_SUBMIT_DIR=$PWD
source "$(dirname "$0")/common.sh"
train_once "$@"
