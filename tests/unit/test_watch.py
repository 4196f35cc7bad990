"""What a run is told of its own training loss: looks at fresh points, findings, and that both are the same
on any number of ranks and after a stop."""

import dataclasses
import math
from math import pi
from types import SimpleNamespace

import pytest
import torch

from sngd import (
    MLP,
    R3,
    SNGD,
    Adam,
    Box,
    Causal,
    Condition,
    Curriculum,
    Data,
    Marching,
    Problem,
    RunConfig,
    d,
)
from sngd.assembly import build_objective, draw_points
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.findings import Findings
from sngd.holdout import HoldOut
from sngd.objective import State
from sngd.optimizers import Report
from sngd.problems import heat, poisson2d
from sngd.progress import WINDOW
from sngd.residual import Collocation
from sngd.training import train
from sngd.watch import Watch
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")
SMALL = {"evaluate_points": 50, "device": "cpu", "memory_gb": 0.5}


def _run(problem=None, **changes) -> RunConfig:
    fields = {"max_steps": 7, "holdout_every": 3, "holdout_points": 150, **SMALL}
    run = {"problem": problem or heat(80, 12, 16), "network": MLP((8, 8)), "optimizer": SNGD(rank=24)}
    return RunConfig(**{**run, **fields, **changes})


def _few(**changes) -> RunConfig:
    """A network with far more parameters than the points that it is trained on."""
    fields = {"network": MLP((20, 20)), "max_steps": 12, "holdout_every": 4}
    return _run(poisson2d(12, 8), **{**fields, **changes})


def _train(run, ranks=None):
    records, results = [], []
    hook = SimpleNamespace(
        start=lambda info: None, step=records.append, saved=lambda path, step: None, end=results.append
    )
    trained = train(run, ranks or LocalRanks(), CPU, hooks=[hook])
    return trained, records, (results or [None])[0]


def _objective(run, ranks=None):
    network = build_network(run.problem, run.network, run.seed)
    return build_objective(run, network, ranks or LocalRanks(), CPU), network.initial


def _line(residual, region=None, points=20, **more) -> Problem:
    """One condition on x in (0, 1)."""
    domain = Box(x=(0, 1))
    where = domain.interior if region is None else region(domain)
    return Problem(
        domain, [Condition("equation", lambda u, p: residual(u, p, domain.axes[0]), where, points)], **more
    )


# ---------------------------------------------------------------------------------------------
# Looks
# ---------------------------------------------------------------------------------------------


def test_the_first_step_every_third_and_the_last_get_a_look():
    _, records, result = _train(_run())
    assert [r["step"] for r in records if r["holdout"] is not None] == [1, 3, 6, 7]
    assert result["holdout_loss"] == records[-1]["holdout"]
    assert result["generalization_ratio"] == pytest.approx(records[-1]["holdout"] / records[-1]["loss"])


def test_a_run_that_stops_early_ends_with_a_look():
    _, records, result = _train(_run(target_error=10.0))
    assert len(records) == 1
    assert result["holdout_loss"] == records[0]["holdout"] > 0
    _, records, result = _train(_run(max_steps=30, target_error=0.2, holdout_every=30))
    assert 1 < len(records) < 30
    assert records[-1]["holdout"] is not None


def test_no_looks_without_an_interval():
    trained, records, result = _train(_run(holdout_every=0))
    assert {r["holdout"] for r in records} == {None}
    assert (result["holdout_loss"], result["generalization_ratio"]) == (None, None)
    assert torch.equal(trained.theta, _train(_run())[0].theta), "and looks change nothing else"


def test_the_hold_out_loss_is_that_of_other_points_with_the_weights_of_the_moment():
    run = _run(balance=True, causal=Causal(tolerance=3.0, bins=4))
    objective, theta = _objective(run)
    objective.reweigh(torch.tensor([0.3, 2.0, 0.7], dtype=torch.float64))
    objective.emphasize(lambda number, x: x[:, 1] + 0.5 if number == 0 else None)
    hold_out = HoldOut(objective, run.seed, 150)
    losses, failure = hold_out.losses(theta)
    assert failure == ""
    assert hold_out.counts == [100, 100, 100]
    own = hold_out._collocation
    for c, (trained, x) in enumerate(zip(objective.collocation.points, own.points, strict=True)):
        assert len(x) == 100
        assert float(torch.cdist(x, trained).min()) > 0, "no point is trained on"
        alone = Collocation(run.problem, own.network, [x if n == c else x[:0] for n in range(3)], own.weights)
        squares = alone.residual(theta).square() * ((x[:, 1] + 0.5) if c == 0 else 1.0)
        assert losses[c] == pytest.approx(float(own.weights[c] * squares.mean()), rel=1e-12)


