"""Ranks that `sngd train --ranks` starts: an interrupt ends them all after their step."""

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
