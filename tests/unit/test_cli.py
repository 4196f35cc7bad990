"""The command line: what a run leaves behind, and what a mistake gets."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest
import torch

from sngd.checkpoint import Checkpoint, Store
from sngd.cli import main
from tests.histories import losses

SMALL = """
from sngd import MLP, SNGD, RunConfig
from sngd.problems import heat

run = RunConfig(heat(60, 10, 20), MLP(hidden=(8, 8)), SNGD(rank=12), max_steps=4, device="cpu")
"""
PROBLEM = """
import torch
from sngd import Box, Condition, Problem, RunConfig, d

domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def call(*arguments: str) -> int:
    """Exit code of a command in this process, however it ends."""
    try:
        return main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)


def test_a_run_folder_holds_everything(tmp_path):
    Path("small.py").write_text(SMALL)
    assert call("train", "small.py", "--run-dir", "run", "--quiet", "--seed", "2") == 0
    result = json.loads(Path("run/result.json").read_text())
    assert result["steps"] == len(losses("run")) == 4
    assert result["seed"] == 2
    config = json.loads(Path("run/config.json").read_text())
    assert config["source"]["text"] == SMALL
    assert config["fields"]["seed"] == 2
    (kept,) = Path("run/checkpoints").iterdir()
    assert kept.name == "step-000000004"
    for picture in ("solution", "convergence", "spectrum"):
        pixels = matplotlib.image.imread(f"run/{picture}.png")
        assert pixels.std() > 0.01


def test_a_run_repeats_from_its_own_config(capsys):
    Path("small.py").write_text(SMALL)
    assert call("train", "small.py", "--run-dir", "one", "--quiet", "--seed", "5") == 0
    Path("small.py").unlink()
    assert call("train", "one/config.json", "--run-dir", "two", "--quiet") == 0
    assert losses("one") == losses("two")


def test_eval_and_plot_read_a_run(capsys):
    Path("small.py").write_text(SMALL)
    call("train", "small.py", "--run-dir", "run", "--quiet")
    Path("run/solution.png").unlink()
    assert call("plot", "run") == 0
    assert Path("run/solution.png").is_file()
    capsys.readouterr()
    assert call("eval", "run", "--points", "10000") == 0
    errors = json.loads(capsys.readouterr().out)
    assert errors["relative_l2"] == json.loads(Path("run/result.json").read_text())["relative_l2"]


def test_two_local_ranks_give_the_losses_of_one():
    Path("small.py").write_text(SMALL)
    call("train", "small.py", "--run-dir", "one", "--quiet")
    assert call("train", "small.py", "--run-dir", "two", "--quiet", "--ranks", "2") == 0
    assert json.loads(Path("two/result.json").read_text())["world_size"] == 2
    assert losses("two") == pytest.approx(losses("one"), rel=1e-10)


