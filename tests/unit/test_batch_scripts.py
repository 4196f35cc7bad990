"""What the batch scripts do around a run, with stand-ins for Slurm and for sngd."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each stand-in writes what it is called with to calls.txt. `srun` runs what it is given, as one node would.
STANDINS = {
    "srun": """
if [ "${*: -1}" = true ]; then exit "$NODES_LOST"; fi
shift 5
SLURM_NODEID=0 SLURMD_NODENAME=n1 "$@"
""",
    "scontrol": """
case "$1 $2" in
  "show hostnames") printf "n1\\nn2\\n" ;;
  "show job") echo "$SHOWN" ;;
esac
""",
    "sleep": "",
    "python": 'case "$*" in *" status "*) exit "$STANDS" ;; *) exit "$ENDS" ;; esac',
    "nvidia-smi": 'printf "$GPUS"; [ "$GPUS" != none ]',
}


@pytest.fixture
def job(tmp_path):
    """Runs a script of slurm/ as Slurm would: a copy elsewhere, in the folder of submission."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, does in STANDINS.items():
        tool = bin_folder / name
        tool.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "$CALLS"\n{does}\n')
        tool.chmod(0o755)
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    (tmp_path / "runs").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMP_"))}
    environment = kept | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHON": str(bin_folder / "python"),
        "CALLS": str(tmp_path / "calls.txt"),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "41",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "8",
        "SHOWN": "JobId=41 JobState=RUNNING Requeue=1 Restarts=0 BatchFlag=1",
        "ENDS": "0",
        "STANDS": "0",
        "NODES_LOST": "0",
        "GPUS": "none",
    }

    def run(script, *arguments, **variables):
        copy = tmp_path / "slurm_script"
        copy.write_text((ROOT / "slurm" / script).read_text())
        done = subprocess.run(
            ["bash", copy, *arguments], env=environment | variables, cwd="/", capture_output=True, text=True
        )
        calls = tmp_path / "calls.txt"
        return done, calls.read_text() if calls.exists() else ""

    return run


def stopped_at(tmp_path, step):
    """A run that was stopped with a checkpoint."""
    folder = tmp_path / "runs" / "heat-job41"
    folder.mkdir(exist_ok=True)
    (folder / "history.jsonl").write_text(f'{{"step": {step}, "seconds": 1.5, "loss": 1e-3}}\n')


def test_one_torchrun_a_node_meets_at_the_first(job, tmp_path):
    done, calls = job("train.sbatch", "configs/heat.py", "--seed", "3", SLURM_GPUS_ON_NODE="4")
    assert done.returncode == 0, done.stderr
    (torchrun,) = [line for line in calls.splitlines() if line.startswith("python -m torch")]
    assert "--nnodes 2 --nproc-per-node 4 " in torchrun
    assert "--rdzv-endpoint n1:10041 --rdzv-conf is_host=1 --local-addr n1 " in torchrun
    assert torchrun.endswith(
        f"-m sngd.cli train configs/heat.py --seed 3 --run-dir {tmp_path}/runs/heat-job41"
    )


def test_a_problem_of_the_library_is_run_by_name(job, tmp_path):
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    assert f"status {tmp_path}/runs/heat-job41\n" in job("train.sbatch", "problems:heat")[1]
    done, calls = job("array.sbatch", "problems:heat", **array)
    assert done.returncode == 0, done.stderr
    assert f"train problems:heat --seed 2 --resume --run-dir {tmp_path}/runs/heat-job7_2\n" in calls


@pytest.mark.parametrize(
    ("variables", "ranks"),
    [
        ({}, 8),
        ({"SLURM_GPUS_ON_NODE": "2"}, 2),
        ({"SLURM_GPUS_ON_NODE": "2", "RANKS_PER_NODE": "5"}, 5),
        ({"SLURM_CPUS_ON_NODE": "3"}, 3),
        ({"GPUS": "GPU 0: A (UUID: 1)\\nGPU 1: A (UUID: 2)\\n"}, 2),
    ],
)
def test_a_node_has_a_rank_for_each_gpu_or_else_for_each_cpu(job, variables, ranks):
    assert f"--nproc-per-node {ranks} " in job("train.sbatch", "heat.py", **variables)[1]


