"""The two Gram matrices of a Jacobian, over ranks, and damped solves with them.

    K = J Jᵀ (N, N), the kernel      G = Jᵀ J (P, P), the Gramian

Both give the same damped step, for (G + λ)⁻¹ Jᵀ = Jᵀ (K + λ)⁻¹; which is cheaper is a matter of N and P. The
sketched path forms neither. Both square the condition number of J: dampings below rounding × trace are lost.

Letters
    P        parameters; N rows over all ranks, #n on this one; R ranks
    C, q     Taylor channels and residual components of a batch
    H, D     factors of the rows: Σ_c D_l[c,i] ⊗ H_l[c,i] is row i of layer l's block of J
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sngd.decompositions import check_finite, eigh
from sngd.factors import Factors, kernel_block, kernel_points
from sngd.jacobian import FactoredJacobian
from sngd.residual import Batch

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["DampedMatrix", "Layout", "form_gramian", "form_kernel"]

# Columns of a panel of a symmetric product: wide enough for a fast product, narrow enough to save half of it.
_PANEL = 512
# Entries of J that a product for G takes at once.
_ROWS = 1 << 24
# Operations of a matrix product that one pointwise pass over a block takes the time of.
POINTWISE = 64
_POWER_ITERATIONS = 20


class Layout:
    """Where each rank's rows stand in a vector of all N rows: rank after rank, batch after batch.

    Args:
        batches: of this rank.
        ranks: who holds the others; gathers one number per batch.
        device: of the vectors.
    """

    def __init__(self, batches: list[Batch], ranks: Ranks, device: torch.device) -> None:
        self.ranks = ranks
        points = torch.tensor([len(b.points) for b in batches], device=device)
        self.points: list[list[int]] = ranks.gather(points, "gram").tolist()
        components = [b.components for b in batches]
        rows = [sum(n * q for n, q in zip(there, components, strict=True)) for there in self.points]
        starts = [sum(rows[:rank]) for rank in range(ranks.size + 1)]
        self.slices = [slice(a, b) for a, b in pairwise(starts)]
        self.rows = starts[-1]

    @property
    def mine(self) -> slice:
        """Rows of this rank."""
        return self.slices[self.ranks.rank]

    def collect(self, x: Tensor) -> Tensor:
        """The vector of all rows (N,) from each rank's (#n,), on every rank."""
        lengths = [s.stop - s.start for s in self.slices]
        return torch.cat(_gather_uneven(x, lengths, self.ranks))


def _gather_uneven(x: Tensor, lengths: list[int], ranks: Ranks) -> list[Tensor]:
    """X of every rank, whose leading lengths differ."""
    if ranks.size == 1:
        return [x]
    padded = x.new_zeros(max(lengths), *x.shape[1:])
    padded[: len(x)] = x
    return [part[:length] for part, length in zip(ranks.gather(padded, "gram"), lengths, strict=True)]


def form_gramian(jacobian: FactoredJacobian, ranks: Ranks) -> Tensor:
    """G = JᵀJ summed over ranks, (P, P), the same on every rank: P² numbers travel."""
    size = jacobian.shape[1]
    result = jacobian.theta.new_zeros(size, size)
    for _, rows in jacobian.row_blocks(_ROWS):
        _add_lower_product(rows.T, result)
    return ranks.sum(_mirror(result), "gram")


def _add_lower_product(x: Tensor, out: Tensor) -> None:
    """Add the lower triangle of x xᵀ to out, and some of what lies above it."""
    for start in range(0, len(x), _PANEL):
        out[start:, start : start + _PANEL].addmm_(x[start:], x[start : start + _PANEL].T)


def _mirror(lower: Tensor) -> Tensor:
    return lower.tril() + lower.tril(-1).T


def form_kernel(jacobian: FactoredJacobian, layout: Layout, ranks: Ranks) -> Tensor:
    """K = JJᵀ of all rows, (N, N), rows ordered as in `layout`, the same on every rank.

    Each rank computes the blocks of its rows against those of half of the ranks, from factors or from rows,
    whichever takes less arithmetic; the factors of all rows and N² numbers travel.
    """
    tiles = _exchange(jacobian, layout, ranks)
    result = jacobian.theta.new_zeros(layout.rows, layout.rows)
    for first in tiles[ranks.rank]:
        rows = _rows(first, jacobian)
        for partner in _partners(ranks):
            for second in tiles[partner]:
                if partner == ranks.rank and second.rows.start > first.rows.start:
                    continue
                if rows is None:
                    block = kernel_block(first, second)
                elif second is first:
                    block = rows.new_zeros(len(rows), len(rows))
                    _add_lower_product(rows, block)
                    block = _mirror(block)
                else:
                    block = rows @ second.dense(jacobian.collocation.network).T
                result[first.rows, second.rows] = block
                result[second.rows, first.rows] = block.T
    return ranks.sum(result, "gram")


def _rows(tile: Factors, jacobian: FactoredJacobian) -> Tensor | None:
    """The tile's rows (m·q, P) where their products take less time than those of factors."""
    channels = max(len(h) for h in tile.inputs)
    widths = sum(h.shape[2] + d.shape[3] for h, d in zip(tile.inputs, tile.cotangents, strict=True))
    layers, parameters = len(tile.inputs), jacobian.shape[1]
    if prefers_factors(channels, widths, layers, parameters):
        return None
    return tile.dense(jacobian.collocation.network)


def prefers_factors(channels: float, widths: int, layers: int, parameters: int) -> bool:
    """Whether a block of K takes less time by factors than by rows: C² (ω + 64 L) < P.

    Args:
        channels: C.
        widths: ω, the sum over layers of in + out.
        layers: L, number of layers.
        parameters: P.
    """
    return channels**2 * (widths + POINTWISE * layers) < parameters