def test_known_coefficients_are_those_of_the_moment():
    problem = _line(lambda u, p, X: u - p["c"], coefficients={"c": 2.0})
    objective, theta = _objective(_run(problem))
    hold_out = HoldOut(objective, 0, 100)
    at_two = hold_out.losses(theta)[0][0]
    objective.know({"c": 1e3})
    assert hold_out.losses(theta)[0][0] == pytest.approx(1e6, rel=1e-2)
    objective.know({"c": 2.0})
    assert hold_out.losses(theta)[0][0] == at_two


@pytest.mark.parametrize("sampling", ["kronecker", "uniform", "sobol", "latin_hypercube"])
def test_hold_out_points_are_of_no_epoch(sampling):
    problem = heat(80, 12, 16)
    conditions = [dataclasses.replace(c, sampling=sampling) for c in problem.conditions]
    run = _run(Problem(problem.domain, conditions), resample_every=1)
    objective, theta = _objective(run)
    hold_out = HoldOut(objective, run.seed, 80)
    hold_out.losses(theta)
    for step in range(1, 9):
        for x, own in zip(
            draw_points(run, step, LocalRanks(), CPU, torch.float64),
            hold_out._collocation.points,
            strict=True,
        ):
            inside = own[(own != own.round()).all(1)]
            assert not len(inside) or float(torch.cdist(inside, x).min()) > 0


def test_looks_go_by_chunks_and_see_the_same():
    objective, theta = _objective(_run(heat(600, 12, 16)))
    whole = HoldOut(objective, 0, 500).losses(theta)[0]
    objective.collocation.chunk = 7
    pieces = HoldOut(objective, 0, 500)
    assert pieces.losses(theta)[0] == pytest.approx(whole, rel=1e-12)
    assert pieces._collocation.chunk == 7


def test_given_points_are_left_out_on_both_sides():
    domain = Box(x=(0, 1))
    x = torch.linspace(0, 1, 9, dtype=torch.float64).unsqueeze(1)
    data = Data(domain, x.numpy(), {"v": 3 * x[:, 0].numpy()})
    measured = Condition("measured", lambda u, p: u - p.data["v"], data)
    equation = Condition("equation", lambda u, p: d(u, domain.axes[0]) - 3.0, domain.interior, 20)
    _, records, result = _train(_run(Problem(domain, [measured, equation])))
    last = records[-1]
    assert result["generalization_ratio"] == pytest.approx(last["holdout"] / last["losses"]["equation"])

    _, records, result = _train(_run(Problem(domain, [measured])))
    assert {r["holdout"] for r in records} == {None}
    assert result["holdout_loss"] is result["generalization_ratio"] is None
    assert result["warnings"] == []


# ---------------------------------------------------------------------------------------------
# Findings
# ---------------------------------------------------------------------------------------------


def test_too_few_points_are_overfitting_told_once():
    _, records, result = _train(_few())
    (warning,) = result["warnings"]
    assert warning["kind"] == "overfitting"
    told = [r for r in records if r["warnings"]]
    assert [r["step"] for r in told] == [warning["step"]]
    assert told[0]["warnings"] == [warning["text"]]
    assert "condition 'equation'" in warning["text"]
    assert "resample_every" in warning["text"]
    assert "RAD" in warning["text"]
    assert result["generalization_ratio"] > 1e3


def test_points_drawn_anew_before_every_step_do_not_overfit():
    _, _, result = _train(_few(resample_every=1))
    assert result["warnings"] == []


def test_who_moves_points_already_is_not_told_to():
    _, _, result = _train(_few(adaptive_points=R3(every=1, conditions=("boundary",)), max_steps=24))
    (warning,) = result["warnings"]
    assert warning["kind"] == "overfitting"
    assert "RAD" not in warning["text"]


def test_enough_points_are_no_finding():
    _, _, result = _train(_run(heat(300, 40, 60), max_steps=25, holdout_every=2))
    assert result["warnings"] == []
    assert result["generalization_ratio"] < 10