def test_a_later_start_meets_at_another_port_under_another_name(job):
    _, calls = job("preempt.sbatch", "heat.py", SLURM_RESTART_COUNT="2")
    assert "--rdzv-id 41-2 --rdzv-endpoint n1:12035 " in calls
    assert "train heat.py --resume --run-dir" in calls


@pytest.mark.parametrize("flag", [["--run-dir", "out/a"], ["--run-dir=out/a"], ["--run_dir", "out/a"]])
def test_a_run_folder_that_is_given_counts(job, tmp_path, flag):
    assert f"status {tmp_path}/out/a\n" in job("train.sbatch", "heat.py", *flag)[1]


def test_a_stopped_run_goes_back_into_the_queue(job, tmp_path):
    stopped_at(tmp_path, 12)
    done, calls = job("preempt.sbatch", "heat.py", STANDS="75")
    assert "scontrol requeue 41\n" in calls
    assert "was stopped at step 12 and goes back into the queue" in done.stdout


def test_a_run_that_comes_no_further_does_not(job, tmp_path):
    stopped_at(tmp_path, 12)
    job("preempt.sbatch", "heat.py", STANDS="75")
    (tmp_path / "calls.txt").unlink()
    done, calls = job("preempt.sbatch", "heat.py", STANDS="75")
    assert "requeue" not in calls
    assert "stopped twice at step 12" in done.stderr
    assert done.returncode == 75
    stopped_at(tmp_path, 13)
    assert "scontrol requeue 41\n" in job("preempt.sbatch", "heat.py", STANDS="75")[1]


@pytest.mark.parametrize(
    "shown",
    [
        "JobId=41 JobState=CANCELLED Requeue=1 Restarts=0 BatchFlag=1",
        "JobId=41 JobState=RUNNING Requeue=1 Restarts=1 BatchFlag=1",
        "",
    ],
    ids=["cancelled", "begun elsewhere", "unknown"],
)
def test_a_job_that_is_no_longer_this_one_is_left_alone(job, tmp_path, shown):
    stopped_at(tmp_path, 12)
    done, calls = job("preempt.sbatch", "heat.py", STANDS="75", SHOWN=shown)
    assert "requeue" not in calls
    assert done.returncode == 75


def test_starts_are_not_endless(job):
    done, calls = job("preempt.sbatch", "heat.py", SLURM_RESTART_COUNT="4", MAX_REQUEUES="3")
    assert done.returncode == 1
    assert "python" not in calls
    assert "has begun 5 times" in done.stderr


def test_a_single_job_that_was_stopped_says_how_to_go_on(job):
    done, calls = job("train.sbatch", "heat.py", STANDS="75")
    assert done.returncode == 75
    assert "--resume --run-dir" in done.stdout
    assert "requeue" not in calls


def test_a_failure_is_the_job_s(job):
    done, calls = job("preempt.sbatch", "heat.py", ENDS="2", STANDS="1")
    assert done.returncode == 2
    assert "requeue" not in calls


def test_after_a_lost_node_slurm_is_waited_for(job):
    done, calls = job("preempt.sbatch", "heat.py", ENDS="1", STANDS="1", NODES_LOST="1")
    assert "has lost a node and waits" in done.stdout
    assert calls.count("sleep 5\n") == 180
    assert done.returncode == 1


def test_an_array_goes_over_seeds_or_over_the_lines_of_a_file(job, tmp_path):
    task = {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2"}
    _, calls = job("array.sbatch", "heat.py", "--max-steps", "5", **task)
    assert f"train heat.py --max-steps 5 --seed 2 --resume --run-dir {tmp_path}/runs/heat-job40_2\n" in calls
    (tmp_path / "sweep.txt").write_text("heat.py --seed 1\nburgers.py --optimizer.rank 9\n")
    _, calls = job("array.sbatch", "sweep.txt", "--max-steps", "5", **task)
    assert "train burgers.py --optimizer.rank 9 --max-steps 5 --resume --run-dir" in calls
    assert f"{tmp_path}/runs/burgers-job40_2\n" in calls
    done, _ = job("array.sbatch", "sweep.txt", **(task | {"SLURM_ARRAY_TASK_ID": "3"}))
    assert "sweep.txt has no line 3" in done.stderr
    assert f"{tmp_path}/out/2\n" in job("array.sbatch", "heat.py", RUN_DIR="out", **task)[1]
    assert "is not set" in job("array.sbatch", "heat.py")[0].stderr
