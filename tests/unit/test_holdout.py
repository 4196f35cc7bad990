"""Looks at fresh points: when, at which, and what their loss is."""

import dataclasses

import pytest
import torch

from sngd import (
    Box,
    Causal,
    Condition,
    Data,
    Problem,
    d,
)
from sngd.assembly import draw_points
from sngd.collectives import LocalRanks
from sngd.holdout import HoldOut
from sngd.problems import heat
from sngd.residual import Collocation
from tests.watched import CPU, objective_of, on_a_line, records_of, run_of

# ---------------------------------------------------------------------------------------------
# Looks
# ---------------------------------------------------------------------------------------------


def test_the_first_step_every_third_and_the_last_get_a_look():
    _, records, result = records_of(run_of())
    assert [r["step"] for r in records if r["holdout"] is not None] == [1, 3, 6, 7]
    assert result["holdout_loss"] == records[-1]["holdout"]
    assert result["generalization_ratio"] == pytest.approx(records[-1]["holdout"] / records[-1]["loss"])


def test_a_run_that_stops_early_ends_with_a_look():
    _, records, result = records_of(run_of(target_error=10.0))
    assert len(records) == 1
    assert result["holdout_loss"] == records[0]["holdout"] > 0
    _, records, result = records_of(run_of(max_steps=30, target_error=0.2, holdout_every=30))
    assert 1 < len(records) < 30
    assert records[-1]["holdout"] is not None


def test_no_looks_without_an_interval():
    trained, records, result = records_of(run_of(holdout_every=0))
    assert {r["holdout"] for r in records} == {None}
    assert (result["holdout_loss"], result["generalization_ratio"]) == (None, None)
    assert torch.equal(trained.theta, records_of(run_of())[0].theta), "and looks change nothing else"


def test_the_hold_out_loss_is_that_of_other_points_with_the_weights_of_the_moment():
    run = run_of(balance=True, causal=Causal(tolerance=3.0, bins=4))
    objective, theta = objective_of(run)
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
    problem = on_a_line(lambda u, p, X: u - p["c"], coefficients={"c": 2.0})
    objective, theta = objective_of(run_of(problem))
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
    run = run_of(Problem(problem.domain, conditions), resample_every=1)
    objective, theta = objective_of(run)
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
    objective, theta = objective_of(run_of(heat(600, 12, 16)))
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
    _, records, result = records_of(run_of(Problem(domain, [measured, equation])))
    last = records[-1]
    assert result["generalization_ratio"] == pytest.approx(last["holdout"] / last["losses"]["equation"])

    _, records, result = records_of(run_of(Problem(domain, [measured])))
    assert {r["holdout"] for r in records} == {None}
    assert result["holdout_loss"] is result["generalization_ratio"] is None
    assert result["warnings"] == []
