"""Flags that are given twice, abbreviated, or stand where CONFIG should."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sngd.flags import Parser, refuse_repeated
from tests.fuzz.commands import TINY
from tests.fuzz.judging import command


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("tiny.py").write_text(TINY)


@pytest.mark.parametrize(
    "flags",
    [
        ["--seed", "1", "--seed", "2"],
        ["--seed=1", "--seed", "1"],
        ["--max-steps", "1", "--max_steps", "2"],
        ["--balance", "--no-balance"],
        ["--optimizer.recycle", "--optimizer.no-recycle"],
        ["--optimizer", "adam", "--optimizer=sngd"],
    ],
)
def test_a_flag_that_is_given_twice_is_refused(flags):
    code, said = command(["plan", "tiny.py", *flags])
    assert code == 2
    assert said.startswith("error: --")
    assert "is given twice" in said


def test_the_batch_scripts_may_add_the_folder():
    refuse_repeated(["--run-dir", "a", "--run_dir", "b", "--seed", "1"])
    refuse_repeated(["--seed", "1", "--", "--seed", "2"])


def test_own_options_are_counted_whatever_their_spelling():
    parser = Parser(prog="sngd eval")
    parser.add_argument("-o", "--output")
    parser.add_argument("--points", type=int)
    assert parser.parse_args(["-o", "a", "--points", "3"]).points == 3
    for words, told in (
        (["-o", "a", "--output", "b"], "--output is given twice"),
        (["--poi", "3"], "unrecognized arguments"),
        (["--points", "x"], "argument --points: invalid int value: 'x'"),
    ):
        with pytest.raises(ValueError, match=told):
            parser.parse_args(words)


def test_a_flag_before_config_is_not_taken_for_it():
    Path("other.py").write_text(TINY)
    code, said = command(["train", "--tracking.notes", "other.py", "tiny.py"])
    assert (code, said) == (
        2,
        "error: --tracking.notes must come after CONFIG, which 'other.py' is taken for\n",
    )
    assert command(["plan", "--ranks", "2", "tiny.py"])[0] == 0


def test_what_a_run_began_with_may_be_replaced_when_it_is_repeated():
    assert command(["train", "tiny.py", "--seed", "1", "--quiet", "--run-dir", "one"])[0] == 0
    assert command(["train", "one/config.json", "--seed", "2", "--quiet", "--run-dir", "two"])[0] == 0
    assert json.loads(Path("two/config.json").read_text())["fields"]["seed"] == 2
    code, said = command(["resume", "one", "--run-dir", "two"])
    assert (code, said.count("\n")) == (2, 1)
    assert "--run-dir is given, but sngd resume goes on in 'one'" in said


@pytest.mark.parametrize("word", ["²", "9" * 5000, "1.5", "-1", ""])
def test_numbers_of_ranks_that_are_none_are_named(word):
    code, said = command(["train", "tiny.py", f"--ranks={word}"])
    assert code == 2
    assert said.startswith(f"error: --ranks={word[:99]}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"raise KeyboardInterrupt", "interrupted"),
        (b"class E(BaseException): pass\nraise E('two\\nlines')", "made.py:2: E: two lines"),
        (b"# \xfc\nrun = 3", "must be text in UTF-8"),
        (b"# -*- coding: latin-1 -*-\n# \xfc\nrun = 3", "must be text in UTF-8"),
        (b"import sys; sys.path.clear()", "does not define a run"),
        (b"import torch; torch.empty(10**15)", "made.py:1: RuntimeError: "),
    ],
)
def test_config_files_that_end_in_odd_ways(content, told):
    Path("made.py").write_bytes(content)
    code, said = command(["plan", "made.py"])
    assert code == (130 if told == "interrupted" else 2)
    assert told in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("width", [2**40, 2**62])
def test_networks_that_no_memory_holds_are_told_as_such(width):
    code, said = command(["plan", "tiny.py", "--network.hidden", str(width)])
    assert code == 2
    assert said.startswith("error: not enough memory")


@pytest.fixture
def run():
    """A finished run folder."""
    assert command(["train", "tiny.py", "--quiet", "--run-dir", "run"])[0] == 0
    return Path("run")


BAD_SOURCES = [{"flags": "--seed"}, {"text": 3}, {"text": "'\ud800'"}, {"path": ""}, {"path": "a\0.py"}]


def test_a_damaged_run_folder_is_told_in_one_line(run):
    good = {name: (run / name).read_bytes() for name in ("config.json", "history.jsonl", "spectra.npz")}
    source = json.loads(good["config.json"])["source"]
    np.save("plain.npy", np.ones(3))
    cases = [
        ("spectra.npz", Path("plain.npy").read_bytes(), ["plot", "run"]),
        ("history.jsonl", b'{"step": [1]}', ["plot", "run"]),
        ("history.jsonl", b'{"losses": 3}', ["plot", "run"]),
        ("config.json", b"[" * 100_000, ["eval", "run"]),
        *[
            ("config.json", json.dumps({"source": source | part}).encode(), ["eval", "run"])
            for part in (
                {"flags": "--seed"},
                {"text": 3},
                {"text": "x = '\ud800'"},
                {"path": ""},
                {"path": "a\0.py"},
            )
        ],
    ]
    for name, content, arguments in cases:
        (run / name).write_bytes(content)
        code, said = command(arguments)
        assert code == 2, (name, content[:40])
        assert len(said.splitlines()) == 1, said
        (run / name).write_bytes(good[name])


def test_a_result_of_odd_values_does_not_stop_status(run):
    (run / "result.json").write_text(json.dumps({"stop_reason": "max_steps", "steps": 1, "loss": 10**400}))
    assert command(["status", "run"]) == (0, "")


@pytest.mark.parametrize("content", ["x,t,x\n0.1,0.2,0.3\n", "x,t\n", "", "\ufeffx,t\n0.1,x\n"])
def test_points_that_cannot_be_told_are_refused(run, content):
    Path("points.csv").write_text(content)
    code, said = command(["export", "run", "--points", "points.csv"])
    assert code == 2
    assert len(said.splitlines()) == 1


FIVE = """
from sngd import MLP, SNGD, Box, Condition, Conserved, Problem, RunConfig

domain = Box(a=(0, 1), b=(0, 1), c=(0, 1), d=(0, 1), e=(0, 1), t=(0, 1))
conditions = [Condition("a", lambda u, p: u, domain.interior, 4)]
problem = Problem(domain, conditions, conserved=[Conserved("mass", lambda u, p: u)])
run = RunConfig(problem, MLP((2,)), SNGD(rank=2), max_steps=1, device="cpu")
"""


def test_integrals_over_too_many_axes_are_left_out_with_a_word():
    Path("five.py").write_text(FIVE)
    assert command(["train", "five.py", "--quiet", "--run-dir", "five"])[0] == 0
    code, said = command(["eval", "five", "--points", "20"])
    assert code == 0
    assert said.startswith("note: conserved quantities are left out: ")
