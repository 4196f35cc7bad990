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


def _stepper(case: Case, config: SNGD, plan: Plan = Plan("factors", None, 0)):
    objective = Objective(case.collocation(), LocalRanks(), plan)
    state = objective.evaluate(parameters(objective.collocation))
    return objective, config.start(objective, state, SEED, objective.collocation.row_count)


def _dense(case: Case, objective: Objective, theta: torch.Tensor, k: int):
    """J, r and of step 1 Ω (Khatri–Rao), as arrays."""
    j = reference.jacobian(objective.collocation, case.naive, theta).numpy()
    r = reference.residual(objective.collocation, case.naive, theta).detach().numpy()
    network = objective.collocation.network
    omega = [draw_test_matrix(kind, network, k, SEED, 1, theta) for kind in ("khatri_rao", "gaussian")]
    return j, r, {"khatri_rao": omega[0].dense(network).numpy(), "gaussian": omega[1].matrix.numpy()}


@pytest.mark.parametrize("basis", ["replicated", "sharded"])
@pytest.mark.parametrize("test_matrix", ["khatri_rao", "gaussian"])
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_dense_sketched_step(name, test_matrix, basis):
    case, k, damping = CASES[name](), 8, 100.0
    config = SNGD(rank=k, damping=damping, test_matrix=test_matrix, basis=basis, recycle=False, **PLAIN)
    objective, stepper = _stepper(case, config)
    theta = stepper.state.theta.clone()
    j, r, omegas = _dense(case, objective, theta, k)
    omega = omegas[test_matrix]
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
    saved = stepper.save()
    assert (saved["damping"], saved["rank"]) == (report.damping, 8)
    assert saved["last"] is None


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


@pytest.mark.parametrize("basis", ["replicated", "sharded"])
@pytest.mark.parametrize("keep", ["factors", "nothing"])
def test_a_step_allocates_nothing_of_the_size_of_the_jacobian_the_gramian_or_the_kernel(
    keep, basis, monkeypatch
):
    monkeypatch.setattr("sngd.factors._TILE_BYTES", 1 << 14)
    case = Case(heat(500).problem, heat(500).naive, MLP((20, 20)))
    config = SNGD(rank=K, adaptive_rank=False, basis=basis, corrections=2)
    objective, stepper = _stepper(case, config, Plan(keep, CHUNK, 0))
    n, p = objective.jacobian(stepper.state.theta).shape
    with largest_allocation() as seen:
        report = stepper.step(objective, 1)
    assert report.accepted
    assert report.corrections > 0
    # Y and Q, [A | r], and a tile of rows.
    allowed = max(p * K, n * (K + 1), (1 << 14) // 8)
    assert allowed < min(n * n, n * p, p * p) / 20
    assert 0 < seen.elements <= allowed, seen


def test_the_watch_sees_a_jacobian_in_one_piece():
    """So that the test above could fail."""
    case = Case(heat(500).problem, heat(500).naive, MLP((20, 20)))
    objective, _ = _stepper(case, SNGD(rank=K))
    jacobian = objective.jacobian(objective.collocation.network.initial)
    with largest_allocation() as seen:
        jacobian.dense()
    assert seen.elements == jacobian.shape[0] * jacobian.shape[1]


def test_the_gradient_and_the_last_displacement_are_in_the_basis():
    """With them the first step's model knows all of the gradient, and the next the way that was gone."""
    case, k = heat(60), 6
    objective, stepper = _stepper(case, SNGD(rank=k, adaptive_rank=False))
    thetas = [stepper.state.theta]
    for number in (1, 2, 3):
        bases, linearize = [], stepper.form.linearize
        stepper.form.linearize = lambda *a, f=linearize, b=bases: b.append(f(*a)) or b[-1]
        state = stepper.state
        assert stepper.step(objective, number).accepted
        stepper.form.linearize = linearize
        q = bases[0].basis.matrix
        assert q.shape == (len(state.theta), k)
        gradient = objective.jacobian(state.theta).rmatmul(state.residual)
        wanted = [gradient] if number == 1 else [gradient, thetas[-1] - thetas[-2]]
        for direction in wanted:
            assert float((direction - q @ (q.T @ direction)).norm() / direction.norm()) < 1e-9
        thetas.append(stepper.state.theta)
    # without them they are not
    objective, stepper = _stepper(case, SNGD(rank=k, recycle=False))
    model = stepper.form.linearize(objective, stepper.state, 1)
    q, gradient = model.basis.matrix, objective.jacobian(thetas[0]).rmatmul(stepper.state.residual)
    assert float((gradient - q @ (q.T @ gradient)).norm() / gradient.norm()) > 1e-3


def test_the_damping_has_a_floor_at_the_rounding_of_the_sketch():
    objective, stepper = _stepper(heat(), SNGD(rank=8, damping=1e-40))
    report = stepper.step(objective, 1)
    floor = (np.finfo(float).eps * float(report.sigma[0])) ** 2
    assert report.damping >= floor
