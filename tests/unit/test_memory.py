"""The memory plan: what it decides as the budget shrinks, and that a step holds no more than it says."""

import dataclasses

import pytest
import torch

from sngd import MLP, SNGD
from sngd.collectives import LocalRanks
from sngd.memory import Arrangement, Plan, make_plan
from sngd.objective import Objective
from sngd.sizes import Sizes, available_bytes
from tests.allocations import Allocations, largest_allocation
from tests.problems import Case, heat, parameters, system
from tests.thread_ranks import on_ranks

CPU, TILE = torch.device("cpu"), 1 << 12
CASES = {"heat": heat, "system": system}
# Budgets from far too much to far too little, a factor of 1.3 apart.
BUDGETS = [int(1e9 / 1.3**step) for step in range(60)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch) -> None:
    """A tile would be larger than everything else of these problems."""
    monkeypatch.setattr("sngd.factors._TILE_BYTES", TILE)


def sizes_of(case: Case, ranks: int = 1, dtype=torch.float64, sketch=None) -> Sizes:
    network = case.network.build(case.problem.domain, len(case.problem.fields), 0)
    return Sizes.of(case.problem, network, ranks, dtype, sketch or dtype, CPU)


def plans_of(sizes: Sizes) -> list[Plan]:
    plans = []
    for budget in BUDGETS:
        try:
            plans.append(make_plan(sizes, budget))
        except ValueError:
            break
    return plans


@pytest.mark.parametrize("name", CASES)
def test_sizes_are_those_of_the_rank_that_has_most(name):
    case = CASES[name](25)
    for ranks in (1, 3):
        sizes = sizes_of(case, ranks)
        shards = [case.collocation(rank=r, ranks=ranks) for r in range(ranks)]
        assert sizes.points >= max(sum(len(x) for x in shard.points) for shard in shards)
        assert sizes.rows >= max(shard.row_count for shard in shards)
        assert sizes.rows <= max(shard.row_count for shard in shards) + 2 * len(case.problem.conditions)
        batches = shards[0].batches
        assert sizes.channels == max(len(b.rules.channels) for b in batches)
        assert sizes.components == max(b.components for b in batches)
        assert sizes.parameters == shards[0].network.parameters
        assert sizes.tile == TILE * torch.get_num_threads()


# ---------------------------------------------------------------------------------------------
# Decisions
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_as_memory_shrinks_factors_then_nothing_are_kept_and_then_it_is_refused(name):
    plans = plans_of(sizes_of(CASES[name](2400)))
    assert list(dict.fromkeys(plan.keep for plan in plans)) == ["factors", "nothing"]
    assert len(plans) < len(BUDGETS)
    assert plans[0].chunk is None
    chunks = [plan.chunk for plan in plans if plan.chunk is not None]
    assert chunks == sorted(chunks, reverse=True)
    assert chunks[0] > 10 * chunks[-1]


@pytest.mark.parametrize("name", CASES)
def test_kept_factors_and_a_chunk_have_their_shares_of_the_budget(name):
    sizes = sizes_of(CASES[name](2400))
    for plan in plans_of(sizes):
        items = plan.items(1)
        assert items["factors of the Jacobian"] <= 0.4 * plan.budget
        assert (items["factors of the Jacobian"] > 0) == (plan.keep == "factors")
        if plan.chunk != 1:
            assert plan.items_of_any_step()["work space"] <= plan.budget / 8


def test_the_largest_rank_fits_and_the_next_does_not():
    plans = [plan for plan in plans_of(sizes_of(heat(2400))) if plan.largest_rank(1000) < 1000]
    assert len(plans) > 3
    for plan in plans:
        largest = plan.largest_rank(1000)
        assert largest == 1 or plan.total(largest) <= plan.budget
        assert plan.total(largest + 1) > plan.budget
        assert plan.largest_rank(max(1, largest - 1)) == max(1, largest - 1)


