"""The command sngd plan, and what a run says of its plan."""

import json
from pathlib import Path

import pytest
import torch

from sngd import MLP
from sngd.cli import main

SMALL = """
from sngd import MLP, SNGD, RunConfig
from sngd.problems import heat

run = RunConfig(heat(60, 10, 20), MLP(hidden=(8, 8)), SNGD(rank=12), max_steps=2, device="cpu")
"""


# ---------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_the_command_runs_nothing(capsys):
    Path("small.py").write_text(SMALL)
    arguments = ["--ranks", "64", "--memory", "80GB", "--device", "cuda", "--network.hidden", "100", "100"]
    assert main(["plan", "small.py", *arguments]) == 0
    text = capsys.readouterr().out
    assert "64 ranks on cuda, 80 GB each" in text
    assert "P=10,501" in text
    assert [path.name for path in Path().iterdir() if path.name != "__pycache__"] == ["small.py"]


def test_the_network_is_initialised_once(monkeypatch, capsys):
    Path("small.py").write_text(SMALL)
    built, original = [], MLP.build
    monkeypatch.setattr(MLP, "build", lambda self, *given: built.append(1) or original(self, *given))
    assert main(["plan", "small.py", "--rank", "500", "--memory", "3MB"]) == 0
    assert len(built) == 1


def test_a_rank_is_replaced_by_a_flag(capsys):
    Path("small.py").write_text(SMALL)
    assert main(["plan", "small.py", "--rank", "7", "--memory", "1"]) == 0
    assert "k = 7, the first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--memory", "80XB"], "--memory=80XB must be"),
        (["--memory", "20kB"], "memory budget of 20,000 bytes"),
        (["--memory", "1.2MB", "--optimizer.rank", "80"], "does not fit into 1.2 MB a rank"),
        (["--ranks", "many"], "--ranks=many must be a whole number"),
        (["--ranks", "0"], "--ranks=0 must be a whole number"),
        (["--rank", "1.5"], "--rank=1.5 must be a whole number"),
    ],
)
def test_what_does_not_fit_or_is_no_number_is_refused(flags, said, capsys):
    Path("small.py").write_text(SMALL)
    assert main(["plan", "small.py", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error


def test_a_device_that_is_not_here_needs_its_memory_told(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("small.py").write_text(SMALL)
    assert main(["plan", "small.py", "--device", "cuda"]) == 2
    assert "--memory is missing" in capsys.readouterr().err
    assert main(["plan", "small.py", "--device", "cuda", "--memory-gb", "3"]) == 0


def test_a_run_says_its_plan_before_the_first_step_and_keeps_it(capsys):
    Path("small.py").write_text(SMALL)
    assert main(["train", "small.py", "--run-dir", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kept = json.loads(Path("run/config.json").read_text())["plan"]
    assert kept[0].startswith("memory: ")
    assert lines.index(kept[0]) + len(kept) == next(
        number for number, line in enumerate(lines) if line.startswith("step 1 ")
    )
