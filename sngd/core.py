"""The core: the damped least-squares problem inside the sketched subspace, k numbers wide.

    minimise over z   ‖A z + r‖² + λ ‖z‖²,     A = J Q

by a QR factorisation over ranks (TSQR; Demmel et al. 2012) and the SVD of its k×k triangle. AᵀA is never
formed: that would square the condition number.

Letters
    #n       rows on this rank; k sketch rank; R ranks
    A        (#n, k) = J Q;   r (#n,) weighted residual
    W Σ Vᵀ   SVD of the triangle of A = Q_A T;  U = Q_A W is the left factor of A and never stored
    c        (k,) = Uᵀ r
    z(λ)     (k,) = −V σ/(σ²+λ) c, the damped solution
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sngd.decompositions import NonFiniteMatrixError, check_finite, svd

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["Core", "Triangle", "factor", "orthonormalize", "tsqr"]

# Rows of a tile of a QR factorisation, and numbers that are copied at once.
_TILE_ROWS, _GROUP_NUMBERS = 2048, 1 << 23


@dataclass(frozen=True)
class Core:
    """Singular values, right factor and projected residual of A, the same on every rank.

    Args:
        sigma: (k,) descending.
        v: (k, k), columns are right singular vectors.
        c: (k,) = Uᵀ r.
    """

    sigma: Tensor
    v: Tensor
    c: Tensor

    def solve(self, damping: float, c: Tensor | None = None) -> Tensor:
        """z(λ) = −V σ/(σ²+λ) c, (k,); directions with σ = 0 are left alone.

        Args:
            damping: λ ≥ 0.
            c: another projected residual than that of r.
        """
        c = self.c if c is None else c
        denominator = self.sigma.square() + damping
        weight = torch.where(denominator > 0, self.sigma / denominator, 0.0)
        return -(self.v @ (weight * c))

    def pseudo_solve(self, cutoff: float) -> Tensor:
        """−A⁺ r with singular values below cutoff · σ_1 dropped, (k,)."""
        kept = self.sigma > cutoff * self.sigma[0]
        return -(self.v @ torch.where(kept, self.c / self.sigma, 0.0))

    def predicted_reduction(self, damping: float) -> float:
        """p(λ) = ‖r‖² − ‖A z(λ) + r‖² = Σ f (2−f) c²,  f = σ²/(σ²+λ)."""
        s2 = self.sigma.square()
        denominator = s2 + damping
        share = torch.where(denominator > 0, s2 / denominator, 0.0)
        return float((share * (2.0 - share) * self.c.square()).sum())

    def effective_dimension(self, damping: float) -> float:
        """Σ σ²/(σ²+λ)."""
        s2 = self.sigma.square()
        return float((s2 / (s2 + damping).clamp_min(torch.finfo(s2.dtype).tiny)).sum())

    def project(self, product: Tensor) -> Tensor:
        """Uᵀ x = Σ⁻¹ Vᵀ (Aᵀ x) for a new vector x, (k,).

        Args:
            product: Aᵀ x (k,), summed over ranks.
        """
        rotated = self.v.T @ product.to(self.sigma.dtype)
        return torch.where(self.sigma > 0, rotated / self.sigma, 0.0)


class Triangle:
    """The R factor of a tall matrix whose rows are handed in piece by piece; none of them is kept.

    Args:
        columns: k.
        like: dtype and device of the arithmetic.
    """

    def __init__(self, columns: int, like: Tensor) -> None:
        self._like, self._columns = like, columns
        self._value: Tensor | None = None

    @property
    def value(self) -> Tensor:
        """The triangle of the rows so far, (k, k)."""
        return self._like.new_zeros(self._columns, self._columns) if self._value is None else self._value

    def add(self, rows: Tensor) -> None:
        """Take in more rows (m, k), m ≥ 0, of any precision."""
        for piece in rows.split(_group_rows(rows)) if len(rows) else ():
            parts = [] if self._value is None else [self._value]
            for part in _tiles(piece.to(self._like.dtype)):
                if len(part):
                    parts.append(torch.linalg.qr(part, mode="r").R.reshape(-1, self._columns))
            if len(parts) > 1 or len(parts[0]) > self._columns:
                parts = [torch.linalg.qr(torch.cat(parts), mode="r").R]
            missing = self._columns - len(parts[0])
            self._value = torch.nn.functional.pad(parts[0], (0, 0, 0, missing))

    def over(self, ranks: Ranks) -> Tensor:
        """The triangle of all ranks' rows, (k, k): R triangles of k×k are gathered."""
        if ranks.size == 1:
            return self.value
        return torch.linalg.qr(ranks.gather(self.value, "triangles").flatten(0, 1), mode="r").R


