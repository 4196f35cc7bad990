"""`sngd init` writes a config that trains, and overwrites nothing."""

import dataclasses

import pytest
import torch

from sngd.cli import main
from sngd.collectives import LocalRanks
from sngd.config_files import load_source
from sngd.exit_codes import USER_ERROR
from sngd.training import train


def test_the_file_trains_as_it_is(tmp_path, capsys):
    path = tmp_path / "mypde.py"
    assert main(["init", str(path)]) == 0
    assert f"sngd train {path}" in capsys.readouterr().out
    run, text = load_source(path)
    assert f"sngd plan {path} " in text
    short = dataclasses.replace(run, max_steps=12, evaluate_points=200, device="cpu")
    result = train(short, LocalRanks(), torch.device("cpu")).result
    assert result["relative_l2"] < 1e-2


def test_a_name_with_blanks_is_quoted_where_a_shell_reads_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "my pde.py"]) == 0
    assert capsys.readouterr().out.endswith("\nsngd train 'my pde.py'\n")
    assert "sngd train 'my pde.py' " in (tmp_path / "my pde.py").read_text()


def test_nothing_is_overwritten(tmp_path, capsys):
    path = tmp_path / "mypde.py"
    path.write_text("mine")
    assert main(["init", str(path)]) == USER_ERROR
    assert path.read_text() == "mine"
    assert f"FILE={str(path)!r} exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mypde.txt", "must end in .py"),
        ("nowhere/mypde.py", "No such file"),
        ("a\0.py", "null byte"),
        ('a"""b.py', "without quotes"),
        ("a\\b.py", "without quotes"),
        ("torch.py", "in place of torch"),
        ("json.py", "in place of json"),
    ],
)
def test_a_file_that_cannot_be_is_told_in_one_line(tmp_path, capsys, name, said):
    assert main(["init", f"{tmp_path}/{name}"]) == USER_ERROR
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())
