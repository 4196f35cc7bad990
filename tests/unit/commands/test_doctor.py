"""`sngd doctor` says what is there, what is not, and what fails, with what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sngd.cli import main
from sngd.commands import doctor
from sngd.commands.doctor import findings


def named(what):
    return next(finding for finding in findings(trial=False) if finding.what == what)


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The only folder that programs are looked for in."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor.sys, "executable", str(tmp_path / "python"))
    return tmp_path


def test_everything_is_looked_at_once_and_told(capsys):
    assert main(["doctor", "--no-trial"]) in (0, 1)
    said = capsys.readouterr().out
    for what in ("torch", "processor", "GPUs", "run folder", "MPI", "DeepSpeed", "W&B", "Slurm"):
        assert said.count(f" {what} ") >= 1
    assert torch.__version__ in said


def test_a_trial_trains():
    finding = doctor._trial("two ranks", ["--ranks", "2"])
    assert finding.state == "fine", finding


def test_a_trial_that_fails_is_told_by_its_last_line(monkeypatch):
    done = subprocess.CompletedProcess([], 2, "", "first\nerror: no memory\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: done)
    finding = doctor._trial("one rank", [])
    assert (finding.state, finding.found) == ("wrong", "error: no memory")


def test_an_old_torch_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    assert named("torch").state == "wrong"
    assert main(["doctor", "--no-trial"]) == 1
    assert "pip install 'torch>=2.6'" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_to_is_wrong(monkeypatch):
    def full(**_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", full)
    finding = named("run folder")
    assert finding.state == "wrong"
    assert "No space left on device" in finding.found


def test_programs_that_are_absent_broken_or_fine(programs):
    assert (named("MPI").state, named("MPI").found) == ("absent", "no mpirun")
    program(programs, "mpirun", "echo 'mpirun (Open MPI) 5.0.8'")
    assert (named("MPI").state, named("MPI").found) == ("fine", "mpirun (Open MPI) 5.0.8")
    program(
        programs, "sinfo", "[ $1 = --version ] && echo slurm 23.11 && exit; echo 'no controller' >&2; exit 1"
    )
    assert named("Slurm").state == "absent"
    assert named("Slurm").found.endswith("sinfo does not work: no controller")


def test_the_key_is_found_and_not_told(monkeypatch, tmp_path, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert named("W&B").state == "absent"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0123456789abcdef")
    (tmp_path / ".netrc").chmod(0o600)
    assert named("W&B").found.endswith("key in ~/.netrc")
    monkeypatch.setenv("WANDB_API_KEY", "fedcba9876543210")
    assert named("W&B").found.endswith("key in WANDB_API_KEY")
    main(["doctor", "--no-trial"])
    said = capsys.readouterr()
    assert "fedcba9876543210" not in said.out + said.err


def test_the_table_is_read_from_a_pipe():
    done = subprocess.run(
        [sys.executable, "-m", "sngd.cli", "doctor", "--no-trial"], capture_output=True, text=True
    )
    assert done.returncode in (0, 1)
    assert all(len(line) <= 140 for line in done.stdout.splitlines())
