"""What a run is told of its own training loss: looks at fresh points, findings, and that both are the same
on any number of ranks and after a stop."""

import math
from math import pi

import pytest
import torch

from sngd import (
    R3,
    SNGD,
    Adam,
    Box,
    Causal,
    Condition,
    Curriculum,
    Marching,
    Problem,
    d,
)
from sngd.assembly import draw_points
from sngd.collectives import LocalRanks
from sngd.findings import Findings
from sngd.holdout import HoldOut
from sngd.objective import State
from sngd.optimizers import Report
from sngd.problems import heat, poisson2d
from sngd.progress import WINDOW
from sngd.watch import Watch
from tests.thread_ranks import on_ranks
from tests.watched import CPU, few_points, objective_of, on_a_line, records_of, run_of

# ---------------------------------------------------------------------------------------------
# Findings
# ---------------------------------------------------------------------------------------------


def test_too_few_points_are_overfitting_told_once():
    _, records, result = records_of(few_points())
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
    _, _, result = records_of(few_points(resample_every=1))
    assert result["warnings"] == []


def test_who_moves_points_already_is_not_told_to():
    _, _, result = records_of(few_points(adaptive_points=R3(every=1, conditions=("boundary",)), max_steps=24))
    (warning,) = result["warnings"]
    assert warning["kind"] == "overfitting"
    assert "RAD" not in warning["text"]


def test_enough_points_are_no_finding():
    _, _, result = records_of(run_of(heat(300, 40, 60), max_steps=25, holdout_every=2))
    assert result["warnings"] == []
    assert result["generalization_ratio"] < 10


def _watched(run, losses, report=None, residual=None):
    """A watch that is told of these training losses, one a step; what it has found."""
    objective, theta = objective_of(run)
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
    run = run_of(holdout_every=0)
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
    (found,), _ = _watched(run_of(holdout_every=0, **changes), [1.0] * (WINDOW + 30), report)
    for word in words:
        assert word in found.text


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_loss_at_rounding_is_said_to_be(precision):
    """A residual 1e3 (u − u₀) + 1 − 1: what is left of it is the rounding of its terms."""
    eps = torch.finfo(getattr(torch, precision)).eps
    run = run_of(on_a_line(lambda u, p, X: 1e3 * u), holdout_every=0, precision=precision)
    (found,), _ = _watched(run, [(1e2 * eps) ** 2] * (WINDOW + 30))
    assert found.kind == "rounding"
    assert precision in found.text
    assert ("mixed" in found.text) == (precision == "float32")
    (found,), _ = _watched(run, [1e-3] * (WINDOW + 30))
    assert found.kind == "stagnation"


def test_weights_in_time_that_change_are_no_stagnation():
    run = run_of(holdout_every=0, causal=Causal(tolerance=1.0, bins=4))
    objective, theta = objective_of(run)
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
    plain = on_a_line(lambda u, p, X: u - 1.0)
    (x,) = draw_points(run_of(plain), 1, LocalRanks(), CPU, torch.float64)
    run = run_of(on_a_line(_holed(x, value)))
    seen = on_ranks(size, lambda ranks: records_of(run, ranks))
    _, records, result = seen[0]
    assert [r["holdout"] for r in records] == [None] * 7
    (warning,) = result["warnings"]
    assert (warning["kind"], warning["step"]) == ("non_finite", 1)
    assert f"condition 'equation' has residual {value} at the fresh point x=0." in warning["text"]
    assert result["holdout_loss"] is None
    alone = on_ranks(1, lambda ranks: records_of(run, ranks))[0][2]
    assert warning == alone["warnings"][0]


def test_a_residual_that_fails_on_fresh_points_is_a_warning_on_all_ranks():
    plain = on_a_line(lambda u, p, X: u - 1.0)
    (x,) = draw_points(run_of(plain), 1, LocalRanks(), CPU, torch.float64)
    edge = float(x.max())

    def residual(u, p, X):
        if bool((p[X].value > edge).any()):
            raise RuntimeError("a table ends here")
        return u - 1.0

    run = run_of(on_a_line(residual))
    for trained, _, result in on_ranks(2, lambda ranks: records_of(run, ranks))[:1]:
        assert trained.result["steps"] == 7
        (warning,) = result["warnings"]
        assert "raises an error on fresh points" in warning["text"]


# ---------------------------------------------------------------------------------------------
# Ranks, stops, stages
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["few", "heat"])
def test_looks_and_findings_do_not_depend_on_the_number_of_ranks(name):
    run = few_points(max_steps=8) if name == "few" else run_of()
    wanted = None
    for size in (1, 2, 3, 4):

        def work(ranks):
            objective, theta = objective_of(run, ranks)
            return HoldOut(objective, run.seed, 150).losses(theta)[0], records_of(run, ranks)

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
    run = run_of(poisson2d(12, 8), holdout_every=4)
    objective, theta = objective_of(run)
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
    _, watch = _watched(run_of(), [1.0] * 10)
    torch.save(watch.save(), tmp_path / "saved.pt")
    loaded = torch.load(tmp_path / "saved.pt", weights_only=True)
    assert str(loaded) == str(watch.save())


def test_every_slab_of_marching_has_its_own_looks():
    run = run_of(max_steps=10, marching=Marching(slabs=2), holdout_every=4)
    _, records, result = records_of(run)
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
    _, records, result = records_of(run_of(problem, max_steps=9, curriculum=Curriculum("c", (0.5,), 4)))
    assert [r["step"] for r in records if r["holdout"] is not None] == [6, 9]
    assert result["holdout_loss"] is not None
    _, records, result = records_of(run_of(problem, max_seconds=1e-9, curriculum=Curriculum("c", (0.5,), 4)))
    assert {r["holdout"] for r in records} == {None}
    assert result["holdout_loss"] is None
