"""Time marching: slabs of a problem, what one hands to the next, and a run over all of them."""

import dataclasses
import json
import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from sngd import MLP, RAD, SNGD, Adam, Box, Causal, Condition, Data, Marching, Problem, RunConfig, d
from sngd.checkpoint import Checkpoint
from sngd.cli import main
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.evaluate import Evaluation, predict
from sngd.fields import fields_at
from sngd.jacobian import FactoredJacobian
from sngd.marching import Continued, restricted
from sngd.piecewise import Piecewise
from sngd.residual import Collocation
from sngd.stages import first_stage, next_stage, trained_network
from sngd.training import train
from tests.problems import heat as heat_case
from tests.problems import inverse
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")


def _heat(nu=0.25) -> Problem:
    domain = Box(x=(0, 1), t=(0, 2))
    X, T = domain.axes
    sine = lambda x: torch.sin(torch.pi * x)  # noqa: E731
    conditions = [
        Condition("equation", lambda u, p: d(u, T) - nu * d(u, X, X), domain.interior, 40),
        Condition("initial", lambda u, p: u - sine(p[X]), domain.face(t=0), 10, weight=3.0),
        Condition("walls", lambda u, p: u, domain.boundary("x"), 10),
    ]
    exact = lambda p: torch.exp(-nu * torch.pi**2 * p[T].value) * sine(p[X].value)  # noqa: E731
    return Problem(domain, conditions, solution=exact, name="heat")


def _wave(periodic=()) -> Problem:
    """Two conditions at the start, one of which asks for ∂_t; a system, an ansatz and a known coefficient."""
    domain = Box(t=(0, 1), x=(0, 1), periodic=periodic)
    T, X = domain.axes

    def equations(w, p):
        u, v = w
        return d(u, T, T) - p["c"] * d(u, X, X), d(v, T) - u

    conditions = [
        Condition("equations", equations, domain.interior, 20),
        Condition("place", lambda w, p: (w[0] - torch.sin(p[X]), w[1]), domain.face(t=0), 6),
        Condition("speed", lambda w, p: d(w[0], T) - 1.0, domain.face(t=0), 5),
        Condition("late", lambda w, p: w[1] - p[X], domain.face(t=0.9), 4),
    ]
    ansatz = lambda n, p: (p[X] * n[0], n[1] + p["c"])  # noqa: E731
    return Problem(domain, conditions, fields=("u", "v"), ansatz=ansatz, coefficients={"c": 2.0}, name="wave")


class Follow:
    """Keeps records, stops after a step."""

    def __init__(self, stop_after=None):
        self.stop_after, self.info, self.records, self.saves = stop_after, [], [], []

    def start(self, info):
        self.info.append(info)

    def step(self, record):
        self.records.append(record)
        if record["step"] == self.stop_after:
            os.kill(os.getpid(), signal.SIGUSR1)

    def saved(self, path, step):
        self.saves.append(step)

    def end(self, result):
        self.result = result


def _run(problem=None, marching=None, **changes):
    fields = {"max_steps": 13, "evaluate_points": 200, "device": "cpu", "memory_gb": 0.5}
    fields |= {"network": MLP((6, 6)), "optimizer": SNGD(rank=20), **changes}
    return RunConfig(problem or _heat(), marching=marching or Marching(3), **fields)


def _train(run, folder=None, stop_after=None, earlier=None):
    hook = Follow(stop_after)
    trained = train(run, LocalRanks(), CPU, hooks=[hook], folder=folder, earlier=earlier)
    return trained, hook


# ---------------------------------------------------------------------------------------------
# The problem of a slab
# ---------------------------------------------------------------------------------------------


def _before(problem, axis, low, high, network=None):
    slab = restricted(problem, axis, low, high, None)
    built = build_network(slab, network or MLP((5, 4)), 3)
    generator = torch.Generator().manual_seed(0)
    theta = built.initial + 0.3 * torch.randn(built.parameters, generator=generator, dtype=torch.float64)
    return Continued(slab, built, theta, axis), built, theta