def tsqr(block: Tensor, ranks: Ranks) -> Tensor:
    """Upper triangle T (k, k) of the QR factorisation of row blocks that are spread over ranks.

    Args:
        block: (#n, k) this rank's rows; #n may be below k, or 0.
        ranks: gathers R triangles of k×k.
    """
    triangle = Triangle(block.shape[1], block)
    triangle.add(block)
    return triangle.over(ranks)


def orthonormalize(y: Tensor, ranks: Ranks | None = None) -> Tensor:
    """An orthonormal basis Q whose span contains that of Y; rows may be spread over ranks.

    Householder reflections give orthonormal columns whatever the rank of Y, which is numerically deficient by
    design. Rows are factored in tiles that stay in the cache, then the tiles' triangles, then the ranks'
    (TSQR with its orthogonal factor; Demmel et al. 2012).

    Args:
        y: (#P, k), overwritten.
        ranks: who holds the other rows, None for nobody; gathers R triangles of k×k.

    Returns:
        Q (#P, k), in y's memory. Where some rank has fewer rows than columns, directions that Y's dependent
        columns leave open may come out shorter than 1, or 0.

    Raises:
        NonFiniteMatrixError: Y is not finite.
    """
    k, group = y.shape[1], _group_rows(y)
    triangles = []
    for piece in y.split(group) if len(y) else ():
        for part in _tiles(piece):
            if len(part):
                q, r = torch.linalg.qr(part)
                part[..., : q.shape[-1]].copy_(q)
                part[..., q.shape[-1] :].zero_()  # fewer rows than columns
                triangles.append(torch.nn.functional.pad(r, (0, 0, 0, k - r.shape[-2])).reshape(-1, k))
    stacked = torch.cat(triangles) if triangles else y.new_zeros(k, k)
    spread = ranks is not None and ranks.size > 1
    alone = not spread and len(stacked) <= k
    inner, triangle = (None, stacked) if alone else torch.linalg.qr(stacked)
    if ranks is not None and spread:
        outer, triangle = torch.linalg.qr(ranks.gather(triangle, "triangles").flatten(0, 1))
        inner = inner @ outer.view(ranks.size, k, k)[ranks.rank]
    check_finite(triangle, "the sketch Y = JᵀJΩ")
    if inner is None or not len(y):
        return y
    blocks, number = inner.view(-1, k, k), 0
    for piece in y.split(group):
        for part in _tiles(piece):
            if len(part):
                count = part.numel() // (part.shape[-2] * k)
                part.copy_(torch.matmul(part, blocks[number : number + count].view(*part.shape[:-2], k, k)))
                number += count
    return y


def _tile_rows(x: Tensor) -> int:
    """Rows that are factored at once: few enough for the cache, many more than columns."""
    return len(x) if x.device.type == "cuda" else max(_TILE_ROWS, 4 * x.shape[1])


def _group_rows(x: Tensor) -> int:
    """Rows of as many tiles as bound the copies that a factorisation makes."""
    tile = max(1, _tile_rows(x))
    return tile * max(1, _GROUP_NUMBERS // (tile * max(1, x.shape[1])))


def _tiles(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as tiles of equal length (tiles, rows, k) and the rest (m, k), views."""
    tile, k = max(1, _tile_rows(x)), x.shape[1]
    whole = max(0, len(x) // tile - 1) * tile  # the last tile takes the remainder: it has rows enough
    return x[:whole].view(-1, tile, k), x[whole:]


def factor(triangle: Tensor, fallbacks: Counter[str] | None = None) -> Core:
    """The core of a triangle of [A | r].

    Args:
        triangle: (k+1, k+1) of all ranks' rows.
        fallbacks: counts what served in place of the usual decomposition.

    Raises:
        NonFiniteMatrixError: the triangle is not finite, or σ_1² overflows.
        ValueError: no decomposition converges.
    """
    k, triangle = len(triangle) - 1, triangle.double()
    counted = Counter[str]() if fallbacks is None else fallbacks
    check_finite(triangle, "the triangle of [J Q | r]")
    w, sigma, vt = svd(triangle[:k, :k], "the triangle of J Q", counted)
    if k and not math.isfinite(float(sigma[0].square())):
        raise NonFiniteMatrixError(
            f"σ_1² of J Q overflows, σ_1 = {float(sigma[0]):.3g}: scale the residual down"
        )
    return Core(sigma, vt.T.contiguous(), w.T @ triangle[:k, k])
