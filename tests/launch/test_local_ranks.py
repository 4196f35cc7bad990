"""Ranks that `sngd train --ranks` starts: one that dies takes the run down, an interrupt ends them all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sngd.launcher import unlaunched
from tests.histories import losses

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[2]
FLAGS = ["--device", "cpu", "--network.hidden", "12", "12", "--optimizer.rank", "24", "--quiet"]
CONFIG = str(ROOT / "configs" / "heat.py")


def environment() -> dict[str, str]:
    return unlaunched(os.environ) | {"OMP_NUM_THREADS": "1"}


def ranks_of(parent: int) -> list[int]:
    """Processes of the ranks that a parent has started, in order."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run_and_is_named(tmp_path, victim):
    history = tmp_path / "run" / "history.jsonl"
    command = [
        sys.executable,
        "-m",
        "sngd.cli",
        "train",
        CONFIG,
        "--ranks",
        "2",
        "--run-dir",
        str(history.parent),
    ]
    endless = ["--max-steps", "1000000", "--max-seconds", "300", "--target-error", "1e-300"]
    with subprocess.Popen(
        [*command, *FLAGS, *endless], env=environment(), stderr=subprocess.PIPE, text=True
    ) as parent:
        deadline = time.monotonic() + 60
        while not history.exists() or not history.read_text():
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(ranks_of(parent.pid)[victim], signal.SIGKILL)
        killed = time.monotonic()
        _, said = parent.communicate(timeout=30)
        assert time.monotonic() - killed < 15
    assert parent.returncode == 128 + signal.SIGKILL
    assert f"error: rank {victim} ended with signal 9" in said
    assert losses(history.parent)


def test_an_interrupt_ends_all_ranks_after_their_step(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "sngd.cli", "train", CONFIG, "--ranks", "2", "--run-dir", str(folder)]
    endless = ["--max-steps", "1000000", "--max-seconds", "300", "--target-error", "1e-300"]
    with subprocess.Popen(
        [*command, *FLAGS, *endless],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C goes to the whole group, as a terminal sends it
    ) as parent:
        deadline = time.monotonic() + 60
        history = folder / "history.jsonl"
        while not history.exists() or not history.read_text():
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=30)
    assert parent.returncode == 130
    assert said == ""
    result = json.loads((folder / "result.json").read_text())
    assert result["stop_reason"] == "interrupted"
    assert result["steps"] == len(losses(folder))
    assert (folder / "solution.png").is_file()