def test_the_first_slab_is_the_problem_on_fewer_times():
    slab = restricted(_heat(), 1, 0.0, 0.5, None)
    assert dict(zip(slab.domain.names, slab.domain.bounds, strict=True)) == {"x": (0, 1), "t": (0, 0.5)}
    assert [c.name for c in slab.conditions] == ["equation", "initial", "walls"]
    for condition in slab.conditions:
        t = condition.region.sample(0, 50, (1, 0, 0))[:, 1]
        assert float(t.min()) >= 0
        assert float(t.max()) <= 0.5
        assert condition.name == "initial" or float(t.max()) > 0.4
    x = slab.conditions[1].region.sample(0, 5, (1, 0, 0))
    assert bool((x[:, 1] == 0).all())


def test_a_later_slab_begins_with_the_fields_of_the_one_before():
    problem = _heat()
    before, network, theta = _before(problem, 1, 0.0, 0.5)
    slab = restricted(problem, 1, 0.5, 1.0, before)
    assert [(c.name, c.points, c.weight) for c in slab.conditions] == [
        ("equation", 40, 1.0),
        ("initial", 10, 3.0),
        ("walls", 10, 1.0),
    ]
    region = slab.conditions[1].region
    rows = region.sample(2, 8, (4, 0, 1))
    assert torch.equal(rows[:, :2], slab.domain.face(t=0.5).sample(2, 8, (4, 0, 1)))
    torch.testing.assert_close(rows[:, 2:], network(theta, rows[:, :2]))


def test_derivatives_in_time_go_on_where_they_are_asked_for():
    """Against central differences of the fields."""
    problem = _wave()
    before, network, theta = _before(problem, 0, 0.0, 0.4)
    slab = restricted(problem, 0, 0.4, 1.0, before)
    assert [c.name for c in slab.conditions] == ["equations", "place", "speed", "late"]
    place, speed = (slab.conditions[i].region.sample(0, 5, (0, 0, i)) for i in (1, 2))
    fields = lambda x: fields_at(before.problem, network, theta, x)  # noqa: E731
    torch.testing.assert_close(place[:, 2:], fields(place[:, :2]))
    step = torch.tensor([1e-5, 0.0], dtype=torch.float64)
    x = speed[:, :2]
    difference = (fields(x + step) - fields(x - step))[:, 0] / 2e-5
    torch.testing.assert_close(speed[:, 2], difference, rtol=1e-7, atol=1e-8)
    assert bool((place[:, 0] == 0.4).all())


def test_a_slab_network_that_equals_the_one_before_meets_the_handoff():
    """The network of the slab before itself; one of the new slab with the same θ is another function."""
    problem = _wave()
    before, network, theta = _before(problem, 0, 0.0, 0.5)
    slab = restricted(problem, 0, 0.5, 1.0, before)
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(slab.conditions)]
    same = Collocation(slab, network, points, torch.ones(4, dtype=torch.float64))
    for number in (1, 2):
        rows = same.condition_rows[number]
        assert float(same.residual(theta)[rows].abs().max()) < 1e-12
    other = Collocation(slab, build_network(slab, MLP((5, 4)), 3), points, torch.ones(4, dtype=torch.float64))
    assert float(other.residual(theta)[other.condition_rows[1]].abs().max()) > 1e-3


@pytest.mark.parametrize(("low", "high", "kept"), [(0.0, 0.5, False), (0.5, 0.8, False), (0.8, 1.0, True)])
def test_a_condition_at_a_time_belongs_to_one_slab(low, high, kept):
    problem = _wave()
    before = None if low == 0 else _before(problem, 0, 0.0, low)[0]
    names = [c.name for c in restricted(problem, 0, low, high, before).conditions]
    assert ("late" in names) == kept


def test_data_are_shared_out_by_time():
    domain = Box(x=(0, 1), t=(0, 1))
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points[0, 1], points[1, 1] = 0.0, 0.5
    data = Data(domain, points, {"u": points[:, 0] * 2})
    _, T = domain.axes
    problem = Problem(
        domain,
        [
            Condition("equation", lambda u, p: d(u, T), domain.interior, 9),
            Condition("initial", lambda u, p: u, domain.face(t=0), 3),
            Condition("data", lambda u, p: u - p.data["u"], data),
        ],
    )
    first = restricted(problem, 1, 0.0, 0.5, None).conditions[2]
    second = restricted(problem, 1, 0.5, 1.0, _before(problem, 1, 0.0, 0.5)[0]).conditions[2]
    early = points[:, 1] <= 0.5
    for condition, own in ((first, early), (second, ~early)):
        assert condition.points == int(own.sum())
        rows = condition.region.sample(0, condition.points, (0, 0, 0))
        assert torch.equal(rows, torch.cat([points[own], 2 * points[own][:, :1]], dim=1))


