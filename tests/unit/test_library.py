"""The library of problems by name."""

import json
import shutil
from pathlib import Path

import pytest

from sngd import library
from sngd.cli import main
from sngd.config_files import load_source
from sngd.library import Best, best, config_path, entry, names

ROOT = Path(__file__).parents[2]


def test_the_library_is_the_configs_that_come_along():
    assert names() == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    assert config_path("problems:heat").read_text() == (ROOT / "configs" / "heat.py").read_text()
    assert config_path("some/where.py") == Path("some/where.py")


@pytest.mark.parametrize("name", names())
def test_every_docstring_begins_with_title_and_equation(name):
    found = entry(name)
    assert found.title
    assert "=" in found.equation, f"configs/{name}.py must begin with a line 'Title: equation'"
    assert f"{found.title}: {found.equation}" == found.text.splitlines()[0].rstrip(".")


def test_an_entry_tells_run_text_and_background():
    found = entry("problems:heat4d")
    assert found.name == "heat4d"
    assert found.run.problem.domain.dim == 5
    assert found.text.startswith("The heat equation in 4+1 dimensions: u_t = Δu/4")
    assert "arXiv 2405.15603" in found.text
    assert found.background.startswith("The heat equation on a rod and on a four-dimensional cube.")
    assert "\n    u_t = Δu / 4   on [0, 1]^d" in found.background


def test_an_unknown_name_gets_near_ones_and_all():
    with pytest.raises(ValueError) as caught:
        config_path("problems:transprt")
    said = str(caught.value)
    assert said.startswith(
        "the library has no problem 'transprt': did you mean transport? It has allen_cahn, beam, burgers,"
    )
    for name in names():
        assert name in said
    with pytest.raises(ValueError) as caught:
        entry("qqqqqq")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["../heat", "/heat", "", "heat.py", "configs/heat"])
def test_a_path_is_no_name(name):
    with pytest.raises(ValueError, match="the library has no problem"):
        config_path(f"problems:{name}")


def test_an_installed_package_has_its_configs_inside(tmp_path, monkeypatch):
    inside = tmp_path / "sngd" / "configs"
    inside.mkdir(parents=True)
    shutil.copy(ROOT / "configs" / "heat.py", inside / "mine.py")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "sngd" / "library.py"))
    assert names() == ["mine"]
    assert config_path("problems:mine") == inside / "mine.py"
    assert 'configs = "sngd/configs"' in (ROOT / "pyproject.toml").read_text()


def test_best_errors_are_read(tmp_path):
    path = tmp_path / "best.json"
    assert best(path) == {}
    full = {
        "median": 2e-9,
        "spread": [1e-9, 4e-9],
        "seeds": 3,
        "seconds": 12.5,
        "machine": "a",
        "commit": "b",
    }
    path.write_text(json.dumps({"heat": full, "burgers": {"median": 1e-8}}))
    assert best(path) == {
        "heat": Best(2e-9, (1e-9, 4e-9), 3, 12.5, "a", "b"),
        "burgers": Best(1e-8),
    }


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"heat": 3}', '{"heat": {"seeds": 3}}', '{"heat": {"median": "x"}}']
)
def test_damaged_best_errors_are_told(tmp_path, text):
    path = tmp_path / "best.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"best.json' is damaged"):
        best(path)


def test_the_best_errors_that_come_along_belong_to_the_library():
    assert set(best()) <= set(names())


def test_the_stored_name_is_that_of_the_file(tmp_path):
    """A run of the library is a run of its file, also when it is loaded again."""
    run, text = load_source(config_path("problems:nonlinear"))
    assert run.problem.name == "nonlinear"
    assert text == (ROOT / "configs" / "nonlinear.py").read_text()


# Commands


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_problems_lists_all_with_what_is_known(capsys, monkeypatch):
    monkeypatch.setattr(library, "best", lambda: {"heat": Best(2.34e-9, seeds=3, seconds=12.4)})
    assert main(["problems"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert set(names()) <= set(lines)
    assert lines["heat"].split()[-3:] == ["2.3e-09", "12", "3"]
    assert "u_t = u_xx/4 on [0,1]²" in lines["heat"]
    assert lines["burgers"].split()[-3:] == ["—", "—", "—"]
    assert "x1 … x100 (100)" in lines["poisson100d"]
    assert "x, t" in lines["burgers"]


def test_problems_tells_all_about_one(capsys, monkeypatch):
    known = Best(2.34e-9, (1e-9, 5e-9), 3, 12.4, "2 cores", "abc1234")
    monkeypatch.setattr(library, "best", lambda: {"heat": known})
    assert main(["problems", "heat"]) == 0
    out = capsys.readouterr().out
    found = entry("heat")
    for text in (
        *found.text.splitlines(),
        *found.background.splitlines(),
        "Box(x=(0.0, 1.0), t=(0.0, 1.0), periodic=())",
        "Network(2-24-24-24-1, tanh, P=1,297)",
        "1,000 steps or 20 s or relative L2 error 1e-09",
        "2.3e-09 (1.0e-09 … 5.0e-09) in 12 s, 3 seeds, 2 cores, abc1234",
        "sngd train problems:heat",
    ):
        assert text in out
    assert ["initial", "80", "1", "1", "kronecker"] in [line.split() for line in out.splitlines()]
    assert main(["problems", "haet"]) == 2
    assert "did you mean heat" in capsys.readouterr().err


def test_a_problem_is_trained_by_name_and_goes_on(folder, capsys):
    flags = ["--quiet", "--network.hidden", "6", "6", "--run-dir", "run"]
    assert main(["train", "problems:nonlinear", "--max-steps", "3", *flags]) == 0
    source = json.loads(Path("run/config.json").read_text())["source"]
    assert source["text"] == (ROOT / "configs" / "nonlinear.py").read_text()
    assert source["flags"][:2] == ["--max-steps", "3"]
    assert main(["resume", "run", "--max-steps", "4", "--quiet"]) == 0
    result = json.loads(Path("run/result.json").read_text())
    assert result["steps"] == 4
    capsys.readouterr()
    assert main(["eval", "run", "--points", "100"]) == 0
    assert json.loads(capsys.readouterr().out)["problem"] == "nonlinear"


def test_a_problem_is_planned_by_name(capsys):
    assert main(["plan", "problems:heat", "--memory", "1GB"]) == 0
    assert "P = 1,297" in capsys.readouterr().out.replace("P=", "P = ")
    assert main(["plan", "problems:haet", "--memory", "1GB"]) == 2


def test_a_problem_is_submitted_by_name(folder, capsys):
    assert main(["submit", "problems:heat", "--dry-run", "--seed", "3"]) == 0
    script = capsys.readouterr().out
    assert "\nset -- problems:heat --seed 3\n" in script
    assert "#SBATCH --job-name=heat\n" in script
    Path("sweep.txt").write_text("problems:heat --seed 1\nproblems:haet\n")
    assert main(["submit", "sweep.txt", "--dry-run"]) == 2
    assert "sweep.txt:2: the library has no problem 'haet'" in capsys.readouterr().err
