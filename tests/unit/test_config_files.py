"""Config files: those that come along, and what is said of a broken one."""

import json
from pathlib import Path

import pytest

from sngd.config import describe
from sngd.config_files import load_source

CONFIGS = Path(__file__).parents[2] / "configs"


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_the_configs_that_come_along_define_runs(path):
    run, text = load_source(path)
    assert path.stem == run.problem.name or path.stem.startswith(f"{run.problem.name}_")
    assert text == path.read_text()
    assert run.target_error is not None
    assert json.loads(json.dumps(describe(run)))["problem"]["name"] == run.problem.name
    assert "Source: " in text.split('"""')[1]


def test_the_configs_are_those_of_the_method():
    counts = {
        "heat": (1297, 1440),
        "poisson2d": (1297, 1440),
        "burgers": (1361, 10240),
        "poisson5d": (10065, 3500),
    }
    for name, (parameters, points) in counts.items():
        run, _ = load_source(CONFIGS / f"{name}.py")
        assert run.network.build(run.problem.domain, 1, 0).parameters == parameters
        assert sum(c.points for c in run.problem.conditions) == points


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run = (", "broken.py:1: SyntaxError"),
        ("run = 3\0", "broken.py: SyntaxError"),
        ("\nraise SystemExit(0)\n", "broken.py:2: SystemExit"),
        ("x = 1\nrun = 1 / 0\n", "broken.py:2: ZeroDivisionError: division by zero"),
        ("import no_such_module\n", "broken.py:1: ModuleNotFoundError"),
        ("x = 1\n", "has no name `run`"),
        ("run = 3\n", "`run` is int"),
        ("from sngd import SNGD\n\nSNGD(rank=0)\n", "broken.py:3: optimizer.rank=0 must be"),
    ],
)
def test_a_broken_file_is_refused_with_the_line(tmp_path, text, said):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_source(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_files_and_other_kinds_of_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_source(tmp_path / "absent.py")
    with pytest.raises(ValueError, match="does not exist"):
        load_source(tmp_path)
    other = tmp_path / "run.yaml"
    other.write_text("run: 3")
    with pytest.raises(ValueError, match="must be a Python file"):
        load_source(other)


def test_a_config_file_may_import_its_neighbours(tmp_path):
    (tmp_path / "neighbour_of_config.py").write_text(
        "from sngd.problems import heat\nproblem = heat(10, 4, 4)\n"
    )
    path = tmp_path / "mine.py"
    path.write_text(
        "from neighbour_of_config import problem\nfrom sngd import RunConfig\nrun = RunConfig(problem)\n"
    )
    assert load_source(path)[0].problem.name == "heat"
