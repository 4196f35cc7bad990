"""The orthonormal basis Q of the sketch: whole on every rank, or its rows spread over them.

    Y = [Σ_r J_rᵀ W_r, D],   Q = orth(Y),   A = J Q,   δ = Q z

Both forms walk through the parameters in blocks, so that the collective of one block runs while the next is
computed. Sharded, a rank holds P·k/R numbers and two blocks: Y is reduce-scattered over parameter rows, its
orthonormalisation shares out the work (TSQR), and Q is gathered block by block where A needs it.

Letters
    P        parameters; #n rows of J on this rank; k sketch rank; R ranks
    Y, Q     (P, k); sharded (#P, k): of every block of s·R parameters (padded), s on each rank
    D        (P, d) directions that the basis is to hold in any case
    W, A     (#n, k − d), (#n, k)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sngd.core import orthonormalize
from sngd.factors import Panel
from sngd.jacobian import FactoredJacobian
from sngd.sketch import Whitened

if TYPE_CHECKING:
    from sngd.ranks import Pending, Ranks

__all__ = ["Basis", "Block", "ReplicatedBasis", "ShardedBasis", "make_blocks", "replicate", "shard"]


@dataclass(frozen=True)
class Block:
    """Neighbouring panels, which travel together.

    Args:
        panels: of J's columns.
        share: s, rows of one rank, the last ones padding where R does not divide the width.
        start: of this rank's share among its rows of Y.
    """

    panels: Sequence[Panel]
    share: int
    start: int

    @property
    def columns(self) -> slice:
        """Parameters."""
        return slice(self.panels[0].columns.start, self.panels[-1].columns.stop)

    @property
    def width(self) -> int:
        """Number of parameters."""
        return self.columns.stop - self.columns.start


def make_blocks(panels: Sequence[Panel], most: int | None, ranks: int) -> list[Block]:
    """Panels in blocks of at most so many parameters, or of one panel.

    Args:
        panels: all of them, in order.
        most: parameters of a block; None for one block.
        ranks: R.
    """
    groups: list[list[Panel]] = []
    for panel in panels:
        if groups and (most is None or panel.columns.stop - groups[-1][0].columns.start <= most):
            groups[-1].append(panel)
        else:
            groups.append([panel])
    blocks: list[Block] = []
    for group in groups:
        share = math.ceil((group[-1].columns.stop - group[0].columns.start) / ranks)
        start = blocks[-1].start + blocks[-1].share if blocks else 0
        blocks.append(Block(group, share, start))
    return blocks


class Basis(Protocol):
    """Q, wherever its rows are."""

    rank: int

    def times(self, jacobian: FactoredJacobian) -> Tensor:
        """A = J Q (#n, k)."""
        ...

    def displacement(self, z: Tensor) -> Tensor:
        """Q z (P,) on every rank, for z (k,)."""
        ...


class ReplicatedBasis:
    """Q whole on every rank.

    Args:
        matrix: Q (P, k).
        ranks: sums k numbers of a projection.
    """

    def __init__(self, matrix: Tensor, ranks: Ranks) -> None:
        self.matrix, self.ranks, self.rank = matrix, ranks, matrix.shape[1]

    def times(self, jacobian: FactoredJacobian) -> Tensor:
        """A = J Q (#n, k)."""
        return jacobian.matmul(self.matrix)

    def displacement(self, z: Tensor) -> Tensor:
        """Q z (P,)."""
        return self.matrix @ z.to(self.matrix.dtype)

    def project(self, pulled: Tensor) -> Tensor:
        """Qᵀ y (k,), summed over ranks."""
        mine = self.matrix.T @ pulled.to(self.matrix.dtype)
        return self.ranks.sum(mine.to(pulled.dtype), "projections")


class ShardedBasis:
    """Rows of Q spread over ranks.

    Args:
        rows: this rank's (#P, k), block after block.
        blocks: which parameters they belong to.
        ranks: who holds the others.
    """

    def __init__(self, rows: Tensor, blocks: Sequence[Block], ranks: Ranks) -> None:
        self.rows, self.blocks, self.ranks, self.rank = rows, blocks, ranks, rows.shape[1]

    def _whole_blocks(self) -> Iterator[tuple[Block, Tensor]]:
        """Rows of Q of every block; while one is used, the next is on its way."""

        def start(block: Block) -> Pending:
            part = self.rows[block.start : block.start + block.share]
            return self.ranks.start_gather(part, "basis")

        coming = start(self.blocks[0])
        for block, following in zip(self.blocks, [*self.blocks[1:], None], strict=True):
            whole = coming.wait()
            if following is not None:
                coming = start(following)
            yield block, whole[: block.width]

    def times(self, jacobian: FactoredJacobian) -> Tensor:
        """A = J Q (#n, k)."""
        total = self.rows.new_zeros(jacobian.shape[0], self.rank)
        for block, q in self._whole_blocks():
            for chunk in jacobian.factors():
                total[chunk.rows] += jacobian.times(chunk, q, block.panels)
        return total

    def displacement(self, z: Tensor) -> Tensor:
        """Q z (P,): P numbers are gathered."""
        mine = self.rows @ z.to(self.rows.dtype)
        everyone = self.ranks.gather(mine, "displacement")
        parts = [everyone[:, b.start : b.start + b.share].flatten()[: b.width] for b in self.blocks]
        return torch.cat(parts)


def _add_pulled(jacobian: FactoredJacobian, whitened: Whitened, block: Block, out: Tensor) -> None:
    """Add this rank's J_rᵀ W_r in a block's parameters to out (width, k)."""
    for chunk in jacobian.factors():
        jacobian.add_transposed_times(chunk, whitened.rows(chunk), out, block.panels)


def _reduced_blocks(
    jacobian: FactoredJacobian,
    whitened: Whitened,
    blocks: Sequence[Block],
    rows: Callable[[Block], int],
    start: Callable[[Tensor, str], Pending],
) -> Iterator[tuple[Block, Tensor]]:
    """Σ_r J_rᵀ W_r block by block: the sum of one runs while the next is computed, two are held.

    Args:
        jacobian: this rank's rows of J.
        whitened: this rank's rows of W.
        blocks: of parameters.
        rows: of what is summed for a block, its width or more; what is above it is padding.
        start: begins the sum.
    """
    coming: tuple[Block, Pending] | None = None
    for block in blocks:
        part = jacobian.theta.new_zeros(rows(block), whitened.rank, dtype=jacobian.dtype)
        _add_pulled(jacobian, whitened, block, part[: block.width])
        if coming is not None:
            yield coming[0], coming[1].wait()
        coming = block, start(part, "sketch")
    assert coming is not None
    del part  # the last sum's result may be all that is needed of it
    yield coming[0], coming[1].wait()


def replicate(
    jacobian: FactoredJacobian, whitened: Whitened, given: Tensor, blocks: Sequence[Block], ranks: Ranks
) -> ReplicatedBasis:
    """Q = orth([Σ_r J_rᵀ W_r, D]), whole on every rank: P·k numbers are summed, each rank factors them.

    Args:
        jacobian: this rank's rows of J.
        whitened: this rank's rows of W.
        given: D (P, d), the same on every rank.
        blocks: of parameters; two are held beside Y, the sum of one runs while the next is computed.
        ranks: who holds the other rows of J.

    Raises:
        ValueError: the sketch is not finite.
    """
    k = whitened.rank
    y = jacobian.theta.new_empty(jacobian.shape[1], k + given.shape[1], dtype=jacobian.dtype)
    y[:, k:] = given
    if ranks.size == 1:  # the product goes to its place at once
        for block in blocks:
            _add_pulled(jacobian, whitened, block, y[block.columns, :k].zero_())
    else:
        for block, part in _reduced_blocks(jacobian, whitened, blocks, lambda b: b.width, ranks.start_sum):
            y[block.columns, :k] = part
        del part  # not needed beside the factorisation
    return ReplicatedBasis(orthonormalize(y), ranks)


def shard(
    jacobian: FactoredJacobian, whitened: Whitened, given: Tensor, blocks: Sequence[Block], ranks: Ranks
) -> ShardedBasis:
    """Q = orth([Σ_r J_rᵀ W_r, D]), its rows spread over ranks: P·k numbers are reduce-scattered.

    Args:
        jacobian: this rank's rows of J.
        whitened: this rank's rows of W.
        given: D (P, d), the same on every rank.
        blocks: of parameters; two are held at a time.
        ranks: who holds the other rows of J.

    Raises:
        ValueError: the sketch is not finite.
    """
    k, rows = whitened.rank, blocks[-1].start + blocks[-1].share
    y = jacobian.theta.new_empty(rows, k + given.shape[1], dtype=jacobian.dtype)
    padded = _reduced_blocks(
        jacobian, whitened, blocks, lambda b: b.share * ranks.size, ranks.start_scatter_sum
    )
    for block, part in padded:
        mine = y[block.start : block.start + block.share]
        mine[:, :k] = part
        own = given[block.columns][ranks.rank * block.share : (ranks.rank + 1) * block.share]
        mine[: len(own), k:] = own
        mine[len(own) :, k:] = 0.0
    del part
    return ShardedBasis(orthonormalize(y, ranks), blocks, ranks)