def test_walls_and_start_in_one_condition_are_told_apart():
    domain = Box(x=(0, 1), t=(0, 1))
    X, _ = domain.axes
    around = Condition("around", lambda u, p: u - p[X], domain.boundary(), 12)
    problem = Problem(domain, [around])
    first = restricted(problem, 1, 0.0, 0.5, None).conditions
    t = first[0].region.sample(0, 60, (0, 0, 0))
    assert {float(v) for v in t[:, 1] if v in (0.0, 0.5)} == {0.0}
    before = _before(problem, 1, 0.0, 0.5)[0]
    second = restricted(problem, 1, 0.5, 1.0, before).conditions
    assert [c.name for c in second] == ["around", "around, continued"]
    x = second[0].region.sample(0, 60, (0, 0, 0))
    assert not bool((x[:, 1] == 0.5).any())
    assert bool((x[:, 1] == 1.0).any())
    assert bool((second[1].region.sample(0, 9, (0, 0, 0))[:, 1] == 0.5).all())


# ---------------------------------------------------------------------------------------------
# The networks as one
# ---------------------------------------------------------------------------------------------


def _piecewise(problem, axis, edges):
    slabs = [restricted(problem, axis, a, b, None) for a, b in pairwise(edges)]
    parts = [build_network(slab, MLP((5, 4)), 7 + i) for i, slab in enumerate(slabs)]
    return Piecewise(parts, axis, edges[1:-1]), parts


def test_each_slab_has_the_values_of_its_network():
    whole, parts = _piecewise(_heat(), 1, (0.0, 0.5, 1.5, 2.0))
    theta = whole.initial
    x = torch.tensor([[0.3, 0.2], [0.6, 0.5], [0.1, 1.4], [0.9, 2.0]], dtype=torch.float64)
    got, own = whole(theta, x), theta.split([part.parameters for part in parts])
    for row, slab in enumerate((0, 1, 1, 2)):
        torch.testing.assert_close(got[row], parts[slab](own[slab], x[row : row + 1])[0])


