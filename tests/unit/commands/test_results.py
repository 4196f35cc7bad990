"""sngd eval, plot and export on a finished run."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from sngd.cli import main
from sngd.commands.common import restore
from sngd.conservation import conservation
from sngd.evaluate import Evaluation, residual_norms
from sngd.norms import sobolev_errors
from tests.finished import train_all

HEAT = """
from sngd import MLP, SNGD, Conserved, RunConfig
from sngd.problems import heat

problem = heat(60, 10, 20)
problem.conserved = (Conserved("mass", lambda u, p: u), Conserved("square", lambda u, p: u * u))
run = RunConfig(problem, MLP(hidden=(8, 8)), SNGD(rank=12), max_steps=3, device="cpu")
"""
UNSOLVED = """
from sngd import MLP, SNGD, Coefficient, Condition, Problem, RunConfig, d
from sngd.data import Data
from sngd.geometry import Ball

domain = Ball(x=0, y=0, radius=1)
X, Y = domain.axes
walls = domain.boundary()
data = Data(domain, [[0.1 * i, 0.05 * i] for i in range(5)], {"u": [1.0] * 5})
conditions = [
    Condition("equation", lambda w, p: (d(w[0], X) - p["k"], d(w[1], Y) - 1), domain.interior, 40),
    Condition("walls[x]", lambda w, p: w[0] - w[1] * p.normal[X], walls, 20, 1.0, "latin_hypercube"),
    Condition("measured", lambda w, p: w[0] - p.data["u"] * p["l"], data, 5),
]
unknown = {"k": Coefficient(1.5, lower=0.0, exact=2.0), "l": Coefficient(1.0)}
problem = Problem(domain, conditions, fields=("u", "v"), coefficients=unknown, name="unsolved")
run = RunConfig(problem, MLP(hidden=(6,)), SNGD(rank=8), max_steps=2, device="cpu")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs, heat and unsolved."""
    return train_all(tmp_path_factory.mktemp("runs"), {"heat": HEAT, "unsolved": UNSOLVED})


@pytest.fixture
def copies(runs, tmp_path, monkeypatch):
    """The working folder holds copies of the runs without their pictures."""
    for name in ("heat", "unsolved"):
        shutil.copytree(runs / name, tmp_path / name, ignore=shutil.ignore_patterns("*.png"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# sngd eval


def test_eval_tells_errors_over_time_and_residuals(copies, capsys):
    assert main(["eval", "heat", "--points", "300"]) == 0
    told = json.loads(capsys.readouterr().out)
    run, network, theta = restore(Path("heat"))
    evaluation = Evaluation(run.problem, network, 300)
    errors = evaluation.errors(theta)
    assert told | errors == told
    assert told["over_time"] == evaluation.over_time(theta)
    drifts = conservation(run.problem, network, theta, run.problem.conserved, time=1)
    assert {name: drift["drift"] for name, drift in told["conserved"].items()} == {
        name: drift.drift for name, drift in drifts.items()
    }
    slopes = sobolev_errors(run.problem, network, theta, evaluation.points)["u"]
    assert (told["h1"]["u"]["norm"], told["h1"]["u"]["seminorm"]) == (slopes.norm, slopes.seminorm)
    assert told["residuals"] == residual_norms(run.problem, network, theta, 300)
    assert list(told["residuals"]) == ["equation", "initial", "walls"]
    assert (told["problem"], told["points"]) == ("heat", 300)


def test_eval_without_a_solution_tells_residuals(copies, capsys):
    assert main(["eval", "unsolved", "--points", "200"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["relative_l2"] is told["over_time"] is told["fields"]["v"] is None
    assert told["conserved"] == told["h1"] == {}
    points = {name: norms["points"] for name, norms in told["residuals"].items()}
    assert points == {"equation": 200, "walls[x]": 200, "measured": 5}
    stored = json.loads(Path("unsolved/result.json").read_text())["coefficients"]
    k = stored["k"]
    assert told["coefficients"]["k"] == {"value": k, "exact": 2.0, "error": pytest.approx(abs(2.0 - k))}
    assert told["coefficients"]["l"] == {"value": stored["l"], "exact": None, "error": None}
    assert 0 < told["residuals"]["walls[x]"]["rms"] <= told["residuals"]["walls[x]"]["max"]


@pytest.mark.parametrize("name", ["heat", "unsolved"])
def test_eval_on_a_terminal_is_for_people_unless_json_is_asked_for(copies, capsys, monkeypatch, name):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["eval", name, "--points", "200", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["eval", name, "--points", "200"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()]
    rows = {line[0]: line[1:] for line in lines}
    for condition, norms in told["residuals"].items():
        assert rows[condition][:2] == [f"{norms['rms']:.2e}", f"{norms['max']:.2e}"]
    if name == "heat":
        numbers = told["relative_l2"], told["h1"]["u"]["norm"], told["max_error"]
        assert rows["u"] == [f"{number:.2e}" for number in numbers]
        over = told["over_time"]
        assert ["0.1", f"{over['relative_l2'][2]:.2e}"] in lines
        assert sum(len(line) == 2 and line[0] in {f"{t:.4g}" for t in over["times"]} for line in lines) == 11
        for name, drift in told["conserved"].items():
            assert rows[name] == [f"{drift['drift']:.2e}", f"{drift['quadrature']:.2e}"]
    else:
        assert ["no", "known", "solution", "to", "compare", "with"] in lines
        k, free = (told["coefficients"][name] for name in "kl")
        assert rows["k"] == [f"{k['value']:.8g}", "2", f"{k['error']:.8g}"]
        assert rows["l"] == [f"{free['value']:.8g}", "—", "—"]


def test_eval_refuses_no_points(copies, capsys):
    assert main(["eval", "heat", "--points", "0"]) == 2
    assert "--points=0 must be a whole number ≥ 1" in capsys.readouterr().err


# sngd plot


def test_plot_draws_all_that_applies(copies, capsys):
    assert main(["plot", "heat", "--dpi", "40"]) == 0
    names = ["solution", "convergence", "spectrum", "slices", "error_over_time", "points"]
    assert capsys.readouterr().out.splitlines() == [f"heat/{name}.png" for name in names]
    for name in names:
        assert imread(f"heat/{name}.png").std() > 0.02
    assert main(["plot", "unsolved", "--dpi", "40", "--what", "time,coefficients,points,slices"]) == 0
    names = ["coefficients", "slices", "points"]
    assert capsys.readouterr().out.splitlines() == [f"unsolved/{name}.png" for name in names]


def test_plot_draws_what_is_asked_for_as_it_is_asked_for(copies, capsys, monkeypatch):
    saved: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: saved.append(f) or save(f, *a, **k))
    assert main(["plot", "heat", "--what", "points,convergence", "--format", "pdf", "--dpi", "60"]) == 0
    assert capsys.readouterr().out.splitlines() == ["heat/convergence.pdf", "heat/points.pdf"]
    assert Path("heat/points.pdf").read_bytes().startswith(b"%PDF")
    assert not list(Path("heat").glob("*.png"))
    run, _, _ = restore(Path("heat"))
    drawn = {c.get_label(): np.asarray(c.get_offsets()) for c in saved[1].axes[0].collections}
    for number, condition in enumerate(run.problem.conditions):
        x = condition.region.sample(0, condition.points, (run.seed, 0, number), condition.sampling)
        assert drawn[f"{condition.name} ({condition.points})"] == pytest.approx(x.numpy()[:, ::-1])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--what", "fields,slice"], "there is no picture 'slice', there are fields, convergence"),
        (["--what", "coefficients"], "--what=coefficients: this run has nothing to draw of that"),
        (["--dpi", "5"], "--dpi=5 must be between 20 and 1200"),
    ],
)
def test_plot_refuses_what_it_cannot_draw(copies, capsys, flags, told):
    assert main(["plot", "heat", *flags]) == 2
    assert told in capsys.readouterr().err
    assert not list(Path("heat").glob("*.png"))


# sngd export


def test_export_writes_a_grid_into_the_run_folder(copies, capsys):
    assert main(["export", "heat", "--grid", "7x5"]) == 0
    assert capsys.readouterr().out == "heat/fields.npz\n"
    with np.load("heat/fields.npz") as stored:
        assert stored["u"].shape == stored["u_error"].shape == (7, 5)
        assert stored["u_solution"][3, 0] == pytest.approx(math.sin(math.pi / 2))
    assert main(["export", "heat"]) == 0
    with np.load("heat/fields.npz") as stored:
        assert stored["u"].shape == (101, 101)


def test_export_at_points_and_by_suffix(copies, capsys):
    Path("p.csv").write_text("t,x\n0.5,0.25\n")
    assert main(["export", "heat", "--points", "p.csv", "-o", "out.npz"]) == 0
    _, network, theta = restore(Path("heat"))
    x = torch.tensor([[0.25, 0.5]], dtype=torch.float64)
    with np.load("out.npz") as stored:
        assert stored["u"] == pytest.approx(network(theta, x)[:, 0].numpy())
    if torch.__version__ < "2.7":
        pytest.skip("torch 2.6 traces nothing that is vmapped")
    assert main(["export", "heat", "-o", "net.pt2"]) == 0
    found = torch.export.load("net.pt2").module()(x)
    torch.testing.assert_close(found, network(theta, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--grid", "3"], "grid=3 must be 2 whole numbers"),
        (["--grid", "3xa"], "--grid=3xa must be whole numbers"),
        (["--grid", "3x3", "--points", "p.csv"], "--grid and --points exclude each other"),
        (["--format", "pt2", "--grid", "3x3"], "--format=pt2 writes the network"),
        (["-o", "a.txt"], "--output='a.txt' has none of the suffixes .npz, .vtu, .pt2, .onnx"),
        (["-o", "absent/a.npz"], "its folder does not exist"),
        (["-o", ".", "--format", "npz"], "--output='.' cannot be written: Is a directory"),
        (["--points", "absent.csv"], "points file 'absent.csv' cannot be read"),
    ],
)
def test_export_refuses_what_does_not_fit(copies, capsys, flags, told):
    before = sorted(Path().rglob("*"))
    assert main(["export", "heat", *flags]) == 2
    assert told in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before
