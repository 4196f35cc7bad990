"""Training on R ranks: the same losses, the same parameters, in every arrangement of the step."""

import numpy as np
import pytest
import torch

from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d
from sngd.assembly import draw_points
from sngd.collectives import LocalRanks
from sngd.core import factor, orthonormalize, tsqr
from sngd.product import StoredProduct
from sngd.training import train
from tests.ranks.harness import Collect, run_ranks
from tests.ranks.runs import RANK, SMALL, STEPS, blocks_of, followed, losses, plan_of, runs

# Other arrangements of the same run.
FORMS = ["sharded", "sharded_blocks", "replicated", "replicated_blocks", "recomputed", "chunks"]
NAMES = ["heat", "burgers", "transport", "gaussian", "line_search", *FORMS]

# ---------------------------------------------------------------------------------------------
# One run on any number of ranks
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_losses_do_not_depend_on_the_number_of_ranks(name, size):
    alone, together = losses(name, 1), losses(name, size)
    assert len(alone) == STEPS
    assert alone[-1] < (0.8 if name == "line_search" else 0.5) * alone[0]
    assert [r["rank"] for r in followed(name, size)[0].records] == [
        r["rank"] for r in followed(name, 1)[0].records
    ]
    # A pseudo-inverse amplifies rounding by the inverse of its cut-off.
    tolerance = 1e-6 if name == "line_search" else 1e-10
    np.testing.assert_allclose(together, alone, rtol=tolerance)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("name", FORMS)