def test_rows_of_the_jacobian_are_those_of_the_own_slab():
    case = heat_case(20)
    whole, parts = _piecewise(case.problem, 1, (0.0, 0.4, 1.0))
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(case.problem.conditions)]
    weights = torch.ones(3, dtype=torch.float64)
    collocation = Collocation(case.problem, whole, points, weights)
    theta = whole.initial
    rows = FactoredJacobian(collocation, theta, collocation.scale).dense()
    direction = torch.randn(len(theta), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ahead, behind = (collocation.residual(theta + h * direction) for h in (1e-6, -1e-6))
    naive = collocation.scale * (ahead - behind) / 2e-6
    torch.testing.assert_close(rows @ direction, naive, rtol=1e-6, atol=1e-7)
    early = torch.cat([batch.points[:, 1] < 0.4 for batch in collocation.batches])
    first = parts[0].parameters
    assert float(rows[early][:, first:].abs().max()) == 0
    assert float(rows[~early][:, :first].abs().max()) == 0


# ---------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------


def test_a_run_marches_through_all_slabs(tmp_path):
    run = _run(max_steps=14)
    trained, hook = _train(run, tmp_path)
    assert [r["step"] for r in hook.records] == list(range(1, 15))
    assert [r["slab"] for r in hook.records] == [0] * 4 + [1] * 5 + [2] * 5
    assert len(hook.info) == 1
    assert hook.info[0]["parameters"] == trained.network.parameters == len(trained.theta)
    assert hook.saves == [4, 9, 14]
    assert trained.result["steps"] == 14
    assert trained.result["stop_reason"] == "max_steps"
    seconds = [r["seconds"] for r in hook.records]
    assert seconds == sorted(seconds)
    whole = Evaluation(run.problem, trained_network(run), 200)
    theta = Checkpoint.load(tmp_path).theta
    assert torch.equal(theta, trained.theta)
    assert whole.relative_l2(theta) == pytest.approx(trained.result["relative_l2"], rel=1e-12)
    assert trained.result["relative_l2"] == hook.records[-1]["relative_l2"]


def test_each_slab_is_the_run_on_its_own_problem():
    """The first slab by a run of the restricted problem; the second begins where that one has ended."""
    run = _run(marching=Marching(2), max_steps=8)
    _, hook = _train(run)
    first = _run(restricted(run.problem, 1, 0.0, 1.0, None), max_steps=4)
    alone, own = _train(dataclasses.replace(first, marching=None))
    assert [r["loss"] for r in own.records] == [r["loss"] for r in hook.records[:4]]
    assert [r["relative_l2"] for r in own.records] == [r["relative_l2"] for r in hook.records[:4]]
    before = Continued(first.problem, alone.network, alone.theta, 1)
    second = dataclasses.replace(first, problem=restricted(run.problem, 1, 1.0, 2.0, before), marching=None)
    _, own = _train(second)
    assert [r["loss"] for r in own.records] == [r["loss"] for r in hook.records[4:]]


def test_a_named_condition_counts_in_the_slabs_that_it_has_points_in():
    changes = {
        "causal": Causal(conditions=("late", "equations")),
        "adaptive_points": RAD(conditions=("late",)),
    }
    run = RunConfig(_wave(), MLP((4,)), max_steps=4, marching=Marching(slabs=2), **changes)
    first = first_stage(run, CPU)
    second = next_stage(first, "max_steps", first.start, 2, 0.0)
    assert first.run.causal.conditions == ("equations",)
    assert first.run.adaptive_points is None
    assert second.run.causal == run.causal
    assert second.run.adaptive_points == run.adaptive_points


def test_marching_solves_the_heat_equation():
    run = _run(marching=Marching(2), max_steps=50, network=MLP((10, 10)), optimizer=SNGD(rank=60))
    trained, hook = _train(run)
    assert trained.result["relative_l2"] < 0.05 * hook.records[0]["relative_l2"]
    jump = torch.tensor([[0.3, 1.0 - 1e-9], [0.3, 1.0]], dtype=torch.float64)
    low, high = predict(run.problem, trained.network, trained.theta, jump).flatten().tolist()
    assert low == pytest.approx(high, abs=1e-2)


def test_a_warm_network_starts_from_the_one_before():
    run = _run(marching=Marching(2, "warm"), max_steps=8)
    stage = first_stage(run, CPU)
    theta = torch.randn(
        stage.network.parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    after = next_stage(stage, "stalled", theta, 3, 1.5)
    assert torch.equal(after.start, theta)
    assert torch.equal(after.earlier, theta)
    assert (after.steps, after.seconds, after.run.max_steps) == (3, 1.5, 5)
    new = first_stage(_run(marching=Marching(2), max_steps=8), CPU)
    assert torch.equal(next_stage(new, "stalled", theta, 3, 1.5).start, new.network.initial)
    assert next_stage(after, "max_steps", theta, 8, 2.0) is None
    assert next_stage(stage, "interrupted", theta, 3, 1.5) is None


def test_seconds_are_shared_among_the_slabs_that_are_left():
    run = _run(marching=Marching(4), max_seconds=100.0)
    stage = first_stage(run, CPU)
    assert stage.run.max_seconds == 25.0
    after = next_stage(stage, "tolerance", stage.start, 2, 10.0)
    assert after.run.max_seconds == pytest.approx(10.0 + 90.0 / 3)


def test_a_slab_ends_at_the_tolerance():
    run = _run(marching=Marching(2, tolerance=1e-2), max_steps=60)
    trained, hook = _train(run)
    slabs = [r["slab"] for r in hook.records]
    last = slabs.index(1) - 1
    assert hook.records[last]["loss"] <= 1e-2
    assert all(r["loss"] > 1e-2 for r in hook.records[:last])
    assert trained.result["stop_reason"] == "tolerance"


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({}, 2),
        ({}, 3),
        ({"warmup": Adam(rate=0.01), "warmup_steps": 1}, 4),
        ({"marching": Marching(3, "warm"), "balance": True}, 6),
        ({"adaptive_points": RAD(every=2, candidates=3), "causal": Causal(bins=4)}, 6),
    ],
    ids=str,
)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(changes, after, tmp_path):
    run = _run(**changes)
    whole, undisturbed = _train(run)
    stopped, first = _train(run, tmp_path, stop_after=after)
    assert stopped.result["stop_reason"] == "terminated"
    earlier = Checkpoint.load(tmp_path)
    # the last step of a slab hears nothing: the first one of the next does
    assert earlier.step == after + 1 + (after + 1 == 4)
    resumed, second = _train(run, tmp_path, earlier=earlier)
    keys = ("step", "slab", "loss", "losses", "damping", "relative_l2")
    seen = [{key: r[key] for key in keys} for r in first.records + second.records]
    assert seen == [{key: r[key] for key in keys} for r in undisturbed.records]
    assert torch.equal(resumed.theta, whole.theta)
    assert second.info[0]["resumed"] == earlier.step


