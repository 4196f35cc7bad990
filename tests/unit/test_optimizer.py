"""One step of SNGD against the dense one, and what a step allocates."""

import math

import numpy as np
import pytest
import torch

from sngd import MLP, SNGD
from sngd.collectives import LocalRanks
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.sketch import draw_test_matrix
from tests import reference
from tests.allocations import largest_allocation
from tests.problems import CASES, Case, heat, parameters

SEED = 5
# Any candidate that lowers the loss is accepted, and none is corrected.
PLAIN = {"corrections": 0, "acceptance": 1e-9}


def _stepper(case: Case, config: SNGD, plan: Plan = Plan("rows", None, 0)):
    objective = Objective(case.collocation(), LocalRanks(), plan)
    state = objective.evaluate(parameters(objective.collocation))
    return objective, config.start(objective, state, SEED, objective.collocation.row_count)


def _dense(case: Case, objective: Objective, theta: torch.Tensor, k: int):
    """J, r and Ω of step 1, as arrays."""
    j = reference.jacobian(objective.collocation, case.naive, theta).numpy()
    r = reference.residual(objective.collocation, case.naive, theta).detach().numpy()
    omega = draw_test_matrix(len(theta), k, SEED, 1, torch.float64, torch.device("cpu")).numpy()
    return j, r, omega


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_dense_sketched_step(name, stable):
    case, k, damping = CASES[name](), 8, 100.0
    objective, stepper = _stepper(case, SNGD(rank=k, damping=damping, stable_sketch=stable, **PLAIN))
    theta = stepper.state.theta.clone()
    j, r, omega = _dense(case, objective, theta, k)
    report = stepper.step(objective, 1)
    sigma = np.linalg.svd(j @ reference.sketched_basis(j, omega), compute_uv=False)
    first = damping * sigma[0] ** 2 / math.sqrt(10)  # the first candidate
    assert report.accepted
    assert report.evaluations == 1
    assert report.damping == pytest.approx(first, rel=1e-8)
    np.testing.assert_allclose(report.sigma.numpy(), sigma, rtol=1e-6, atol=1e-9 * sigma[0])
    want = reference.sketched_step(j, r, omega, first)
    assert reference.relative_error(stepper.state.theta - theta, want) < 1e-7
    # The report's ratio is actual over predicted reduction of the linear model.
    lost = r @ r - stepper.state.loss
    predicted = r @ r - np.square(r + j @ want).sum()
    assert report.reduction_ratio == pytest.approx(lost / predicted, rel=1e-5)
    assert report.effective_dimension == pytest.approx((sigma**2 / (sigma**2 + first)).sum(), rel=1e-6)


@pytest.mark.parametrize("name", ["heat", "nonlinear"])
def test_a_sketch_of_full_rank_gives_the_damped_gauss_newton_step(name):
    case, damping = CASES[name](), 1.0
    objective, stepper = _stepper(case, SNGD(rank=10_000, damping=damping, **PLAIN))
    theta = stepper.state.theta.clone()
    j, r, _ = _dense(case, objective, theta, 1)
    report = stepper.step(objective, 1)
    assert report.rank == min(j.shape)
    want = reference.gauss_newton_step(j, r, report.damping)
    assert reference.relative_error(stepper.state.theta - theta, want) < 1e-6


@pytest.mark.parametrize("plan", [Plan("factors", 7, 0), Plan("nothing", 7, 0), Plan("nothing", 1, 0)])
def test_a_step_does_not_depend_on_the_memory_plan(plan):
    case, config = CASES["system"](), SNGD(rank=12)
    (whole, first), (chunked, second) = _stepper(case, config), _stepper(case, config, plan)
    for number in (1, 2, 3):
        mine, other = first.step(whole, number), second.step(chunked, number)
        assert first.state.loss == pytest.approx(second.state.loss, rel=1e-9)
        assert (mine.evaluations, mine.corrections) == (other.evaluations, other.corrections)


