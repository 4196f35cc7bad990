import math

import pytest
import torch

from sngd.collectives import LocalRanks
from sngd.memory import Plan
from sngd.objective import Objective
from tests import reference
from tests.problems import CASES, heat, parameters
from tests.thread_ranks import on_ranks

WHOLE = Plan("factors", None, 0)


def _objective(case, place=None):
    place = place or LocalRanks()
    return Objective(case.collocation(rank=place.rank, ranks=place.size), place, WHOLE)


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_the_weighted_mean_square_of_every_condition(name):
    case = CASES[name]()
    objective = _objective(case)
    theta = parameters(objective.collocation)
    state = objective.evaluate(theta)
    naive = reference.residual(objective.collocation, case.naive, theta).detach()
    torch.testing.assert_close(state.residual, naive, rtol=1e-9, atol=1e-11)
    assert state.loss == pytest.approx(float(naive.square().sum()), rel=1e-10)
    for number, condition in enumerate(case.problem.conditions):
        raw = state.raw[objective.collocation.condition_rows[number]]
        want = condition.weight * float(raw.square().sum()) / condition.points
        assert float(state.losses[number]) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("size", [2, 3])
def test_losses_are_summed_over_ranks(size):
    case = heat()
    alone = _objective(case)
    theta = parameters(alone.collocation)

    def work(ranks):
        objective = _objective(case, ranks)
        state = objective.evaluate(theta)
        return state.loss, state.losses, len(state.residual), ranks.bytes_moved

    results = on_ranks(size, work)
    want = alone.evaluate(theta)
    assert sum(rows for _, _, rows, _ in results) == len(want.residual)
    for loss, losses, _, sent in results:
        assert loss == pytest.approx(want.loss, rel=1e-13)
        torch.testing.assert_close(losses, want.losses, rtol=1e-13, atol=0)
        assert sent == 8 * len(losses)


def test_a_loss_that_overflows_is_infinite_and_said_to_overflow():
    objective = _objective(heat())
    theta = parameters(objective.collocation) * 1e200
    state = objective.evaluate(theta)
    assert state.loss == math.inf
    assert objective.diagnose(state)


def test_a_bad_residual_is_located():
    objective = _objective(heat())
    state = objective.evaluate(parameters(objective.collocation))
    rows = objective.collocation.condition_rows[2]
    state.raw[rows.start + 1] = math.nan
    point = objective.collocation.points[2][1]
    message = objective.diagnose(state)
    assert "'walls'" in message
    assert f"x={point[0]:.6g}, t={point[1]:.6g}" in message


# ---------------------------------------------------------------------------------------------
# Balancing
# ---------------------------------------------------------------------------------------------


def test_balanced_weights_have_mean_one_and_follow_the_rule():
    objective = _objective(heat())
    state = objective.evaluate(parameters(objective.collocation))
    old = objective.collocation.weights.clone()
    objective.balance(state)
    new = objective.collocation.weights
    assert float(new.mean()) == pytest.approx(1.0, rel=1e-14)
    losses = [float(x) for x in state.losses]
    rule = [
        w * (sum(losses) / len(losses) / (loss + 1e-8)) ** 0.05
        for w, loss in zip(old.tolist(), losses, strict=True)
    ]
    want = [w * len(rule) / sum(rule) for w in rule]
    assert new.tolist() == pytest.approx(want, rel=1e-12)
    ahead, behind = int(state.losses.argmin()), int(state.losses.argmax())
    assert new[ahead] / old[ahead] > new[behind] / old[behind]


def test_a_balanced_state_is_what_an_evaluation_would_give():
    objective = _objective(heat())
    state = objective.evaluate(parameters(objective.collocation))
    for _ in range(3):
        state = objective.balance(state)
    again = objective.evaluate(state.theta)
    torch.testing.assert_close(state.residual, again.residual, rtol=1e-13, atol=0)
    torch.testing.assert_close(state.losses, again.losses, rtol=1e-13, atol=0)
    assert state.loss == pytest.approx(again.loss, rel=1e-13)
    j = objective.jacobian(state.theta).dense()
    before = _objective(heat()).jacobian(state.theta).dense()
    ratio = torch.sqrt(objective.collocation.weights / torch.tensor([1.0, 1.0, 2.0]))
    for rows, factor in zip(objective.collocation.condition_rows, ratio, strict=True):
        torch.testing.assert_close(j[rows], factor * before[rows], rtol=1e-12, atol=1e-14)


def test_weights_do_not_run_away_once_losses_are_tiny():
    objective = _objective(heat())
    state = objective.evaluate(parameters(objective.collocation))
    state.losses.copy_(torch.tensor([1e-30, 1e-20, 1e-25], dtype=torch.float64))
    before = objective.collocation.weights / objective.collocation.weights.mean()
    objective.balance(state)
    torch.testing.assert_close(objective.collocation.weights, before, rtol=1e-9, atol=0)


def test_replaced_points_keep_the_weights_and_the_scale():
    objective = _objective(heat())
    theta = parameters(objective.collocation)
    objective.balance(objective.evaluate(theta))
    weights, scale = objective.collocation.weights.clone(), objective.evaluate(theta)
    others = heat().collocation(seed=1).points
    objective.replace_points(others)
    state = objective.evaluate(theta)
    assert torch.equal(objective.collocation.weights, weights)
    assert all(torch.equal(a, b) for a, b in zip(objective.collocation.points, others, strict=True))
    assert not torch.equal(state.residual, scale.residual)
    torch.testing.assert_close(state.residual / state.raw, objective.collocation.scale, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_loss(name):
    case = CASES[name]()
    objective = _objective(case)
    objective.collocation.chunk = 5
    theta = parameters(objective.collocation)
    state, gradient = objective.gradient(theta)
    leaf = theta.clone().requires_grad_()
    (want,) = torch.autograd.grad(
        reference.residual(objective.collocation, case.naive, leaf).square().sum(), leaf
    )
    assert reference.relative_error(gradient, want) < 1e-9
    torch.testing.assert_close(state.residual, objective.evaluate(theta).residual, rtol=1e-12, atol=1e-13)
    assert state.loss == pytest.approx(objective.evaluate(theta).loss, rel=1e-12)


def test_the_gradient_is_summed_over_ranks():
    case = heat()
    theta = parameters(_objective(case).collocation)
    _, alone = _objective(case).gradient(theta)
    parts = on_ranks(3, lambda place: _objective(case, place).gradient(theta)[1])
    for part in parts:
        assert torch.equal(part, parts[0])
        assert reference.relative_error(part, alone) < 1e-12
