"""One step of SNGD against the dense one, and what it allocates."""

import pytest
import torch

from sngd import MLP, SNGD
from sngd.collectives import LocalRanks
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.problems import heat
from sngd.residual import Collocation
from sngd.sketch import test_matrix as draw_omega
from tests import reference
from tests.allocations import largest_allocation


def objective_of(problem, hidden, plan: Plan) -> Objective:
    network = MLP(hidden=hidden).build(problem.domain, 1, 0)
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(problem.conditions)]
    weights = torch.ones(len(points), dtype=torch.float64)
    return Objective(Collocation(problem, network, points, weights), LocalRanks(), plan)


@pytest.mark.parametrize("stable", [True, False])
def test_an_uncorrected_step_is_the_dense_sketched_step(stable):
    objective = objective_of(heat(60, 10, 20), (8, 8), Plan("rows", None, 0))
    state = objective.evaluate(objective.collocation.network.initial)
    config = SNGD(rank=12, corrections=0, adaptive_rank=False, stable_sketch=stable)
    stepper = config.start(objective, state, seed=5, rows=90)
    report = stepper.step(objective, 1)
    assert report.accepted
    j = objective.jacobian(state.theta).dense().numpy()
    omega = draw_omega(j.shape[1], 12, 5, 1, torch.float64, torch.device("cpu")).numpy()
    want = reference.sketched_step(j, state.residual.numpy(), omega, report.damping)
    got = (stepper.state.theta - state.theta).numpy()
    assert reference.relative_error(got, want) < 1e-9


def step_allocation(plan: Plan) -> tuple[int, int, int]:
    """Largest storage of a whole step, N and P."""
    objective = objective_of(heat(700, 60, 80), (32, 32), plan)
    network = objective.collocation.network
    stepper = SNGD(rank=8).start(objective, objective.evaluate(network.initial), 0, 840)
    with largest_allocation() as seen:
        stepper.step(objective, 1)
        stepper.step(objective, 2)
    return seen.elements, 840, network.parameters


@pytest.mark.parametrize("keep", ["factors", "nothing"])
def test_a_step_allocates_nothing_of_size_pp_nn_or_np(keep):
    chunk = 40
    elements, n, p = step_allocation(Plan(keep, chunk, 0))
    # Allowed: the rows of one chunk, P×k, n×k and the channels of one chunk (or, kept, of each chunk alone).
    assert elements <= max(chunk * p, p * 16, n * 16)
    assert elements < 0.1 * min(n * n, n * p, p * p)


def test_the_count_sees_rows_that_are_kept_whole():
    elements, n, p = step_allocation(Plan("rows", None, 0))
    assert elements > 0.5 * n * p


def test_the_rank_grows_with_the_spectrum_and_stays_within_bounds():
    objective = objective_of(heat(200, 20, 40), (10, 10), Plan("rows", None, 0))
    state = objective.evaluate(objective.collocation.network.initial)
    stepper = SNGD(rank=8, max_rank=20).start(objective, state, 0, 260)
    ranks = [stepper.step(objective, number).rank for number in range(1, 15)]
    assert ranks[0] == 8
    assert max(ranks) == 20
    fixed = SNGD(rank=8, adaptive_rank=False).start(objective, state, 0, 260)
    assert {fixed.step(objective, number).rank for number in range(1, 8)} == {8}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 0),
        ("max_rank", 3),
        ("corrections", -1),
        ("acceptance", 0.0),
        ("damping", float("nan")),
        ("cutoff", 1.0),
        ("halvings", -1),
        ("globalization", "armijo"),
    ],
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=rf"optimizer\.{field}="):
        SNGD(**{field: value})
