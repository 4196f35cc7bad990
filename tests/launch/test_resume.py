"""Runs that are told to end, or lose a rank, and go on: the same parameters as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sngd.checkpoint import Checkpoint
from sngd.exit_codes import RESUME, SUPERSEDED
from sngd.launcher import unlaunched
from tests.histories import steps

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "heat.py")
STEPS = 60


def flags_of(steps: int) -> list[str]:
    """Of a small run that ends after so many steps."""
    return [
        *("--device", "cpu", "--network.hidden", "8", "8", "--optimizer.rank", "16", "--memory-gb", "1"),
        *("--optimizer.max-rank", "16", "--max-steps", str(steps), "--max-seconds", "100"),
        *("--target-error", "1e-300", "--evaluate-points", "100", "--no-pictures", "--quiet"),
    ]


SNGD = [sys.executable, "-m", "sngd.cli"]
TRAIN = [*SNGD, "train", CONFIG, *flags_of(STEPS)]


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return unlaunched(os.environ) | {"OMP_NUM_THREADS": "1", "PATH": path}


def run(command, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=120, check=False, **options
    )


def wait_for_step(folder: Path, number: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while (steps(folder) or [0])[-1] < number:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def theta(folder: Path) -> torch.Tensor:
    return Checkpoint.load(folder).theta


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """θ after all steps on one rank and on two."""
    folder = tmp_path_factory.mktemp("undisturbed")
    thetas = {}
    for ranks in (1, 2):
        done = run([*TRAIN, "--ranks", str(ranks), "--run-dir", str(folder / str(ranks))])
        assert done.returncode == 0, done.stderr
        thetas[ranks] = theta(folder / str(ranks))
    return thetas


@pytest.mark.parametrize(("ranks", "number"), [(1, signal.SIGUSR1), (2, signal.SIGTERM)])
def test_a_signal_ends_a_run_with_a_checkpoint_and_a_code(tmp_path, undisturbed, ranks, number):
    folder = tmp_path / "run"
    command = [*TRAIN, "--ranks", str(ranks), "--run-dir", str(folder)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        wait_for_step(folder, 5, process)
        process.send_signal(number)  # to the process that was started, which passes it on
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (RESUME, "")
    assert json.loads((folder / "result.json").read_text())["stop_reason"] == "terminated"
    assert Checkpoint.load(folder).step == steps(folder)[-1] < STEPS
    if ranks == 1:
        assert run([*SNGD, "status", str(folder)]).returncode == RESUME
    done = run([*SNGD, "resume", str(folder), "--ranks", str(ranks), "--quiet"])
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(folder) == list(range(1, STEPS + 1))
    assert torch.equal(theta(folder), undisturbed[ranks])
    if ranks == 1:
        assert run([*SNGD, "status", str(folder)]).returncode == 0
        again = run([*SNGD, "resume", str(folder)])
        assert again.returncode == 0
        assert f"is finished: max_steps after {STEPS} steps" in again.stdout


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path, undisturbed):
    folder = tmp_path / "run"
    command = [*TRAIN, "--run-dir", str(folder), "--checkpoint-seconds", "0.05"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        wait_for_step(folder, 30, process)
        process.kill()
    assert 1 < Checkpoint.load(folder).step <= steps(folder)[-1] < STEPS
    assert run([*SNGD, "status", str(folder)]).returncode == 1
    done = run([*SNGD, "resume", str(folder), "--quiet"])
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(folder) == list(range(1, STEPS + 1))
    assert torch.equal(theta(folder), undisturbed[1])


def test_a_start_that_was_given_up_for_lost_leaves_the_folder_alone(tmp_path, undisturbed):
    folder = tmp_path / "run"
    command = [*TRAIN, "--run-dir", str(folder), "--checkpoint-seconds", "0.05"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as lost:
        wait_for_step(folder, 20, lost)
        lost.send_signal(signal.SIGSTOP)  # its machine is out of sight for a while
        done = run([*SNGD, "resume", str(folder), "--quiet"])
        assert (done.returncode, done.stderr) == (0, "")
        left = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        lost.send_signal(signal.SIGCONT)
        _, said = lost.communicate(timeout=30)
    assert lost.returncode == SUPERSEDED
    assert "error: another start of this run has taken over its folder" in said
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == left
    assert torch.equal(theta(folder), undisturbed[1])


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("torchrun.sh", signal.SIGUSR1),
        ("torchrun.sh", signal.SIGKILL),
        ("deepspeed.sh", signal.SIGTERM),
        ("mpirun.sh", signal.SIGUSR1),
    ],
)
def test_a_signal_to_a_launcher_ends_its_ranks_with_a_checkpoint(tmp_path, script, number):
    folder = tmp_path / "run"
    endless = flags_of(1_000_000)
    command = [str(ROOT / "launch" / script), CONFIG, *endless, "--run-dir", str(folder)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**environment(), "RANKS": "2"}, **quiet) as launcher:
        wait_for_step(folder, 5, launcher)
        launcher.send_signal(number)
        launcher.wait(timeout=30)
    deadline = time.monotonic() + 15
    while not (folder / "result.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert json.loads((folder / "result.json").read_text())["stop_reason"] == "terminated"
    assert Checkpoint.load(folder).step == steps(folder)[-1]


def test_torchrun_starts_lost_ranks_again_and_they_go_on(tmp_path, undisturbed):
    """The rank that is killed is the one that holds the folder."""
    folder = tmp_path / "run"
    command = [str(ROOT / "launch" / "torchrun.sh"), CONFIG, *flags_of(STEPS), "--run-dir", str(folder)]
    settings = {**environment(), "RANKS": "2", "MAX_RESTARTS": "3"}
    with subprocess.Popen(
        [*command, "--checkpoint-seconds", "0.05"], env=settings, stderr=subprocess.PIPE, text=True
    ) as agent:
        wait_for_step(folder, 20, agent)
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        _, said = agent.communicate(timeout=100)
    assert agent.returncode == 0, said
    assert json.loads((folder / "owner.json").read_text())["restart"] == 1
    assert steps(folder) == list(range(1, STEPS + 1))
    assert torch.equal(theta(folder), undisturbed[2])