MISTAKES = {
    "shape": (
        PROBLEM + "c = Condition('eq', lambda u, p: d(u, X).value.sum(), domain.interior, 9)\n"
        "run = RunConfig(Problem(domain, [c]))",
        [],
        r"residual of condition 'eq' must return one number per point, shape \(3,\)",
    ),
    "nan": (
        PROBLEM + "c = Condition('eq', lambda u, p: u * torch.log(-p[X]), domain.interior, 9)\n"
        "run = RunConfig(Problem(domain, [c]), device='cpu')",
        [],
        r"condition 'eq' has residual nan at x=",
    ),
    "raises": (
        PROBLEM + "def eq(u, p):\n    return undefined_name\n"
        "run = RunConfig(Problem(domain, [Condition('eq', eq, domain.interior, 9)]))",
        [],
        r"residual of condition 'eq' failed at mistake.py:\d+: NameError: .*undefined_name",
    ),
    "no points": (
        PROBLEM + "c = Condition('eq', lambda u, p: u, domain.interior, 0)\n",
        [],
        r"mistake.py:\d+: Condition\('eq'\): points=0 must be",
    ),
    "no axis": (
        PROBLEM + "domain.face(y=0)\n",
        [],
        r"mistake.py:\d+: axis 'y' does not exist: this box has the axes \('x', 't'\)",
    ),
    "foreign axis": (
        PROBLEM + "Z = Box(a=(0, 1), b=(0, 1), c=(0, 1)).axes[2]\n"
        "Problem(domain, [Condition('eq', lambda u, p: d(u, Z), domain.interior, 9)])",
        [],
        r"axis .*'c'.* does not exist: the domain has 2 axes",
    ),
    "no run": ("x = 1\n", [], "does not define a run"),
    "run of another type": ("run = 3\n", [], r"does not define a run \(`run` is int\)"),
    "syntax": ("run = (\n", [], r"mistake.py:1: SyntaxError"),
    "config raises": ("1 / 0\n", [], r"mistake.py:1: ZeroDivisionError: division by zero"),
    "unknown flag": (SMALL, ["--bogus", "3"], r"--bogus"),
    "flag of wrong type": (SMALL, ["--optimizer.rank", "many"], r"optimizer.rank"),
    "flag out of range": (SMALL, ["--optimizer.rank", "0"], r"optimizer.rank=0 must be .*≥ 1"),
    "no ranks": (SMALL, ["--ranks", "0"], r"--ranks=0 must be"),
    "ranks not a number": (SMALL, ["--ranks", "x"], r"--ranks=x must be"),
    "memory": (SMALL, ["--memory-gb", "1e-9"], r"memory"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_clear_message(name, capfd):
    text, flags, message = MISTAKES[name]
    Path("mistake.py").write_text(text)
    assert call("train", "mistake.py", *flags) == 2
    error = capfd.readouterr().err
    plain = " ".join(error.replace("│", " ").split())
    assert_matches(plain, message)
    assert "Traceback" not in error
    assert error.count("error:") + error.count("╭") == 1
    assert [p.name for p in Path().iterdir() if p.name != "__pycache__"] == ["mistake.py"]


def assert_matches(text: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


def test_a_missing_config_and_an_unknown_command(capfd):
    assert call("train", "absent.py") == 2
    assert "config file 'absent.py' does not exist" in capfd.readouterr().err
    assert call("fly") == 2
    assert call("train") == 2
    assert "Traceback" not in capfd.readouterr().err


def test_an_existing_run_folder_is_left_alone(capfd):
    Path("small.py").write_text(SMALL)
    Path("run").mkdir()
    Path("run/result.json").write_text("precious")
    assert call("train", "small.py", "--run-dir", "run") == 2
    assert "run_dir='run' exists; nothing is overwritten" in capfd.readouterr().err
    assert [p.read_text() for p in Path("run").iterdir()] == ["precious"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(capfd):
    Path("small.py").write_text(SMALL)
    assert call("train", "small.py", "--device", "cuda") == 2
    assert "torch finds no CUDA device" in capfd.readouterr().err


def test_damaged_run_folders(capfd):
    Path("run").mkdir()
    for command in (["eval", "run"], ["plot", "run"], ["eval", "absent"]):
        assert call(*command) == 2
    Path("run/config.json").write_text('{"fields": {}}')
    assert call("train", "run/config.json") == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 4
    assert all(line.startswith("error: ") for line in errors)


def damage(folder: str, what: str) -> None:
    """Break one part of a copy of the run folder `run`."""
    shutil.copytree("run", folder)
    state = Path(folder, "checkpoints", "step-000000004")
    config = Path(folder, "config.json")
    if what == "checkpoint cut short":
        data = state / "rank-0.tensors"
        data.write_bytes(data.read_bytes()[:500])
    elif what == "checkpoint of something else":
        shutil.rmtree(state)
        Store(Path(folder)).write(4, {"dict": [["weights", 3]]}, {})
    elif what == "checkpoint of another network":
        found = dataclasses.replace(Checkpoint.load(Path(folder)), theta=torch.zeros(3))
        shutil.rmtree(state)
        found.save(Path(folder))
    elif what == "config cut short":
        config.write_bytes(config.read_bytes()[:200])
    elif what == "config is a list":
        config.write_text("[1, 2]")
    elif what == "config with other flags":
        config.write_text(
            json.dumps(
                json.loads(config.read_text()) | {"source": {"path": "x.py", "text": "", "flags": [3]}}
            )
        )
    else:
        Path(folder, what).unlink()


DAMAGES = {
    "checkpoint cut short": r"'broken/checkpoints/step-000000004' cannot be read: rank-0.tensors differs",
    "checkpoint of something else": r"it lacks step, .*theta.*: another version",
    "checkpoint of another network": r"the checkpoint holds 3 parameters, the config's network has 105",
    "config cut short": r"'broken/config.json' is not the config.json of a run",
    "config is a list": r"'broken/config.json' is not the config.json of a run",
    "config with other flags": r"'broken/config.json' is not the config.json of a run: source.flags=\[3\]",
    "history.jsonl": r"'broken' holds no finished run \(history.jsonl is missing\)",
    "spectra.npz": r"'broken' holds no finished run \(spectra.npz is missing\)",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.py").write_text(SMALL)
    flags = ["--run-dir", str(folder / "run"), "--quiet"]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    subprocess.run(
        [sys.executable, "-m", "sngd.cli", "train", str(folder / "small.py"), *flags],
        env=environment,
        check=True,
    )
    return folder / "run"


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_run_is_refused_by_plot_in_one_line(finished, what, capfd):
    shutil.copytree(finished, "run")
    damage("broken", what)
    before = {path: path.read_bytes() for path in Path("broken").rglob("*") if path.is_file()}
    assert call("plot", "broken") == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert_matches(said, f"^error: .*{DAMAGES[what]}")
    assert {path: path.read_bytes() for path in Path("broken").rglob("*") if path.is_file()} == before


def test_a_run_folder_that_cannot_be_made_is_refused(capfd):
    Path("small.py").write_text(SMALL)
    for ranks in ("1", "2"):
        assert call("train", "small.py", "--run-dir", "small.py/run", "--ranks", ranks) == 2
        (said,) = capfd.readouterr().err.splitlines()
        assert_matches(said, r"^error: run_dir='small.py/run' cannot be made")
    assert Path("small.py").read_text() == SMALL


def test_a_target_without_a_solution_is_refused(capfd):
    Path("mistake.py").write_text(
        PROBLEM
        + "c = Condition('eq', lambda u, p: u, domain.interior, 9)\nrun = RunConfig(Problem(domain, [c]))"
    )
    assert call("train", "mistake.py", "--target-error", "1e-3") == 2
    assert "target_error=0.001 needs a known solution" in capfd.readouterr().err
    assert not Path("runs").exists()


def test_flags_of_a_run_are_kept_when_it_is_repeated_and_may_be_replaced(finished):
    shutil.copytree(finished, "run")
    assert (
        call("train", "run/config.json", "--run-dir", "again", "--quiet", "--max-steps", "2", "--seed", "9")
        == 0
    )
    assert json.loads(Path("again/result.json").read_text())["seed"] == 9
    assert call("train", "again/config.json", "--run-dir", "third", "--quiet") == 0
    assert losses("third") == losses("again")
    assert len(losses("third")) == 2
    assert losses("third") != losses("run")[:2]


RAISES_ON_ONE_RANK = (
    PROBLEM
    + """
bad = float(domain.interior.sample(0, 40, (0, 0, 0))[30, 0])
def eq(u, p):
    if len(p) > 3 and bool((p[X].value == bad).any()):
        raise RuntimeError("no luck")
    return d(u, T) - d(u, X, X)
run = RunConfig(Problem(domain, [Condition("eq", eq, domain.interior, 40)]), device="cpu")
"""
)
MISTAKES["raises on one rank"] = (
    RAISES_ON_ONE_RANK,
    [],
    r"residual of condition 'eq' failed at mistake.py:\d+: RuntimeError: no luck",
)


@pytest.mark.parametrize("name", ["nan", "raises", "raises on one rank"])
def test_a_mistake_on_two_ranks_is_told_once(name):
    text, flags, message = MISTAKES[name]
    Path("mistake.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "sngd.cli", "train", "mistake.py", "--ranks", "2", *flags],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert_matches(done.stderr, message)
    assert "Traceback" not in done.stderr
    assert not Path("runs").exists()
