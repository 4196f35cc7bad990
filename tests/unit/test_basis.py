"""The basis Q, whole on every rank or spread over them: the same span, the same products."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sngd.basis import ReplicatedBasis, ShardedBasis, make_blocks, replicate, shard
from sngd.collectives import LocalRanks
from sngd.factors import Panel
from sngd.jacobian import FactoredJacobian
from sngd.sketch import Gaussian, Whitened, draw_test_matrix
from tests.dense import DenseJacobian, dense_test_matrix, orthonormality, span_distance
from tests.problems import CASES, parameters
from tests.reference import relative_error
from tests.thread_ranks import on_ranks

LOCAL = LocalRanks()
RANK = 6


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def panels_of(widths: list[int]) -> list[Panel]:
    starts = [sum(widths[:i]) for i in range(len(widths))]
    return [
        Panel(slice(a, a + w), i, slice(0, 1)) for i, (a, w) in enumerate(zip(starts, widths, strict=True))
    ]


# ---------------------------------------------------------------------------------------------
# Blocks
# ---------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=9),
    st.none() | st.integers(1, 80),
    st.integers(1, 7),
)
def test_blocks_cover_all_panels_with_shares_for_all_ranks(widths, most, ranks) -> None:
    panels = panels_of(widths)
    blocks = make_blocks(panels, most, ranks)
    assert [panel for block in blocks for panel in block.panels] == panels
    assert blocks[0].columns.start == blocks[0].start == 0
    for a, b in pairwise(blocks):
        assert a.columns.stop == b.columns.start
        assert b.start == a.start + a.share
        assert a.width + b.panels[0].width > (most or 10**9)  # no block could have taken more
    for block in blocks:
        assert block.width == sum(panel.width for panel in block.panels)
        assert len(block.panels) == 1 or block.width <= (most or 10**9)
        assert 0 <= block.share * ranks - block.width < ranks  # padding
    assert len(blocks) == 1 or most is not None


# ---------------------------------------------------------------------------------------------
# Bases
# ---------------------------------------------------------------------------------------------


def jacobian_of(name: str, keep: str, rank: int = 0, ranks: int = 1) -> FactoredJacobian:
    collocation = CASES[name]().collocation(5, rank=rank, ranks=ranks)
    return FactoredJacobian(collocation, parameters(collocation), collocation.scale, keep=keep)


def spread(kind: str, jacobian: FactoredJacobian, most, ranks, given: Tensor, stored: bool = True):
    """A basis of one of the two kinds; X is a column of ones."""
    like = jacobian.theta
    test = draw_test_matrix("khatri_rao", jacobian.collocation.network, RANK - 1, 3, 1, like)
    whitened = Whitened(jacobian, like.new_ones(jacobian.shape[0], 1), test, ranks, stored)
    blocks = make_blocks(jacobian.panels, most, ranks.size)
    return {"replicated": replicate, "sharded": shard}[kind](jacobian, whitened, given, blocks, ranks)


def whole_basis(basis, ranks) -> Tensor:
    """Q (P, k), from its shares where it has such, by unit vectors."""
    eye = torch.eye(basis.rank, dtype=torch.float64)
    return torch.stack([basis.displacement(z) for z in eye], dim=1)


def dense_basis(name: str, given: Tensor) -> Tensor:
    """Orth([JᵀA₀, D]) with A₀ = [1, J Ω] from dense matrices."""
    jacobian = jacobian_of(name, "factors")
    test = draw_test_matrix("khatri_rao", jacobian.collocation.network, RANK - 1, 3, 1, jacobian.theta)
    j = jacobian.dense()
    a = torch.cat([j.new_ones(len(j), 1), j @ dense_test_matrix(test, jacobian)], dim=1)
    return torch.linalg.qr(torch.cat([j.T @ torch.linalg.qr(a)[0], given], dim=1))[0]


@pytest.mark.parametrize("directions", [0, 2])
@pytest.mark.parametrize("most", [None, 40, 1])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["replicated", "sharded"])
@pytest.mark.parametrize("name", ["heat", "system"])
def test_a_basis_is_that_of_the_dense_matrix(name, kind, size, most, directions, monkeypatch) -> None:
    """Span, product A = J Q and displacement Q z, for any number of ranks and blocks."""
    monkeypatch.setattr("sngd.jacobian.tile_numbers", lambda *_: 300)  # several panels
    whole = jacobian_of(name, "factors")
    p, k = whole.shape[1], RANK + directions
    assert any(p % ranks for ranks in (2, 3, 4))
    given = random(p, directions, seed=4)
    want = dense_basis(name, given)
    z = random(k, seed=5)

    def work(ranks):
        jacobian = jacobian_of(name, "factors", ranks.rank, ranks.size)
        basis = spread(kind, jacobian, most, ranks, given)
        q, a, delta = whole_basis(basis, ranks), basis.times(jacobian), basis.displacement(z)
        assert basis.rank == k
        assert a.shape == (jacobian.shape[0], k)
        # every rank's rows of A = J Q, with the same Q
        assert relative_error(a, jacobian.dense() @ q) < 1e-11
        return q, delta

    found = on_ranks(size, work)
    for q, delta in found:
        assert torch.equal(q, found[0][0])
        assert torch.equal(delta, found[0][1])
        assert q.shape == (p, k)
        assert orthonormality(q) < 1e-13
        assert span_distance(q, want) < 1e-8
        assert relative_error(delta, q @ z) < 1e-13


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("keep", ["factors", "nothing"])
@pytest.mark.parametrize("size", [1, 3])
def test_what_is_kept_changes_nothing(keep, stored: bool, size) -> None:
    none = torch.empty(jacobian_of("heat", keep).shape[1], 0, dtype=torch.float64)
    want = dense_basis("heat", none)

    def work(ranks):
        jacobian = jacobian_of("heat", keep, ranks.rank, ranks.size)
        return [
            whole_basis(spread(kind, jacobian, 40, ranks, none, stored), ranks)
            for kind in ("replicated", "sharded")
        ]

    for replicated, sharded in on_ranks(size, work):
        assert span_distance(replicated, want) < 1e-8
        assert span_distance(sharded, want) < 1e-8


def test_a_share_is_a_part_of_the_rows() -> None:
    """Of R ranks each holds its share of every block, padding included, and nothing more."""
    none = torch.empty(jacobian_of("heat", "factors").shape[1], 0, dtype=torch.float64)

    def work(ranks) -> tuple[int, int]:
        jacobian = jacobian_of("heat", "factors", ranks.rank, ranks.size)
        basis = spread("sharded", jacobian, 40, ranks, none)
        assert isinstance(basis, ShardedBasis)
        return len(basis.rows), sum(block.share for block in basis.blocks)

    p = len(none)
    for rows, shares in on_ranks(4, work):
        assert rows == shares
        assert p / 4 <= rows < p / 4 + 8


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("kind", ["replicated", "sharded"])
def test_deficient_sketches_span_what_there_is(kind: str, size: int) -> None:
    """J has rank 4, the sketch 9 columns: all of J is in the span, and nothing is longer than 1."""
    j = random(30, 4) @ random(4, 50, seed=1)
    blocks_of_rows = j.split([30 - size * 5, *[5] * size])[: size - 1]
    heights = [len(x) for x in blocks_of_rows]
    parts = j.split([*heights, 30 - sum(heights)])

    def work(ranks) -> Tensor:
        jacobian = DenseJacobian(parts[ranks.rank])
        none = [j.new_empty(n, 0) for n in jacobian.shape]
        whitened = Whitened(jacobian, none[0], Gaussian(random(50, 9, seed=2)), ranks, True)
        blocks = make_blocks(jacobian.panels, 20, size)
        return whole_basis(
            {"replicated": replicate, "sharded": shard}[kind](jacobian, whitened, none[1], blocks, ranks),
            ranks,
        )

    for q in on_ranks(size, work):
        assert float(torch.linalg.matrix_norm(q, 2)) < 1 + 1e-13
        assert float(torch.linalg.matrix_norm(j - (j @ q) @ q.T)) < 1e-11 * float(j.norm())


@pytest.mark.parametrize("kind", ["replicated", "sharded"])
def test_a_sketch_that_is_not_finite_is_refused_on_all_ranks(kind: str) -> None:
    j = random(20, 30)
    j[13, 17] = torch.inf
    parts = j.split([10, 10])

    def work(ranks) -> bool:
        jacobian = DenseJacobian(parts[ranks.rank])
        none = [j.new_empty(n, 0) for n in jacobian.shape]
        whitened = Whitened(jacobian, none[0], Gaussian(random(30, 4)), ranks, True)
        blocks = make_blocks(jacobian.panels, None, 2)
        with pytest.raises(ValueError, match="is not finite"):
            {"replicated": replicate, "sharded": shard}[kind](jacobian, whitened, none[1], blocks, ranks)
        return True

    assert on_ranks(2, work) == [True, True]


def test_a_replicated_basis_projects() -> None:
    q = torch.linalg.qr(random(20, 4))[0]
    y = random(20, 2, seed=1).T

    def work(ranks) -> tuple[Tensor, int]:
        return ReplicatedBasis(q, ranks).project(y[ranks.rank]), ranks.bytes_moved

    for projected, moved in on_ranks(2, work):
        assert relative_error(projected, q.T @ y.sum(0)) < 1e-14
        assert moved == 4 * 8
