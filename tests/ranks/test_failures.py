"""A residual that fails on one rank only: every rank stops, and one of them says why."""

from math import pi

import pytest
import torch

from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d
from sngd.training import train
from tests.ranks.harness import run_ranks
from tests.ranks.runs import SMALL, STEPS

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
    assert "residual of condition 'equation' failed at test_failures.py:" in results[owner].message
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
