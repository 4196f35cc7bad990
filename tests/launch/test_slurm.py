"""On a real Slurm of two nodes: the losses of one process, the same parameters whatever interrupts a job."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sngd.checkpoint import Checkpoint
from sngd.cli import main
from tests.histories import losses, steps
from tests.launch.cluster import Cluster, obstacle
from tests.launch.processes import until

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[2]
STEPS = 20
# The conditions contradict each other, so that the loss stays well above rounding. The first start of a job
# sleeps where it is told to, about ten times a step, so that what interrupts it comes in time.
CONFIG = f"""
import math, os, time
import torch
from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d

PAUSE = float(os.environ.get("PAUSE", "0")) if os.environ.get("SLURM_RESTART_COUNT", "0") == "0" else 0.0
domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes

def target(p):
    return torch.exp(-p[T]) * torch.sin(math.pi * p[X])

def equation(u, p):
    time.sleep(PAUSE)
    return d(u, T) - d(u, X, X) / math.pi**2

conditions = [
    Condition("equation", equation, domain.interior, points=120),
    Condition("start", lambda u, p: u - 1.2 * target(p) - 0.1 * p[X], domain.face(t=0), points=20),
    Condition("walls", lambda u, p: u - target(p), domain.boundary("x"), points=40),
]
run = RunConfig(
    Problem(domain, conditions, name="rod"),
    MLP(hidden=(10, 10)),
    SNGD(rank=24),
    max_steps={STEPS},
    checkpoint_seconds=0.5,
    device="cpu",
    pictures=False,
)
"""
ENVIRONMENT = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "RANKS_PER_NODE": "1"}
PREEMPTIBLE = ("--partition=preempt", "--nodes=2")


@pytest.fixture(scope="module")
def slurm():
    if why := obstacle():
        pytest.skip(why)
    with Cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG)
    return path


class Job:
    """A batch script of slurm/ at work on the config, submitted from the checkout."""

    def __init__(self, slurm, script, config, folder, *flags, options=("--nodes=2",), **variables):
        self.slurm, self.folder = slurm, folder
        self.output = folder.with_suffix(".out")
        given = ENVIRONMENT | {"RUN_DIR": str(folder)} | variables
        script = ROOT / "slurm" / script
        options = (*options, f"--output={self.output}")
        self.number = slurm.submit(script, str(config), *flags, "--quiet", options=options, cwd=ROOT, **given)

    def until_step(self, step):
        """Wait until so many steps are taken."""
        history = self.folder / "history.jsonl"
        try:
            until(lambda: history.exists() and history.read_text().count("\n") >= step, 60, f"step {step}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; the job says: {self.said()}") from None

    def ends(self, seconds=90):
        """What Slurm says of the job at its end."""
        try:
            return self.slurm.wait(self.number, seconds)
        except TimeoutError as error:
            raise AssertionError(f"{error}; the job says: {self.said()}") from None

    def said(self):
        return self.output.read_text() if self.output.exists() else ""

    def succeeds(self, restarts):
        shown = self.ends()
        assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", str(restarts)), self.said()
        return self


@pytest.fixture(scope="module")
def undisturbed(slurm, config, tmp_path_factory):
    """A run on both nodes that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    Job(slurm, "train.sbatch", config, folder).succeeds(restarts=0)
    return folder


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """A run of `sngd train` in this process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert main(["train", str(config), "--run-dir", str(folder), "--quiet"]) == 0
    return folder


def same(folder, undisturbed):
    """Whether a run has taken all steps once and ended with the very parameters."""
    assert steps(folder) == list(range(1, STEPS + 1))
    assert losses(folder) == losses(undisturbed)
    return torch.equal(Checkpoint.load(folder).theta, Checkpoint.load(undisturbed).theta)


# ---------------------------------------------------------------------------------------------
# What is not disturbed
# ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(slurm, config, tmp_path_factory):
    """A job whose time limit of a minute is too short for its first start; it runs beside the first tests."""
    folder = tmp_path_factory.mktemp("limited") / "run"
    options = ("--nodes=1", "--time=1", "--signal=CONT@1")  # nothing that tells the ranks to stop
    return Job(slurm, "preempt.sbatch", config, folder, options=options, PAUSE="0.3")


def test_a_batch_job_on_two_nodes_takes_the_steps_of_one_process(limited, undisturbed, alone):
    assert losses(undisturbed) == pytest.approx(losses(alone), rel=1e-10)
    assert json.loads((undisturbed / "result.json").read_text())["world_size"] == 2


def test_srun_without_torchrun_takes_the_steps_of_one_process(slurm, config, alone, tmp_path):
    folder = tmp_path / "run"
    train = [
        sys.executable,
        str(ROOT / "launch" / "train.py"),
        str(config),
        "--run-dir",
        str(folder),
        "--quiet",
    ]
    slurm.call("srun", "--nodes=2", "--ntasks=2", *train, cwd=ROOT, **ENVIRONMENT)
    assert losses(folder) == pytest.approx(losses(alone), rel=1e-10)
    assert json.loads((folder / "result.json").read_text())["world_size"] == 2


def test_submit_hands_over_an_array_that_trains_one_run_for_each_seed(slurm, config, tmp_path):
    job = ["submit", str(config), "--array", "3-4", "--time", "5m", "--ranks-per-node", "1"]
    flags = ["--max-steps", "3", "--run-dir", "runs"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "sngd.cli", *job, *flags],
        cwd=tmp_path,
        env=slurm.environment | ENVIRONMENT | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    number = done.stdout.split()[2].rstrip(":")
    assert done.stdout.endswith(f"output in small-{number}_TASK.out, results in runs/TASK\n")
    for seed in (3, 4):
        output = tmp_path / f"small-{number}_{seed}.out"
        assert slurm.wait(f"{number}_{seed}")["JobState"] == "COMPLETED", output.read_text()
        result = json.loads((tmp_path / "runs" / str(seed) / "result.json").read_text())
        assert (result["seed"], result["steps"]) == (seed, 3)


def test_a_run_in_an_allocation_of_its_own(slurm, config, alone, tmp_path):
    folder = tmp_path / "run"
    run = [str(config), "--max-steps", "3", "--quiet", "--run-dir", str(folder)]
    slurm.call(str(ROOT / "slurm" / "interactive.sh"), "--nodes=1", "--", *run, cwd=ROOT, **ENVIRONMENT)
    assert losses(folder) == losses(alone)[:3]


def test_a_run_stops_ahead_of_its_time_limit_and_goes_on(limited, alone):
    limited.succeeds(restarts=1)
    assert "time_limit" in limited.said()
    assert losses(limited.folder) == losses(alone)


# ---------------------------------------------------------------------------------------------
# What is
# ---------------------------------------------------------------------------------------------


def test_a_signal_puts_the_job_back_and_it_ends_with_the_same_parameters(
    slurm, config, undisturbed, tmp_path
):
    job = Job(slurm, "preempt.sbatch", config, tmp_path / "run", PAUSE="0.05")
    job.until_step(5)
    slurm.cancel(job.number, "--signal=USR1")
    job.succeeds(restarts=1)
    assert same(job.folder, undisturbed)


def test_preemption_puts_the_job_back_and_it_ends_with_the_same_parameters(
    slurm, config, undisturbed, tmp_path
):
    flags = ("--tracking.wandb", "offline")
    job = Job(slurm, "preempt.sbatch", config, tmp_path / "run", *flags, options=PREEMPTIBLE, PAUSE="0.05")
    job.until_step(5)
    urgent = tmp_path / "urgent.sh"
    urgent.write_text("#!/bin/sh\ntrue\n")
    options = ("--partition=main", "--nodes=2", "--exclusive", f"--output={tmp_path}/urgent.out")
    first = slurm.submit(urgent, options=options)
    job.succeeds(restarts=1)
    assert slurm.show(first)["JobState"] == "COMPLETED"
    assert same(job.folder, undisturbed)
    tracked = [path.stem.removeprefix("run-") for path in job.folder.glob("wandb/offline-run-*/*.wandb")]
    assert len(tracked) == 2
    assert len(set(tracked)) == 1, "both starts are one run of Weights & Biases"


def test_a_lost_node_puts_the_job_back_and_it_ends_with_the_same_parameters(
    slurm, config, undisturbed, tmp_path
):
    job = Job(slurm, "train.sbatch", config, tmp_path / "run", PAUSE="0.05")
    job.until_step(5)
    slurm.kill_node(1)
    until(lambda: slurm.states()[1].startswith("down"), 60, "the node is seen to be down")
    slurm.start_node(1)
    job.succeeds(restarts=1)
    assert same(job.folder, undisturbed)


def test_what_a_killed_slurmd_leaves_behind_does_not_disturb_the_job_that_goes_on(
    slurm, config, alone, tmp_path
):
    job = Job(slurm, "preempt.sbatch", config, tmp_path / "run", options=("--nodes=1",), PAUSE="0.3")
    job.until_step(3)
    node = slurm.nodes.index(slurm.show(job.number)["NodeList"])
    slurm.kill_node(node, processes=False)
    until(lambda: slurm.show(job.number)["Restarts"] == "1", 60, "Slurm gives the node up for lost")
    slurm.wait(job.number, 30, ("RUNNING",))
    assert slurm.processes(node, "sngd.cli"), "the first start is still at work"
    job.succeeds(restarts=1)
    until(lambda: not slurm.processes(node, "sngd.cli"), 30, "it ends by itself")
    assert losses(job.folder) == losses(alone)
    assert torch.equal(Checkpoint.load(job.folder).theta, Checkpoint.load(alone).theta)
    slurm.start_node(node)
    until(lambda: slurm.states()[node] == "idle", 30, "the node is back")


@pytest.mark.parametrize("script", ["train.sbatch", "srun"])
def test_a_killed_rank_ends_the_job_and_is_named(slurm, config, tmp_path, script):
    folder = tmp_path / "run"
    if script == "srun":
        script = tmp_path / "plain.sbatch"
        script.write_text(
            '#!/bin/bash\nsrun --kill-on-bad-exit "$PYTHON" launch/train.py "$@" --run-dir $RUN_DIR\n'
        )
    job = Job(slurm, script, config, folder, PAUSE="0.05")
    job.until_step(2)
    os.kill(slurm.processes(1, "train")[-1], 9)
    killed = time.monotonic()
    shown = job.ends(seconds=30)
    assert time.monotonic() - killed < 15
    assert shown["JobState"] == "FAILED"
    assert "error: rank 1 on" in job.said(), "by the rank that is left"
    assert "SIGKILL" in job.said() or "task 1: Killed" in job.said(), "by the launcher"


def test_two_nodes_behind_a_limited_link_take_the_steps_of_one_process(config, alone, tmp_path):
    if why := obstacle(netns=True):
        pytest.skip(why)
    with Cluster(nodes=2, netns=True, rate=1e8) as slurm:
        only = {"GLOO_SOCKET_IFNAME": "eth0", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        job = Job(slurm, "train.sbatch", config, tmp_path / "run", **only)
        job.succeeds(restarts=0)
    assert losses(job.folder) == pytest.approx(losses(alone), rel=1e-10)