@pytest.mark.parametrize("basis", ["auto", "replicated", "sharded", "landmarks"])
@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("keep", ["factors", "nothing"])
def test_the_largest_rank_grows_with_the_budget(ranks, basis, keep):
    sizes = sizes_of(Case(heat(2400).problem, heat(2400).naive, MLP((200, 200))), ranks)
    most = [
        Plan(keep, 50, budget, sizes).largest_rank(2000, basis)
        for budget in range(2_000_000, 400_000_000, 2_000_000)
    ]
    assert most == sorted(most)
    assert most[0] < most[len(most) // 2] < most[-1]


def test_a_rank_that_fits_shards_or_recomputes_as_the_step_will():
    """The rank is the largest for the arrangement that the configuration asks for, not for another."""
    for plan in plans_of(sizes_of(heat(600))):
        for basis in ("replicated", "sharded", "landmarks"):
            largest = plan.largest_rank(500, basis)
            assert largest == 1 or plan.total(largest, plan.arrange(largest, basis)) <= plan.budget


def test_without_a_budget_everything_is_kept():
    for sizes in (None, sizes_of(heat())):
        plan = Plan("factors", None, 0, sizes)
        assert plan.largest_rank(77) == 77
        assert plan.arrange(10).stored
        assert not plan.arrange(10).sharded
        assert plan.arrange(10, "sharded").sharded


def test_a_product_is_recomputed_where_it_does_not_fit_and_the_basis_is_whole():
    sizes = sizes_of(heat(2400))
    roomy, tight = Plan("nothing", 50, 10**8, sizes), Plan("nothing", 50, 10**8, sizes)
    stored, recomputed = roomy.total(40), roomy.total(40, Arrangement(False, None, False))
    assert recomputed < stored
    assert dataclasses.replace(tight, budget=stored).arrange(40).stored
    tight = dataclasses.replace(tight, budget=stored - 1)
    assert not tight.arrange(40).stored
    assert tight.arrange(40, "sharded").stored  # a part of Q alone cannot recompute A
    assert tight.largest_rank(40) == 40


def test_a_large_basis_is_spread_over_ranks_where_each_has_many_more_rows_than_columns():
    wide = Case(heat().problem, heat().naive, MLP((300, 300)))
    p = sizes_of(wide).parameters
    for ranks, rank, sharded in ((1, 100, False), (2, 100, True), (4, 20, True), (4, 5, False)):
        plan = Plan("factors", None, 0, sizes_of(wide, ranks))
        assert plan.arrange(rank).sharded == sharded, (ranks, rank)
        assert plan.arrange(rank, "sharded").sharded
        assert not plan.arrange(rank, "replicated").sharded
    few = Plan("factors", None, 0, sizes_of(wide, 64))
    assert not few.arrange(p // (3 * 64)).sharded


def test_blocks_overlap_collectives_where_factors_are_kept():
    wide = Case(heat().problem, heat().naive, MLP((300, 300)))
    sizes = sizes_of(wide, 4)
    p = sizes.parameters
    assert Plan("factors", None, 0, sizes).arrange(100).block == -(-p // 6)
    assert Plan("nothing", None, 0, sizes).arrange(100).block == -(-p // 2)  # factors are made for each
    assert Plan("nothing", None, 0, sizes).arrange(100, "replicated").block is None
    assert Plan("factors", None, 0, sizes).arrange(1).block is None  # too little to cut


def test_single_precision_takes_half_the_memory():
    kinds = (torch.float64, None), (torch.float64, torch.float32), (torch.float32, None)
    double, mixed, single = (Plan("factors", 50, 0, sizes_of(heat(2400), 1, *k)).items(40) for k in kinds)
    sketch = ("factors of the Jacobian", "basis Q", "product A")
    vectors = ("parameters", "points and residuals")
    for name in sketch:
        assert mixed[name] == single[name] == double[name] / 2
    for name in vectors:
        assert mixed[name] == double[name] == 2 * single[name]


def test_a_budget_below_one_point_is_refused_with_what_it_would_take():
    sizes = sizes_of(heat())
    with pytest.raises(ValueError, match="memory_gb") as caught:
        make_plan(sizes, 1000)
    assert "1,000 bytes" in str(caught.value)
    assert f"P={sizes.parameters}" in str(caught.value)


# ---------------------------------------------------------------------------------------------
# What is really held
# ---------------------------------------------------------------------------------------------

RANK = 16
TALL = Case(heat(240).problem, heat(240).naive, MLP((8, 8)))  # n·k is large
WIDE = Case(heat(40).problem, heat(40).naive, MLP((40, 40)))  # P·k is large
CHUNK = 40


def step_of(case: Case, plan: Plan, how: Arrangement, ranks: int) -> list[Allocations]:
    """What each rank allocates in its second step."""

    subspace = "landmarks" if how.landmarks else "range_finder"

    class Fixed(Plan):
        def arrange(self, rank, basis="auto"):
            return how

    fixed = Fixed(plan.keep, plan.chunk, 0, plan.sizes)

    def work(group) -> Allocations:
        objective = Objective(case.collocation(rank=group.rank, ranks=group.size), group, fixed)
        state = objective.evaluate(parameters(objective.collocation))
        config = SNGD(rank=RANK, adaptive_rank=False, corrections=1, subspace=subspace)
        stepper = config.start(objective, state, 0, 10**6)
        stepper.step(objective, 1)
        with largest_allocation() as seen:
            stepper.step(objective, 2)
        return seen

    return [work(LocalRanks())] if ranks == 1 else on_ranks(ranks, work)


@pytest.mark.parametrize("keep", ["factors", "nothing"])
@pytest.mark.parametrize(
    ("ranks", "how"),
    [
        (1, Arrangement(False, None, True)),
        (1, Arrangement(False, None, False)),
        (2, Arrangement(False, 400, True)),
        (2, Arrangement(True, 400, True)),
        (3, Arrangement(True, None, True)),
        (1, Arrangement(False, None, True, landmarks=True)),
        (2, Arrangement(False, None, True, landmarks=True)),
    ],
    ids=["stored", "recomputed", "blocks", "sharded blocks", "sharded", "landmarks", "landmarks of 2"],
)
@pytest.mark.parametrize("case", [TALL, WIDE], ids=["tall", "wide"])
def test_a_step_holds_no_more_than_the_plan_says(case, ranks, how, keep):
    plan = Plan(keep, CHUNK, 0, sizes_of(case, ranks))
    total = plan.total(RANK, how) * (1.2 if how.sharded else 1.0)  # ranks as threads stack what all send
    for seen in step_of(case, plan, how, ranks):
        assert total / 8 < seen.peak_bytes <= total, (plan.items(RANK, how), seen)


def test_the_plan_counts_the_basis_where_it_is_all_there_is(monkeypatch):
    """Copies of a factorisation are bounded: what is left is Q, and what it is made from."""
    monkeypatch.setattr("sngd.core._GROUP_NUMBERS", 1)
    monkeypatch.setattr("sngd.core._TILE_ROWS", 64)
    monkeypatch.setattr("sngd.sizes._QR_NUMBERS", 3 * 64 * RANK)
    plan, how = Plan("nothing", 2, 0, sizes_of(WIDE)), Arrangement(False, None, True)
    items, total = plan.items(RANK, how), plan.total(RANK, how)
    assert items["basis Q"] > total / 2
    (seen,) = step_of(WIDE, plan, how, 1)
    assert total / 2 < seen.peak_bytes <= 1.05 * total, (items, seen)


def test_a_recomputed_product_holds_nothing_of_rows_times_columns():
    plan = Plan("factors", CHUNK, 0, sizes_of(TALL))
    n, p = plan.sizes.rows, plan.sizes.parameters
    assert n > 3 * p
    (seen,) = step_of(TALL, plan, Arrangement(False, None, False), 1)
    assert seen.elements < n * RANK / 2, seen
    (seen,) = step_of(TALL, plan, Arrangement(False, None, True), 1)
    assert seen.elements >= n * RANK, "the check above could not fail"


def test_a_sharded_basis_holds_nothing_of_parameters_times_columns():
    plan = Plan("factors", CHUNK, 0, sizes_of(WIDE, 3))
    p = plan.sizes.parameters
    for seen in step_of(WIDE, plan, Arrangement(True, 200, True), 3):
        assert seen.elements < p * RANK / 2, seen
    for seen in step_of(WIDE, plan, Arrangement(False, 200, True), 3):
        assert seen.elements >= p * RANK, "the check above could not fail"


def test_landmarks_hold_nothing_of_parameters_times_columns():
    plan, how = Plan("factors", CHUNK, 0, sizes_of(WIDE)), Arrangement(False, None, True, landmarks=True)
    assert sum(plan.items(RANK, how).values()) < plan.total(RANK, Arrangement(False, None, True))
    (seen,) = step_of(WIDE, plan, how, 1)
    assert seen.elements < plan.sizes.parameters * RANK / 2, seen
    (seen,) = step_of(WIDE, plan, Arrangement(False, None, True), 1)
    assert seen.elements >= plan.sizes.parameters * RANK, "the check above could not fail"


def test_the_plan_counts_landmarks_where_they_are_most_of_it():
    wide = Case(heat(8).problem, heat(8).naive, MLP((60,) * 9))
    plan, how = Plan("nothing", 1, 0, sizes_of(wide)), Arrangement(False, None, True, landmarks=True)
    items, total = plan.items(RANK, how), plan.total(RANK, how)
    (seen,) = step_of(wide, plan, how, 1)
    assert items["landmarks"] + items["vectors in Q"] > total / 4
    assert total / 2 < seen.peak_bytes <= total, (items, seen)


def test_available_memory_is_a_number_of_this_machine():
    free = available_bytes(CPU)
    assert 1e6 < free < 1e15
