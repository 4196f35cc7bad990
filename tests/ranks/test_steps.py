"""Training on R ranks: the same losses, the same parameters, and what travels between them."""

from dataclasses import dataclass
from functools import cache
from math import pi
from unittest.mock import patch

import numpy as np
import pytest
import torch

from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d
from sngd.collectives import LocalRanks
from sngd.core import Core, factor, tsqr
from sngd.problems import burgers, heat, transport
from sngd.train import draw_points, train
from tests.ranks.harness import Collect, run_ranks

STEPS = 5
SMALL = {"max_steps": STEPS, "evaluate_points": 200, "device": "cpu", "memory_gb": 0.5}


def _runs() -> dict[str, RunConfig]:
    return {
        "heat": RunConfig(heat(101, 13, 18), MLP((10, 10)), SNGD(rank=24), **SMALL),
        "burgers": RunConfig(burgers(0.05, 151, 31), MLP((8, 8)), SNGD(rank=24), balance=True, **SMALL),
        "transport": RunConfig(
            transport(3.0, 127, 29), MLP((9, 9)), SNGD(rank=20), resample_every=1, **SMALL
        ),
        "2001": RunConfig(heat(1501, 167, 333), MLP((8, 8)), SNGD(rank=24), **SMALL),
        "plain": RunConfig(heat(101, 13, 18), MLP((10, 10)), SNGD(rank=24, stable_sketch=False), **SMALL),
        "chunks": RunConfig(heat(101, 13, 18), MLP((10, 10)), SNGD(rank=24), **{**SMALL, "memory_gb": 3e-4}),
        "few": RunConfig(heat(60, 3, 2), MLP((8, 8)), SNGD(rank=16), **SMALL),
        "line_search": RunConfig(
            heat(101, 13, 18), MLP((10, 10)), SNGD(rank=24, globalization="line_search", halvings=6), **SMALL
        ),
    }


@dataclass
class Followed:
    """One rank's view of a run; records on rank 0 only.

    Args:
        records: lines of the history.
        theta: final parameters.
        projections: calls of Core.project per step.
        payloads: (label, numbers, bytes) per step; what came before the first step stands first.
    """

    records: list
    theta: torch.Tensor
    projections: list
    payloads: list
    result: dict


def _follow(ranks, name: str) -> Followed:
    hook, calls, projections, payloads = Collect(), [], [], []
    project, agree = Core.project, train.__globals__["_Loop"]._agree

    def counted(core, *arguments):
        calls.append(1)
        return project(core, *arguments)

    def noted(loop, reason):  # the last exchange of a step
        decided = agree(loop, reason)
        projections.append(len(calls))
        payloads.append(list(getattr(ranks, "payloads", ())))
        return decided

    with patch.object(Core, "project", counted), patch("sngd.train._Loop._agree", noted):
        trained = train(_runs()[name], ranks, torch.device("cpu"), hooks=[hook])
    per_step = np.diff([0, *projections]).tolist()
    return Followed(hook.records, trained.theta, per_step, payloads, trained.result)


@cache
def _followed(name: str, size: int) -> list[Followed]:
    return [_follow(LocalRanks(), name)] if size == 1 else run_ranks(size, _follow, name)


def _losses(name: str, size: int) -> list[float]:
    return [record["loss"] for record in _followed(name, size)[0].records]


# ---------------------------------------------------------------------------------------------
# One run on any number of ranks
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", ["heat", "burgers", "transport", "plain", "chunks", "line_search"])
def test_losses_do_not_depend_on_the_number_of_ranks(name, size):
    alone, together = _losses(name, 1), _losses(name, size)
    assert len(alone) == STEPS
    assert alone[-1] < 0.5 * alone[0]
    # A pseudo-inverse amplifies rounding by the inverse of its cut-off.
    tolerance = 1e-6 if name == "line_search" else 1e-10
    np.testing.assert_allclose(together, alone, rtol=tolerance)


def test_2001_points_on_4_ranks():
    run = _runs()["2001"]
    assert sum(c.points for c in run.problem.conditions) == 2001
    np.testing.assert_allclose(_losses("2001", 4), _losses("2001", 1), rtol=1e-10)
    assert _followed("2001", 4)[0].result["points"] == 2001
    assert _followed("2001", 4)[0].result["world_size"] == 4


@pytest.mark.parametrize("name", ["heat", "burgers", "transport", "2001"])
def test_parameters_are_equal_bit_for_bit_on_all_ranks(name):
    first, *others = _followed(name, 4)
    for other in others:
        assert torch.equal(first.theta, other.theta)


def test_balanced_weights_and_damping_agree_as_well():
    for mine, other in zip(
        _followed("burgers", 1)[0].records, _followed("burgers", 3)[0].records, strict=True
    ):
        for key in ("weights", "losses"):
            np.testing.assert_allclose(list(other[key].values()), list(mine[key].values()), rtol=1e-9)
        for key in ("damping", "rank", "corrections", "evaluations"):
            assert other[key] == pytest.approx(mine[key], rel=1e-9), key
    weights = _followed("burgers", 1)[0].records[-1]["weights"]
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
    run = _runs()["2001"]
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
    np.testing.assert_allclose(_losses("few", size), _losses("few", 1), rtol=1e-10)