def test_the_checkpoint_at_the_beginning_of_a_slab_is_one_to_go_on_from(tmp_path):
    run = _run(warmup_steps=2)
    whole, _ = _train(run)
    kept = []

    class Keep(Follow):
        def saved(self, path, step):
            kept.append(Checkpoint.load(tmp_path))

    train(run, LocalRanks(), CPU, hooks=[Keep()], folder=tmp_path)
    assert [(c.step, c.slab) for c in kept] == [(4, 1), (8, 2), (13, 2)]
    for earlier in kept[:2]:
        resumed, _ = _train(run, tmp_path / str(earlier.slab), earlier=earlier)
        assert torch.equal(resumed.theta, whole.theta)


def test_marching_is_the_same_on_any_number_of_ranks():
    run = _run(max_steps=9)

    def losses(ranks):
        hook = Follow()
        train(run, ranks, CPU, hooks=[hook])
        return [r["loss"] for r in hook.records]

    alone, *_ = on_ranks(1, losses)
    assert len(alone) == 9
    assert on_ranks(3, losses)[0] == pytest.approx(alone, rel=1e-5)


# ---------------------------------------------------------------------------------------------
# Mistakes
# ---------------------------------------------------------------------------------------------

BAD = [
    *[("slabs", value) for value in (1, 2.5, (), (1.0, 0.5), (float("nan"),), None)],
    *[("network", value) for value in ("old", None)],
    *[("tolerance", value) for value in (-1.0, float("inf"), None)],
    *[("axis", value) for value in (None, 1)],
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_field_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as caught:
        Marching(**{field: value})
    assert str(caught.value).startswith(f"marching.{field}={value!r} must be ")


def test_edges_are_equal_or_given():
    assert Marching(4).edges(_heat()) == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert Marching((0.1, 1.0)).edges(_heat()) == (0.0, 0.1, 1.0, 2.0)


def test_a_problem_that_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match=r"marching.slabs=\(0.5, 2.0\) must lie between 0.0 and 2.0"):
        _run(marching=Marching((0.5, 2.0)))
    with pytest.raises(ValueError, match="problem 'inverse' has the unknown coefficients c, m"):
        RunConfig(inverse().problem, inverse().network, marching=Marching())
    domain = Box(x=(0, 1), t=(0, 1))
    _, T = domain.axes
    inside = Condition("equation", lambda u, p: d(u, T), domain.interior, 9)
    with pytest.raises(ValueError, match=r"has no condition on its fields at the start of time, 0\.0"):
        RunConfig(Problem(domain, [inside]), marching=Marching())
    with pytest.raises(
        ValueError, match="max_steps=13 gives each of the 3 slabs of marching 4 steps, which must"
    ):
        _run(warmup_steps=4)


CONFIG = """
import torch
from sngd import MLP, SNGD, Box, Condition, Marching, Problem, RunConfig, d
domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes
conditions = [
    Condition("equation", lambda u, p: d(u, T) + u, domain.interior, 20),
    Condition("initial", lambda u, p: u - p[X], domain.face(t=0), 6),
]
problem = Problem(domain, conditions, solution=lambda p: p[X].value * torch.exp(-p[T].value))
run = RunConfig(problem, MLP((5, 5)), SNGD(rank=10), marching=Marching(2), max_steps=6, device="cpu")
"""


def test_commands_read_a_run_that_has_marched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("config.py").write_text(CONFIG)
    assert main(["train", "config.py", "--run-dir", "run", "--quiet", "--evaluate-points", "500"]) == 0
    result = json.loads(Path("run/result.json").read_text())
    assert Path("run/solution.png").is_file()
    capsys.readouterr()
    assert main(["eval", "run", "--points", "500", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["relative_l2"] == pytest.approx(result["relative_l2"], rel=1e-12)
    assert main(["export", "run", "--grid", "5x5", "-o", "fields.npz"]) == 0