def _partners(ranks: Ranks) -> list[int]:
    """Whose rows this rank multiplies its own with, itself first, so that every pair of ranks meets once."""
    half = ranks.size // 2
    twice = ranks.size % 2 == 0 and ranks.rank >= half > 0  # of two opposite ranks the first takes the pair
    return [(ranks.rank + shift) % ranks.size for shift in range(half + (not twice))]


def _exchange(jacobian: FactoredJacobian, layout: Layout, ranks: Ranks) -> list[list[Factors]]:
    """The factors of every rank's rows, in blocks of points; rows are numbered as in the whole matrix."""
    everyone: list[list[Factors]] = [[] for _ in range(ranks.size)]
    starts, block = [s.start for s in layout.slices], kernel_points(jacobian.theta.device)
    tiles, network = list(jacobian.factors()), jacobian.collocation.network
    for number, batch in enumerate(jacobian.collocation.batches):
        c, q = len(batch.rules.channels), batch.components
        depths = [c if i else 1 for _, i in network.shapes]  # channels of each layer
        shapes: list[tuple[int, ...]] = [(c, i) for c, (_, i) in zip(depths, network.shapes, strict=True)]
        shapes += [(c, q, o) for c, (o, _) in zip(depths, network.shapes, strict=True)]
        own = [t for t in tiles if batch.rows.start <= t.rows.start < batch.rows.stop]
        # points first, so that what ranks send differs in its leading length alone
        empty = jacobian.theta.new_zeros(0, sum(math.prod(shape) for shape in shapes))
        flat = [
            torch.cat([x.movedim(1, 0).flatten(1) for x in (*t.inputs, *t.cotangents)], dim=1) for t in own
        ]
        lengths = [there[number] for there in layout.points]
        for rank, part in enumerate(_gather_uneven(torch.cat([empty, *flat]), lengths, ranks)):
            pieces = part.split([math.prod(shape) for shape in shapes], dim=1)
            factors = [
                x.view(len(part), *shape).movedim(0, 1) for x, shape in zip(pieces, shapes, strict=True)
            ]
            rows = slice(starts[rank], starts[rank] + len(part) * q)
            whole = Factors(rows, factors[: len(network.shapes)], factors[len(network.shapes) :])
            everyone[rank] += whole.split(block)
            starts[rank] = rows.stop
    return everyone


class DampedMatrix:
    """Solves (S + λ) x = b for a symmetric positive semidefinite S, by Cholesky.

    Where rounding makes S + λ indefinite, and at λ = 0, the eigenvalues of S are computed once and negative
    ones are taken as 0; at λ = 0 those below rounding × size × the largest are left out: a pseudo-inverse.

    Args:
        matrix: S (m, m), float64 for accuracy; the same on every rank.
        name: of S, for messages.
        fallbacks: counts decompositions that failed and what served in their place.

    Raises:
        NonFiniteMatrixError: S is not finite.
    """

    def __init__(self, matrix: Tensor, name: str = "S", fallbacks: Counter[str] | None = None) -> None:
        check_finite(matrix.diagonal(), name)  # bounds all other entries of a semidefinite matrix
        self.matrix, self.name = matrix, name
        self.fallbacks = Counter[str]() if fallbacks is None else fallbacks
        self._factor: tuple[float, Tensor] | None = None
        self._eigen: tuple[Tensor, Tensor] | None = None

    @property
    def indefinite(self) -> bool:
        """Whether Cholesky has failed and eigenvalues serve instead."""
        return self._eigen is not None

    @property
    def least_damping(self) -> float:
        """Rounding × trace: what lies below is not known of S."""
        return float(self.matrix.diagonal().sum()) * torch.finfo(self.matrix.dtype).eps

    def largest(self) -> float:
        """The largest eigenvalue by power iteration: from below, good for a scale."""
        x, value = torch.ones_like(self.matrix[0]), self.matrix.new_zeros(())
        for _ in range(_POWER_ITERATIONS):
            x = self.matrix @ (x / torch.linalg.vector_norm(x).clamp_min(torch.finfo(x.dtype).tiny))
            value = torch.linalg.vector_norm(x)
        check_finite(value, f"the largest eigenvalue of {self.name}")
        return float(value)

    def solve(self, damping: float, b: Tensor) -> Tensor:
        """The solution (S + λ)⁻¹ b, (m,).

        Args:
            damping: λ ≥ 0.
            b: (m,).
        """
        if self._eigen is None and damping > 0:
            factor = self._cholesky(damping)
            if factor is not None:
                return torch.cholesky_solve(b.unsqueeze(1), factor).squeeze(1)
            self.fallbacks["cholesky by eigh"] += 1
        if self._eigen is None:
            self._factor = None
            self._eigen = eigh(self.matrix, self.name, self.fallbacks)
        values, vectors = self._eigen
        denominator = values.clamp_min(0.0) + damping
        cut = len(values) * torch.finfo(values.dtype).eps * values[-1] if damping == 0 else 0.0
        weights = torch.where(denominator > cut, 1.0 / denominator, 0.0)
        return vectors @ (weights * (vectors.T @ b))

    def _cholesky(self, damping: float) -> Tensor | None:
        if self._factor is None or self._factor[0] != damping:
            shifted = self.matrix.clone()
            shifted.diagonal().add_(damping)
            factor, failed = torch.linalg.cholesky_ex(shifted)
            if failed or not bool(torch.isfinite(factor.diagonal()).all()):
                return None
            self._factor = (damping, factor)
        return self._factor[1]