def _conditions(name):
    return _runs()[name].problem.conditions


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
# What travels
# ---------------------------------------------------------------------------------------------

FLOAT64 = 8
VOTES = 5 * 4  # one float32 for each reason to stop


def _expected(name: str, record: dict, projections: int, size: int) -> dict[str, tuple[int, int]]:
    """The table of METHOD §9, for one step: calls and bytes by label."""
    run = _runs()[name]
    k, conditions = record["rank"], len(run.problem.conditions)
    parameters = _followed(name, 2)[0].result["parameters"]
    resampled = bool(run.resample_every) and record["step"] > 1
    evaluations = record["evaluations"] + resampled
    triangles = [k + 1, k] if run.optimizer.stable_sketch else [k + 1]  # of [A | r] and of JΩ
    table = {
        "losses": (evaluations, evaluations * conditions * FLOAT64),
        "sketch": (1, parameters * k * FLOAT64),
        "triangles": (len(triangles), size * sum(width**2 for width in triangles) * FLOAT64),
        "projections": (projections, projections * k * FLOAT64),
        # the second is whether a residual failed on the new points
        "control": (1 + resampled, VOTES + resampled * size * FLOAT64),
    }
    return {what: cost for what, cost in table.items() if cost[0]}


def _start(name: str, size: int) -> int:
    """Bytes before the first step: losses, and whether a residual failed on a rank."""
    return (len(_conditions(name)) + size) * FLOAT64


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", ["heat", "burgers", "transport", "plain", "chunks", "line_search"])
def test_what_travels_in_a_step_is_what_the_table_says(name, size):
    followed = _followed(name, size)[0]
    for record, projections in zip(followed.records, followed.projections, strict=True):
        traffic = {what: (t["calls"], t["bytes"]) for what, t in record["traffic"].items()}
        assert traffic == _expected(name, record, projections, size), record
        if name != "line_search":
            assert projections >= record["corrections"]
            assert record["evaluations"] >= 1 + record["corrections"]


@pytest.mark.parametrize("name", ["heat", "transport"])
def test_the_accounts_of_steps_and_run_add_up(name):
    for followed, size in ((_followed(name, size)[0], size) for size in (2, 3)):
        moved = np.cumsum([sum(t["bytes"] for t in r["traffic"].values()) for r in followed.records])
        assert [r["bytes_moved"] for r in followed.records] == (_start(name, size) + moved).tolist()
        total = followed.result["traffic"]
        memory = size * 8  # gathered at the end, one int64 of each rank
        assert sum(t["bytes"] for t in total.values()) == followed.records[-1]["bytes_moved"] + memory
        for what, account in total.items():
            steps = [r["traffic"][what] for r in followed.records if what in r["traffic"]]
            assert account["seconds"] >= sum(t["seconds"] for t in steps) - 1e-5 > 0, what
            before = {"losses": 1, "control": 1 + 1}.get(what, 0)  # and the memory afterwards
            assert account["calls"] == sum(t["calls"] for t in steps) + before, what


def test_one_process_sends_nothing():
    followed = _followed("heat", 1)[0]
    assert {record["bytes_moved"] for record in followed.records} == {0}
    assert all(record["traffic"] == {} for record in followed.records)
    assert followed.result["traffic"] == {}


@pytest.mark.parametrize("name", ["heat", "transport", "2001"])
def test_nothing_of_the_size_of_points_rows_or_the_gramian_travels(name):
    run, size = _runs()[name], 4
    ranks = {record["rank"] for record in _followed(name, size)[0].records}
    conditions = len(run.problem.conditions)
    rows = sum(c.points for c in run.problem.conditions)
    for followed in _followed(name, size):
        parameters = followed.theta.numel()
        seen = {(what, numbers) for what, numbers, _ in followed.payloads[-1]}
        allowed = {("losses", conditions), ("control", 5), ("control", size)}
        for k in ranks:
            allowed |= {("sketch", parameters * k), ("projections", k)}
            allowed |= {("triangles", size * k**2), ("triangles", size * (k + 1) ** 2)}
        assert seen == allowed
        large = {rows, parameters**2, rows * parameters, *(rows * k for k in ranks)}
        assert not large & {numbers for _, numbers in seen}


