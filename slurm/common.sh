# shellcheck shell=bash
# What the scripts of this folder share: which Python, how many ranks, where results go, and how a job ends.
#
# Set in the environment, or here, to replace what is found:
#   PYTHON          interpreter; .venv/bin/python of the folder of submission, or else python3
#   RANKS_PER_NODE  processes a node; one for each GPU, or else one for each CPU that Slurm gives
#   RUN_DIR         results; runs/NAME-jobID, or what --run-dir says. Of an array each task has a folder in it
#   MAX_RESTARTS    how often torchrun starts ranks again where one has died (0)
#   MAX_REQUEUES    how often a job that was stopped or lost its node begins again (100)
#   CONTAINER       what runs a command in a container: "apptainer exec --nv image.sif"
#   SRUN_OPTIONS    more options of srun, e.g. for pyxis: "--container-image=image.sqsh --container-mounts=$PWD"

# module purge; module load python cuda nccl
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0    # where hosts have several networks

cd "$SLURM_SUBMIT_DIR" || exit
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x .venv/bin/python ] && PYTHON=$PWD/.venv/bin/python
fi
RANKS_PER_NODE=${RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-0}}
if [ "$RANKS_PER_NODE" = 0 ] && command -v nvidia-smi >/dev/null; then
  RANKS_PER_NODE=$(nvidia-smi --list-gpus 2>/dev/null | grep -c "^GPU" || true)
fi
[ "$RANKS_PER_NODE" != 0 ] || RANKS_PER_NODE=${SLURM_CPUS_ON_NODE:-1}
threads=$((${SLURM_CPUS_ON_NODE:-1} / RANKS_PER_NODE))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 1 ? threads : 1))}
export PYTHONUNBUFFERED=1 TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
starts=${SLURM_RESTART_COUNT:-0} # of this job before this one

# find_run_dir CONFIG [flags]: set RUN_DIR
find_run_dir() {
  local name previous="" word
  name=$(basename "${1#problems:}")
  for word in "$@"; do
    case $previous in --run-dir | --run_dir) RUN_DIR=$word ;; esac
    case $word in --run-dir=* | --run_dir=*) RUN_DIR=${word#*=} ;; esac
    previous=$word
  done
  if [ -n "${RUN_DIR:-}" ]; then
    RUN_DIR=$RUN_DIR${SLURM_ARRAY_TASK_ID:+/$SLURM_ARRAY_TASK_ID}
  else
    RUN_DIR=runs/${name%.*}-job${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
  fi
  case $RUN_DIR in /*) ;; *) RUN_DIR=$PWD/$RUN_DIR ;; esac
}

# train CONFIG [flags]: one torchrun a node, all of them one run. The ranks answer SIGTERM and SIGUSR1 with a
# checkpoint and end by themselves, so torchrun must let both pass.
train() {
  local head port
  find_run_dir "$@"
  head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  # another one each time: what is left of an earlier start on a node that was lost must not be met
  port=$((10000 + (SLURM_JOB_ID + 997 * starts) % 20000))
  echo "job $SLURM_JOB_ID, start $((starts + 1)): $SLURM_JOB_NUM_NODES nodes × $RANKS_PER_NODE ranks, results in $RUN_DIR"
  export PYTHON HEAD=$head PORT=$port ID=$SLURM_JOB_ID-$starts RANKS_PER_NODE RUN_DIR
  export MAX_RESTARTS=${MAX_RESTARTS:-0} CONTAINER=${CONTAINER:-}
  export PET_SIGNALS_TO_HANDLE=SIGINT,SIGQUIT PET_SHUTDOWN_TIMEOUT=5 # of torchrun where it knows these options
  # shellcheck disable=SC2016,SC2086 # the variables are those of the node; options are several words
  srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpu-bind=none \
    --kill-on-bad-exit=1 ${SRUN_OPTIONS:-} bash -c '
      trap "" TERM USR1
      exec $CONTAINER "$PYTHON" -m torch.distributed.run --nnodes "$SLURM_JOB_NUM_NODES" \
        --nproc-per-node "$RANKS_PER_NODE" --max-restarts "$MAX_RESTARTS" --rdzv-backend c10d \
        --rdzv-id "$ID" --rdzv-endpoint "$HEAD:$PORT" --rdzv-conf "is_host=$((SLURM_NODEID == 0))" \
        --local-addr "$SLURMD_NODENAME" -m sngd.cli train "$@" --run-dir "$RUN_DIR"
    ' bash "$@"
}

# train_once CONFIG [flags]: exit code 0 when the run is finished, 75 when it was stopped with a checkpoint
train_once() {
  local code=0
  train "$@" || code=$?
  standing
  case $stands in
    0) ;;
    75) echo "job $SLURM_JOB_ID was stopped; --resume --run-dir $RUN_DIR goes on from its checkpoint" && exit 75 ;;
    *) fail $((code ? code : stands)) ;;
  esac
}

# train_to_the_end CONFIG [flags]: a run that is stopped with a checkpoint is put back into the queue
train_to_the_end() {
  local code=0
  if [ "$starts" -gt "${MAX_REQUEUES:-100}" ]; then
    echo "error: job $SLURM_JOB_ID has begun $((starts + 1)) times and ends here (MAX_REQUEUES)" >&2
    exit 1
  fi
  train "$@" --resume || code=$?
  standing
  case $stands in
    0) ;;
    75) put_back ;;
    *) fail $((code ? code : stands)) ;;
  esac
}

# standing: ask how the run stands; sets stands to 0 (finished), 75 (stopped with a checkpoint), or another
standing() {
  stands=0
  # shellcheck disable=SC2086
  ${CONTAINER:-} "$PYTHON" -m sngd.cli status "$RUN_DIR" || stands=$?
}

# put_back: requeue this job, unless it has not come further since it was stopped last
put_back() {
  local step last=""
  in_charge || { echo "job $SLURM_JOB_ID is cancelled, or has begun again elsewhere: not put back"; exit 75; }
  step=$(tail -n 1 "$RUN_DIR/history.jsonl" | sed 's/.*"step": *\([0-9]*\).*/\1/')
  [ ! -f "$RUN_DIR/stops.txt" ] || last=$(tail -n 1 "$RUN_DIR/stops.txt")
  if [ "$step" = "$last" ]; then
    echo "error: job $SLURM_JOB_ID was stopped twice at step $step: no time for a step, not put back" >&2
    exit 75
  fi
  echo "$step" >>"$RUN_DIR/stops.txt"
  echo "job $SLURM_JOB_ID was stopped at step $step and goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}

# in_charge: whether this job runs, in this very start. Slurm may have lost sight of this node and begun it elsewhere
in_charge() {
  [[ $(scontrol show job "$SLURM_JOB_ID" --oneliner) == *" JobState=RUNNING "*" Restarts=$starts "* ]]
}

# fail CODE: end with the code, unless a node is lost. Ranks notice before Slurm does, which then requeues the job
fail() {
  local each=(--nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES") waited=0
  in_charge || exit "$1"
  if ! timeout 30 srun "${each[@]}" true 2>/dev/null; then
    echo "job $SLURM_JOB_ID has lost a node and waits for Slurm to put it back"
    while in_charge && [ $((waited += 5)) -le 900 ]; do sleep 5; done
  fi
  exit "$1"
}

trap : TERM USR1 # the script outlives them, for what is to be done after srun
