from math import nan, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sngd.calculus import d
from sngd.condition import Condition
from sngd.domain import Box
from sngd.networks import MLP
from sngd.problem import Problem
from sngd.residual import Collocation
from tests import reference
from tests.problems import CASES, heat, parameters, system
from tests.reference import relative_error


@pytest.mark.parametrize("name", CASES)
def test_weighted_residual_equals_nested_autograd(name: str) -> None:
    case = CASES[name]()
    collocation = case.collocation()
    theta = parameters(collocation)
    got = collocation.scale * collocation.residual(theta)
    want = reference.residual(collocation, case.naive, theta).detach()
    assert relative_error(got, want) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_loss_is_the_weighted_sum_of_mean_squares(name: str) -> None:
    case = CASES[name]()
    collocation = case.collocation()
    theta = parameters(collocation)
    raw = collocation.residual(theta)
    weighted = collocation.scale * raw
    losses = []
    for number, condition in enumerate(case.problem.conditions):
        rows = raw[collocation.condition_rows[number]]
        components = case.problem.signatures[number].components
        assert len(rows) == condition.points * components
        losses.append(condition.weight * float(rows.view(-1, components).square().sum(1).mean()))
    got = collocation.condition_losses(weighted.square())
    assert relative_error(got, torch.tensor(losses, dtype=torch.float64)) < 1e-13
    assert float(weighted.square().sum()) == pytest.approx(sum(losses), rel=1e-13)


def test_conditions_share_a_batch_when_they_need_the_same() -> None:
    collocation = heat(24).collocation()
    # initial and walls both need the value alone; the equation has its own channels
    assert [[number for number, _, _ in batch.segments] for batch in collocation.batches] == [[0], [1, 2]]
    assert collocation.condition_rows == [slice(0, 24), slice(24, 31), slice(31, 37)]
    assert [batch.rows for batch in collocation.batches] == [slice(0, 24), slice(24, 37)]
    assert collocation.row_count == 37
    # two components each, but different channels
    assert len(system(16).collocation().batches) == 3


@given(st.sampled_from(sorted(CASES)), st.integers(1, 40))
def test_chunks_do_not_change_the_residual(name: str, chunk: int) -> None:
    case = CASES[name]()
    theta = parameters(case.collocation())
    whole = case.collocation().residual(theta)
    collocation = case.collocation(chunk=chunk)
    # the size of a matrix product may change the order of its sums, nothing more
    assert relative_error(collocation.residual(theta), whole) < 1e-13
    for batch in collocation.batches:
        sizes = list(collocation.over_chunks(batch, lambda _, start, stop: stop - start))
        assert max(sizes) <= chunk
        assert sum(sizes) == len(batch.points)


def test_the_chunk_may_change_after_a_first_evaluation() -> None:
    collocation = heat().collocation()
    theta = parameters(collocation)
    whole = collocation.residual(theta)
    collocation.chunk = 5
    assert relative_error(collocation.residual(theta), whole) < 1e-13


@pytest.mark.parametrize("name", CASES)
def test_shards_hold_the_rows_of_the_whole(name: str) -> None:
    case = CASES[name]()
    whole = case.collocation()
    theta = parameters(whole)
    weighted = whole.scale * whole.residual(theta)
    shards = [case.collocation(rank=r, ranks=3) for r in range(3)]
    rows = [shard.scale * shard.residual(theta) for shard in shards]
    for number in range(len(case.problem.conditions)):
        parts = [r[s.condition_rows[number]] for r, s in zip(rows, shards, strict=True)]
        assert relative_error(torch.cat(parts), weighted[whole.condition_rows[number]]) < 1e-13


def test_a_rank_without_points_of_a_condition() -> None:
    case = heat(4)  # 4, 2 and 1 points
    shards = [case.collocation(rank=r, ranks=2) for r in range(2)]
    counts = [[len(p) for p in s.points] for s in shards]
    assert any(0 in c for c in counts)
    whole = case.collocation()
    theta = parameters(whole)
    total = float((whole.scale * whole.residual(theta)).square().sum())
    parts = [float((s.scale * s.residual(theta)).square().sum()) for s in shards]
    assert sum(parts) == pytest.approx(total, rel=1e-13)


def test_a_rank_without_any_points() -> None:
    collocation = heat(4).collocation(rank=0, ranks=8)
    assert collocation.row_count == 0
    theta = parameters(collocation)
    assert collocation.residual(theta).shape == (0,)
    assert collocation.residual(theta).dtype == theta.dtype
    assert collocation.scale.shape == (0,)
    assert collocation.condition_losses(collocation.residual(theta)).tolist() == [0.0, 0.0, 0.0]


def test_scale_follows_the_weights() -> None:
    collocation = heat(24).collocation()
    collocation.weights = torch.tensor([4.0, 1.0, 9.0], dtype=torch.float64)
    scale = collocation.scale
    assert relative_error(scale[:24], torch.full((24,), sqrt(4 / 24))) < 1e-7
    assert relative_error(scale[24:31], torch.full((7,), sqrt(1 / 7))) < 1e-7
    assert relative_error(scale[31:], torch.full((6,), sqrt(9 / 6))) < 1e-7


@pytest.mark.parametrize("chunk", [None, 4])
def test_locate_names_the_condition_and_the_point(chunk) -> None:
    domain = Box(x=(0, 1), t=(0, 2))
    X, T = domain.axes
    inf = float("inf")

    def pair(w, p):
        u, v = w
        return d(u, X) + v, torch.where(p[T].value > 1.5, nan, v.value)

    def walls(w, p):
        return w[0], torch.where(p[T].value > 1.0, inf, w[1].value)

    conditions = [
        Condition("pair", pair, domain.interior, 12),
        Condition("walls", walls, domain.boundary("x"), 9),
    ]
    problem = Problem(domain, conditions, fields=("u", "v"))
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(conditions)]
    network = MLP((4,)).build(domain, 2, 0)
    collocation = Collocation(problem, network, points, torch.ones(2, dtype=torch.float64), chunk)

    raw = collocation.residual(network.initial)
    place = next(x for x in points[0] if x[1] > 1.5)
    want = f"condition 'pair' has residual nan at x={place[0]:.6g}, t={place[1]:.6g}"
    assert collocation.locate(raw) == want

    raw[collocation.condition_rows[0]] = 0.0
    place = next(x for x in points[1] if x[1] > 1.0)
    want = f"condition 'walls' has residual inf at x={place[0]:.6g}, t={place[1]:.6g}"
    assert collocation.locate(raw) == want

    raw[collocation.condition_rows[1]] = 0.0
    assert collocation.locate(raw) is None


def test_locate_within_conditions_that_share_a_batch() -> None:
    collocation = heat(24).collocation()
    for row, (name, number, index) in {24: ("initial", 1, 0), 33: ("walls", 2, 2)}.items():
        r = torch.zeros(collocation.row_count, dtype=torch.float64)
        r[row] = -float("inf")
        x, t = collocation.points[number][index].tolist()
        assert collocation.locate(r) == f"condition '{name}' has residual -inf at x={x:.6g}, t={t:.6g}"