def test_where_basis_and_product_are_changes_nothing(name, size):
    """Replicated or sharded, in one block or several, A stored or recomputed: the run is the same."""
    plain = "bounded" if name in ("recomputed", "chunks") else "heat"  # both stay at their first rank
    np.testing.assert_allclose(losses(name, size), losses(plain, 1), rtol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_runs_above_are_arranged_as_their_names_say(size):
    how = {name: plan_of(name, size).arrange(RANK, runs()[name].optimizer.basis) for name in NAMES}
    for name, arrangement in how.items():
        assert arrangement.sharded == name.startswith("sharded"), name
        assert arrangement.stored == (name != "recomputed"), name
    for name in ("sharded_blocks", "replicated_blocks"):
        assert len(blocks_of(name, RANK, size)) > 1 or size == 1
    for name in ("recomputed", "chunks"):
        plan = plan_of(name, size)
        assert plan.chunk is not None
        assert plan.chunk < plan.sizes.points / 2


def test_2001_points_on_4_ranks():
    run = runs()["2001"]
    assert sum(c.points for c in run.problem.conditions) == 2001
    np.testing.assert_allclose(losses("2001", 4), losses("2001", 1), rtol=1e-10)
    assert followed("2001", 4)[0].result["points"] == 2001
    assert followed("2001", 4)[0].result["world_size"] == 4


@pytest.mark.parametrize("name", [*NAMES, "2001"])
def test_parameters_are_equal_bit_for_bit_on_all_ranks(name):
    first, *others = followed(name, 4)
    for other in others:
        assert torch.equal(first.theta, other.theta)


def test_balanced_weights_and_damping_agree_as_well():
    for mine, other in zip(followed("burgers", 1)[0].records, followed("burgers", 3)[0].records, strict=True):
        for key in ("weights", "losses"):
            np.testing.assert_allclose(list(other[key].values()), list(mine[key].values()), rtol=1e-9)
        for key in ("damping", "rank", "corrections", "evaluations"):
            assert other[key] == pytest.approx(mine[key], rel=1e-9), key
    weights = followed("burgers", 1)[0].records[-1]["weights"]
    assert sum(weights.values()) / len(weights) == pytest.approx(1.0)
    assert weights["equation"] != weights["initial"]


# ---------------------------------------------------------------------------------------------
# Points
# ---------------------------------------------------------------------------------------------


class _Place:
    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_shards_are_disjoint_and_make_up_the_whole_set(size):
    run = runs()["2001"]
    draw = lambda place: draw_points(run, 1, place, torch.device("cpu"), torch.float64)  # noqa: E731
    shards = [draw(_Place(rank, size)) for rank in range(size)]
    for number, whole in enumerate(draw(_Place(0, 1))):
        assert torch.equal(torch.cat([shard[number] for shard in shards]), whole)
        lengths = [len(shard[number]) for shard in shards]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("size", [3, 4])
def test_a_rank_without_a_point_of_a_condition(size):
    shares = [
        [c.points * (r + 1) // size - c.points * r // size for r in range(size)] for c in _conditions("few")
    ]
    assert 0 in shares[2]
    np.testing.assert_allclose(losses("few", size), losses("few", 1), rtol=1e-10)


def _conditions(name):
    return runs()[name].problem.conditions


def _fewer_points_than_ranks() -> RunConfig:
    domain = Box(x=(-1, 1))
    (X,) = domain.axes
    ode = Condition("equation", lambda u, p: d(u, X) - torch.cos(p[X]), domain.interior, 3)
    return RunConfig(Problem(domain, [ode]), MLP((5,)), SNGD(rank=3), **SMALL)


def _train_on_three_points(ranks):
    run, hook = _fewer_points_than_ranks(), Collect()
    train(run, ranks, torch.device("cpu"), hooks=[hook])
    return [record["loss"] for record in hook.records]


def test_a_rank_without_any_point():
    alone = _train_on_three_points(LocalRanks())
    together = run_ranks(4, _train_on_three_points)[0]
    # Both sequences fall to rounding level within the five steps.
    np.testing.assert_allclose(together, alone, rtol=1e-8, atol=1e-24)


# ---------------------------------------------------------------------------------------------
# TSQR and the core over ranks
# ---------------------------------------------------------------------------------------------

ROWS, COLUMNS = 37, 6


def _matrix() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    return a * 10.0 ** -torch.arange(COLUMNS), torch.randn(ROWS, generator=generator, dtype=torch.float64)


# The last of these leaves a rank with fewer rows than columns and one with none.
SPLITS = {2: [20, 17], 3: [0, 3, 34], 4: [33, 4, 0, 0]}


def _factor(ranks):
    a, r = (x.split(SPLITS[ranks.size])[ranks.rank] for x in _matrix())
    product = StoredProduct(a, ranks)
    core = factor(product.triangle(r))
    q = torch.sin(torch.arange(ROWS, dtype=torch.float64)).split(SPLITS[ranks.size])[ranks.rank]
    return tsqr(a, ranks), core, core.project(product.pull(q)), orthonormalize(a.clone(), ranks)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_tsqr_and_the_core_are_those_of_the_whole_matrix(size):
    a, r = _matrix()
    u, sigma, vt = np.linalg.svd(a.numpy(), full_matrices=False)
    q = np.sin(np.arange(ROWS))
    results = run_ranks(size, _factor)
    basis = torch.cat([q for *_, q in results])
    np.testing.assert_allclose((basis.T @ basis).numpy(), np.eye(COLUMNS), atol=1e-14)
    missed = a - basis @ (basis.T @ a)
    assert (missed.norm(dim=0) < 1e-14 * a.norm(dim=0)).all()
    for triangle, core, projected, _ in results:
        assert torch.equal(triangle, triangle.triu())
        np.testing.assert_allclose((triangle.T @ triangle).numpy(), (a.T @ a).numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(core.sigma.numpy(), sigma, rtol=1e-12)
        # Singular vectors have no sign of their own; U c and U Uᵀq have.
        signs = np.sign((core.v.numpy() * vt.T).sum(0))
        np.testing.assert_allclose(core.c.numpy() * signs, u.T @ r.numpy(), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(projected.numpy() * signs, u.T @ q, rtol=1e-9, atol=1e-11)
    for _, core, projected, _ in results[1:]:
        assert torch.equal(core.c, results[0][1].c)
        assert torch.equal(projected, results[0][2])