def _watched(run, losses, report=None, residual=None):
    """A watch that is told of these training losses, one a step; what it has found."""
    objective, theta = _objective(run)
    findings = Findings()
    watch = Watch(run, objective, CPU, findings)
    real = objective.evaluate(theta.to(run.dtype))
    for number, loss in enumerate(losses, 1):
        state = State(real.theta, real.raw, real.residual, real.losses * (loss / real.loss), loss)
        watch.after(
            number, number + 1000, state, report or Report(True, rank=24), True, number == len(losses)
        )
    return findings.all, watch


def test_a_loss_that_stays_is_stagnation_told_once_until_it_falls_and_stays_again():
    run = _run(holdout_every=0)
    stay = [1.0] * (WINDOW + 30)
    found, _ = _watched(run, stay)
    assert [f.kind for f in found] == ["stagnation"]
    assert "since step 1010" in found[0].text
    assert "1.0e+00" in found[0].text
    found, _ = _watched(run, [*stay, *[0.1] * (3 * WINDOW)])
    assert [f.kind for f in found] == ["stagnation"] * 2


@pytest.mark.parametrize(
    ("changes", "report", "words"),
    [
        ({"optimizer": SNGD(rank=24, max_rank=24)}, Report(True, rank=24), ["rank at 24", "max_rank"]),
        ({"optimizer": SNGD(rank=24, adaptive_rank=False)}, Report(True, rank=24), ["rank at 24"]),
        ({"optimizer": Adam()}, Report(True), ["rate", "SNGD()"]),
        ({}, Report(False, rank=24), ["steps were refused"]),
        ({}, Report(True, rank=24), ["larger network"]),
    ],
    ids=["max_rank", "fixed rank", "adam", "refused", "nothing known"],
)
def test_stagnation_says_what_is_known_of_it(changes, report, words):
    (found,), _ = _watched(_run(holdout_every=0, **changes), [1.0] * (WINDOW + 30), report)
    for word in words:
        assert word in found.text


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_loss_at_rounding_is_said_to_be(precision):
    """A residual 1e3 (u − u₀) + 1 − 1: what is left of it is the rounding of its terms."""
    eps = torch.finfo(getattr(torch, precision)).eps
    run = _run(_line(lambda u, p, X: 1e3 * u), holdout_every=0, precision=precision)
    (found,), _ = _watched(run, [(1e2 * eps) ** 2] * (WINDOW + 30))
    assert found.kind == "rounding"
    assert precision in found.text
    assert ("mixed" in found.text) == (precision == "float32")
    (found,), _ = _watched(run, [1e-3] * (WINDOW + 30))
    assert found.kind == "stagnation"


def test_weights_in_time_that_change_are_no_stagnation():
    run = _run(holdout_every=0, causal=Causal(tolerance=1.0, bins=4))
    objective, theta = _objective(run)
    from sngd.causal import CausalWeights

    weights, findings = CausalWeights(run.causal, objective), Findings()
    watch = Watch(run, objective, CPU, findings)
    state = objective.evaluate(theta)
    for number in range(1, 3 * WINDOW):
        weights._take(torch.full((4,), min(1.0, 0.01 * 1.02**number), dtype=torch.float64))
        watch.after(number, number, state, Report(True), True, False)
    assert findings.all == []
    for number in range(3 * WINDOW, 7 * WINDOW):
        watch.after(number, number, state, Report(True), True, False)
    assert [f.kind for f in findings.all] == ["stagnation"]


# ---------------------------------------------------------------------------------------------
# Residuals that are not finite on fresh points
# ---------------------------------------------------------------------------------------------


def _holed(trained, value):
    """A residual that is `value` beyond all points of a training set."""
    edge = float(trained.max())

    def residual(u, p, X):
        x = p[X].value
        return (u - 1.0).value + torch.where(x > edge, value, 0.0)

    return residual


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_residual_that_is_not_finite_on_fresh_points_is_one_warning_and_no_stop(size, value):
    plain = _line(lambda u, p, X: u - 1.0)
    (x,) = draw_points(_run(plain), 1, LocalRanks(), CPU, torch.float64)
    run = _run(_line(_holed(x, value)))
    seen = on_ranks(size, lambda ranks: _train(run, ranks))
    _, records, result = seen[0]
    assert [r["holdout"] for r in records] == [None] * 7
    (warning,) = result["warnings"]
    assert (warning["kind"], warning["step"]) == ("non_finite", 1)
    assert f"condition 'equation' has residual {value} at the fresh point x=0." in warning["text"]
    assert result["holdout_loss"] is None
    alone = on_ranks(1, lambda ranks: _train(run, ranks))[0][2]
    assert warning == alone["warnings"][0]