def test_the_bytes_of_a_step_do_not_depend_on_the_number_of_points():
    """Ten times the points, and not one byte more for the same ranks, evaluations and corrections."""
    small, large = _followed("heat", 4)[0], _followed("2001", 4)[0]
    assert small.records[0]["rank"] == large.records[0]["rank"]
    for what in ("triangles", "control"):
        first, other = (f.records[0]["traffic"][what] for f in (small, large))
        assert (first["calls"], first["bytes"]) == (other["calls"], other["bytes"])
    for what, width in (("losses", 3), ("projections", small.records[0]["rank"])):
        for followed in (small, large):
            account = followed.records[0]["traffic"][what]
            assert account["bytes"] == account["calls"] * width * FLOAT64


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
    core = factor(a, r, ranks)
    q = torch.sin(torch.arange(ROWS, dtype=torch.float64)).split(SPLITS[ranks.size])[ranks.rank]
    return tsqr(a, ranks), core, core.project(a, q, ranks)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_tsqr_and_the_core_are_those_of_the_whole_matrix(size):
    a, r = _matrix()
    u, sigma, vt = np.linalg.svd(a.numpy(), full_matrices=False)
    q = np.sin(np.arange(ROWS))
    results = run_ranks(size, _factor)
    for triangle, core, projected in results:
        assert torch.equal(triangle, triangle.triu())
        np.testing.assert_allclose((triangle.T @ triangle).numpy(), (a.T @ a).numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(core.sigma.numpy(), sigma, rtol=1e-12)
        # Singular vectors have no sign of their own; U c and U Uᵀq have.
        signs = np.sign((core.v.numpy() * vt.T).sum(0))
        np.testing.assert_allclose(core.c.numpy() * signs, u.T @ r.numpy(), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(projected.numpy() * signs, u.T @ q, rtol=1e-9, atol=1e-11)
    for _, core, projected in results[1:]:
        assert torch.equal(core.c, results[0][1].c)
        assert torch.equal(projected, results[0][2])


# ---------------------------------------------------------------------------------------------
# A residual that fails on one rank only
# ---------------------------------------------------------------------------------------------

ROOTS = 50


def _half_defined(bound: float, raises: bool = False, resample_every: int = 0, seed: int = 0) -> RunConfig:
    """A residual that is NaN, or raises, where x lies below a bound."""
    domain = Box(x=(0, 1), t=(0, 1))
    X, T = domain.axes

    def equation(u, p):
        if raises and len(p) > 3 and bool((p[X].value < bound).any()):
            raise OverflowError("below the bound")
        return d(u, T) - d(u, X) * (1.0 if raises else torch.sqrt(p[X] - bound))

    conditions = [
        Condition("equation", equation, domain.interior, ROOTS),
        Condition("initial", lambda u, p: u - torch.sin(pi * p[X]), domain.face(t=0), 20),
    ]
    run = {**SMALL, "resample_every": resample_every, "seed": seed}
    return RunConfig(Problem(domain, conditions), MLP((6,)), SNGD(rank=4), **run)


def _points(epoch: int, seed: int = 0) -> torch.Tensor:
    condition = _half_defined(-1.0).problem.conditions[0]
    return condition.region.sample(0, ROOTS, (seed, epoch, 0), condition.sampling)


def _below_one_point() -> float:
    """A bound that all points of the first set keep but one."""
    return float(_points(0)[:, 0].sort().values[:2].mean())


def _train_half_defined(ranks, bound, raises, resample_every=0, seed=0):
    train(_half_defined(bound, raises, resample_every, seed), ranks, torch.device("cpu"))


def _owner(points: torch.Tensor, bound: float, size: int) -> int:
    """The first rank with a point below the bound."""
    bad = torch.nonzero(points[:, 0] < bound).flatten().tolist()
    return min(next(rank for rank in range(size) if i < ROOTS * (rank + 1) // size) for i in bad)


@pytest.mark.parametrize("size", [1, 3])
def test_a_residual_that_is_nan_on_one_rank_is_told_once_and_ends_all(size):
    bound, points = _below_one_point(), _points(0)
    results = run_ranks(size, _train_half_defined, bound, False, fail=False, seconds=30)
    assert [getattr(result, "kind", None) for result in results] == ["NonFiniteResidualError"] * size
    owner = _owner(points, bound, size)
    assert [rank for rank, result in enumerate(results) if result.message] == [owner]
    x, t = points[points[:, 0].argmin()]
    assert results[owner].message == f"condition 'equation' has residual nan at x={x:.6g}, t={t:.6g}"


@pytest.mark.parametrize("size", [1, 3])
def test_a_residual_that_raises_on_one_rank_is_told_once_and_ends_all(size):
    bound = _below_one_point()
    results = run_ranks(size, _train_half_defined, bound, True, fail=False, seconds=30)
    assert [getattr(result, "kind", None) for result in results] == ["ResidualError"] * size
    owner = _owner(_points(0), bound, size)
    assert [rank for rank, result in enumerate(results) if result.message] == [owner]
    assert "residual of condition 'equation' failed at test_steps.py:" in results[owner].message
    assert "OverflowError: below the bound" in results[owner].message


def test_a_residual_that_raises_on_points_drawn_anew_is_told_once():
    def lowest(epoch: int, seed: int) -> float:
        return float(_points(epoch, seed)[:, 0].min())

    # the first seed whose second or a later set reaches below the first one
    seed, epoch = next((s, e) for s in range(99) for e in range(1, STEPS) if lowest(e, s) < lowest(0, s))
    bound = lowest(0, seed)
    results = run_ranks(2, _train_half_defined, bound, True, 1, seed, fail=False, seconds=30)
    assert [getattr(result, "kind", None) for result in results] == ["ResidualError"] * 2
    assert [rank for rank, r in enumerate(results) if r.message] == [_owner(_points(epoch, seed), bound, 2)]