def test_corrections_beat_the_plain_step():
    case = heat(60)
    losses = {}
    for corrections in (0, 6):
        objective, stepper = _stepper(case, SNGD(rank=40, corrections=corrections))
        for number in range(1, 9):
            stepper.step(objective, number)
        losses[corrections] = stepper.state.loss
    assert losses[6] < 0.3 * losses[0]


def test_a_rejected_step_leaves_the_state_and_raises_the_damping():
    damping = 1e-12
    objective, stepper = _stepper(heat(), SNGD(rank=8, damping=damping))
    before = stepper.state
    objective.evaluate = lambda theta: before  # nothing is ever gained
    report = stepper.step(objective, 1)
    assert not report.accepted
    assert stepper.state is before
    sigma_1 = float(report.sigma[0])
    assert report.damping == pytest.approx(1000 * damping * sigma_1**2)
    assert stepper.save() == {"damping": report.damping, "rank": 8}


def test_rank_is_bounded_by_the_configuration_and_by_rows_and_parameters():
    objective, stepper = _stepper(heat(), SNGD(rank=8, max_rank=10))
    ranks = [stepper.step(objective, number).rank for number in range(1, 9)]
    assert ranks[0] == 8
    assert max(ranks) == 10
    objective, stepper = _stepper(heat(), SNGD(rank=1000))
    rows, p = objective.collocation.row_count, objective.collocation.network.parameters
    assert stepper.step(objective, 1).rank == min(rows, p)


def test_a_rank_that_is_not_adaptive_stays():
    objective, stepper = _stepper(heat(), SNGD(rank=8, adaptive_rank=False))
    assert [stepper.step(objective, number).rank for number in range(1, 6)] == [8] * 5


def test_line_search_tries_every_step_length_once():
    objective, stepper = _stepper(heat(), SNGD(rank=8, globalization="line_search", halvings=9))
    report = stepper.step(objective, 1)
    assert (report.evaluations, report.corrections, report.damping) == (10, 0, 0.0)
    assert report.rank == stepper.form.rank == 8


# ---------------------------------------------------------------------------------------------
# Memory
# ---------------------------------------------------------------------------------------------

K, CHUNK = 6, 20


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("keep", ["factors", "nothing"])
def test_a_step_allocates_nothing_of_the_size_of_the_jacobian_the_gramian_or_the_kernel(keep, stable):
    case = Case(heat(500).problem, heat(500).naive, MLP((20, 20)))
    config = SNGD(rank=K, adaptive_rank=False, stable_sketch=stable, corrections=2)
    objective, stepper = _stepper(case, config, Plan(keep, CHUNK, 0))
    n, p = objective.jacobian(stepper.state.theta).shape
    assert len(case.problem.conditions) * CHUNK < n
    with largest_allocation() as seen:
        report = stepper.step(objective, 1)
    assert report.accepted
    assert report.corrections > 0
    # Y and Q, [A | r], and the rows of one chunk.
    allowed = max(p * K, n * (K + 1), CHUNK * p)
    assert allowed < min(n * n, n * p, p * p) / 20
    assert 0 < seen.elements <= allowed, seen


def test_the_watch_sees_a_jacobian_that_is_kept():
    """So that the test above could fail."""
    case = Case(heat(500).problem, heat(500).naive, MLP((20, 20)))
    objective, stepper = _stepper(case, SNGD(rank=K), Plan("rows", None, 0))
    n, p = objective.jacobian(stepper.state.theta).shape
    with largest_allocation() as seen:
        stepper.step(objective, 1)
    assert seen.elements > n * p / 4


def test_the_damping_has_a_floor_at_the_rounding_of_the_sketch():
    objective, stepper = _stepper(heat(), SNGD(rank=8, damping=1e-40))
    report = stepper.step(objective, 1)
    floor = (np.finfo(float).eps * float(report.sigma[0])) ** 2
    assert report.damping >= floor