def test_a_residual_that_fails_on_fresh_points_is_a_warning_on_all_ranks():
    plain = _line(lambda u, p, X: u - 1.0)
    (x,) = draw_points(_run(plain), 1, LocalRanks(), CPU, torch.float64)
    edge = float(x.max())

    def residual(u, p, X):
        if bool((p[X].value > edge).any()):
            raise RuntimeError("a table ends here")
        return u - 1.0

    run = _run(_line(residual))
    for trained, _, result in on_ranks(2, lambda ranks: _train(run, ranks))[:1]:
        assert trained.result["steps"] == 7
        (warning,) = result["warnings"]
        assert "raises an error on fresh points" in warning["text"]


# ---------------------------------------------------------------------------------------------
# Ranks, stops, stages
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["few", "heat"])
def test_looks_and_findings_do_not_depend_on_the_number_of_ranks(name):
    run = _few(max_steps=8) if name == "few" else _run()
    wanted = None
    for size in (1, 2, 3, 4):

        def work(ranks):
            objective, theta = _objective(run, ranks)
            return HoldOut(objective, run.seed, 150).losses(theta)[0], _train(run, ranks)

        seen = on_ranks(size, work)
        assert len({tuple(losses) for losses, _ in seen}) == 1, "bit for bit on all ranks"
        losses, (_, records, result) = seen[0]
        looks = [r["holdout"] for r in records]
        told = [(w["kind"], w["step"]) for w in result["warnings"]]
        if wanted is None:
            wanted = losses, looks, told
        assert losses == pytest.approx(wanted[0], rel=1e-12)
        assert told == wanted[2]
        first = slice(0, 4)  # later ones have the rounding of the steps
        assert [x or 0.0 for x in looks[first]] == pytest.approx(
            [x or 0.0 for x in wanted[1][first]], rel=1e-6
        )


def test_findings_go_on_from_what_was_saved():
    run = _run(poisson2d(12, 8), holdout_every=4)
    objective, theta = _objective(run)
    real = objective.evaluate(theta.to(run.dtype))

    def follow(watch, numbers):
        for number in numbers:
            loss = real.loss * 0.5 ** min(number, 20)
            state = State(real.theta, real.raw, real.residual, real.losses * (loss / real.loss), loss)
            watch.after(number, number, state, Report(True, rank=9), True, False)

    whole = Findings()
    watch = Watch(run, objective, CPU, whole)
    follow(watch, range(1, 200))
    assert [f.kind for f in whole.all] == ["overfitting", "stagnation"]
    for cut in (3, 10, 40, 140):
        first, second = Findings(), Findings()
        before = Watch(run, objective, CPU, first)
        follow(before, range(1, cut))
        after = Watch(run, objective, CPU, second)
        second.load(first.save())
        after.load(before.save())
        assert second.untold() == []
        follow(after, range(cut, 200))
        assert second.all == whole.all
        assert str(after.save()) == str(watch.save())


def test_what_is_saved_is_plain(tmp_path):
    _, watch = _watched(_run(), [1.0] * 10)
    torch.save(watch.save(), tmp_path / "saved.pt")
    loaded = torch.load(tmp_path / "saved.pt", weights_only=True)
    assert str(loaded) == str(watch.save())


def test_every_slab_of_marching_has_its_own_looks():
    run = _run(max_steps=10, marching=Marching(slabs=2), holdout_every=4)
    _, records, result = _train(run)
    assert [r["step"] for r in records if r["holdout"] is not None] == [1, 4, 5, 6, 9, 10]
    assert result["holdout_loss"] == records[-1]["holdout"]


def test_no_look_before_a_curriculum_is_over():
    domain = Box(x=(0, 1), t=(0, 1), periodic="x")
    X, T = domain.axes
    conditions = [
        Condition("equation", lambda u, p: d(u, T) + p["c"] * d(u, X), domain.interior, 60),
        Condition("initial", lambda u, p: u - torch.sin(2 * pi * p[X]), domain.face(t=0), 12),
    ]
    problem = Problem(domain, conditions, coefficients={"c": 2.0})
    _, records, result = _train(_run(problem, max_steps=9, curriculum=Curriculum("c", (0.5,), 4)))
    assert [r["step"] for r in records if r["holdout"] is not None] == [6, 9]
    assert result["holdout_loss"] is not None
    _, records, result = _train(_run(problem, max_seconds=1e-9, curriculum=Curriculum("c", (0.5,), 4)))
    assert {r["holdout"] for r in records} == {None}
    assert result["holdout_loss"] is None
