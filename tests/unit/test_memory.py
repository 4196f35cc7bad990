import pytest
import torch

from sngd.collectives import LocalRanks
from sngd.memory import available_bytes, make_plan
from sngd.objective import Objective
from tests.allocations import largest_allocation
from tests.problems import heat, parameters, system

CASES = {"heat": heat, "system": system}
# Budgets from far too much to far too little, a factor of 1.3 apart.
BUDGETS = [int(1e9 / 1.3**step) for step in range(60)]


def _plans(collocation, itemsize=8):
    plans = []
    for budget in BUDGETS:
        try:
            plans.append(make_plan(collocation, itemsize, budget))
        except ValueError:
            break
    return plans


@pytest.mark.parametrize("name", CASES)
def test_as_memory_shrinks_rows_then_factors_then_nothing_are_kept_and_then_it_is_refused(name):
    plans = _plans(CASES[name](240).collocation())
    kinds = [plan.keep for plan in plans]
    assert list(dict.fromkeys(kinds)) == ["rows", "factors", "nothing"]
    assert len(plans) < len(BUDGETS)
    for plan in plans:
        assert (plan.chunk is None) == (plan.keep == "rows")
    chunks = [plan.chunk for plan in plans if plan.chunk is not None]
    assert chunks == sorted(chunks, reverse=True)
    assert chunks[-1] == 1


@pytest.mark.parametrize("name", CASES)
def test_kept_rows_fit_into_half_of_the_budget(name):
    collocation = CASES[name](240).collocation()
    row_bytes = collocation.row_count * collocation.network.parameters * 8
    plans = _plans(collocation)
    least = min(plan.budget for plan in plans if plan.keep == "rows")
    assert row_bytes < least / 2
    assert any(plan.keep != "rows" and plan.budget > row_bytes for plan in plans)  # temporaries count, too


@pytest.mark.parametrize("name", CASES)
def test_one_chunk_fits_into_its_share_of_the_budget(name):
    collocation = CASES[name](240).collocation()
    for plan in _plans(collocation):
        if plan.chunk is not None and plan.chunk > 1:
            rows = plan.chunk * max(b.components for b in collocation.batches)
            assert rows * collocation.network.parameters * 8 <= plan.budget / 8


@pytest.mark.parametrize("keep", ["rows", "factors", "nothing"])
def test_passes_over_the_rows_stay_within_the_budget(keep):
    collocation = heat(240).collocation()
    # The middle of the budgets that give this plan.
    fitting = [plan for plan in _plans(collocation) if plan.keep == keep and plan.chunk != 1]
    plan = fitting[len(fitting) // 2] if keep != "rows" else fitting[-1]
    objective = Objective(collocation, LocalRanks(), plan)
    theta = parameters(collocation)
    omega = torch.ones(len(theta), 2, dtype=torch.float64)
    with largest_allocation() as seen:
        jacobian = objective.jacobian(theta)
        jacobian.normal_matmul(omega)
        jacobian.matmul(omega)
    assert seen.count > 0
    assert seen.peak_bytes <= plan.budget, seen


def test_single_precision_takes_half_the_memory():
    collocation = heat(240).collocation()
    least = {
        size: min(plan.budget for plan in _plans(collocation, size) if plan.keep == "rows") for size in (4, 8)
    }
    assert least[4] == pytest.approx(least[8] / 2, rel=0.31)


def test_a_budget_below_one_point_is_refused_with_what_it_would_take():
    collocation = heat().collocation()
    with pytest.raises(ValueError, match="memory_gb") as caught:
        make_plan(collocation, 8, 1000)
    assert "1,000 bytes" in str(caught.value)
    assert f"P={collocation.network.parameters}" in str(caught.value)


def test_available_memory_is_a_number_of_this_machine():
    free = available_bytes(torch.device("cpu"))
    assert 1e6 < free < 1e15
