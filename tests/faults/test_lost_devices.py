"""A device or the network fails under one of two ranks: one line tells it and what is left to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sngd.exit_codes import DEVICE, LOST_RANK
from sngd.launcher import unlaunched

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[2]

# A run whose rank 1 meets what the environment says in its ninth step, if it says anything.
CONFIG = """
import glob, os, socket, time

import torch

from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d
from sngd.loop import Loop

domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes
original = Loop.step


def cut():
    "Every connection but that to the rendezvous is gone."
    for entry in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(entry))) as link:
                if link.getpeername()[1] != int(os.environ["MASTER_PORT"]):
                    link.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


def step(self, number):
    if number == 9 and os.environ.get("RANK") == "1":
        while not glob.glob("run/checkpoints/step-*/SHA256SUMS"):
            time.sleep(0.05)
        if os.environ.get("HOW") == "device":
            raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\\nFor debugging …")
        if os.environ.get("HOW") == "network":
            cut()
    return original(self, number)


Loop.step = step
equation = Condition("equation", lambda u, p: d(u, T) - d(u, X, X) - p[X], domain.interior, 60)
run = RunConfig(Problem(domain, [equation]), MLP((8, 8)), SNGD(rank=12), max_steps=12, device="cpu",
                timeout_seconds=20.0, checkpoint_seconds=1e-9)
"""


def train(folder: Path, how: str) -> tuple[int, str]:
    variables = {"OMP_NUM_THREADS": "1", "HOW": how, "PYTHONPATH": str(ROOT), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    given = ["train", "small.py", "--run-dir", "run", "--ranks", "2", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "sngd.cli", *given],
        env=unlaunched(os.environ) | variables,
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stderr


WAY_ON = r"; the last whole checkpoint in run is of step \d: `sngd resume run` goes on from it"
TOLD = {
    "device": (
        DEVICE,
        r"error: rank 1 on \S+: device cpu has failed: CUDA error: uncorrectable ECC .*",
    ),
    "network": (
        LOST_RANK,
        r"error: all ranks answer, but a collective failed; rank 0 on \S+ noticed .*",
    ),
}


@pytest.mark.parametrize("how", TOLD)
def test_what_fails_under_one_rank_is_told_in_one_line_with_the_way_on(tmp_path: Path, how: str) -> None:
    (tmp_path / "small.py").write_text(CONFIG)
    code, said = train(tmp_path, how)
    expected, words = TOLD[how]
    assert code == expected, said
    lines = [line for line in said.splitlines() if "the other ranks were stopped" not in line]
    assert len(lines) == 1, said
    assert re.fullmatch(words + WAY_ON, lines[0]), said
