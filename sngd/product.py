"""Products with A = J Q: stored, or recomputed where n·k numbers do not fit.

Letters
    #n       rows on this rank; k sketch rank
    A        (#n, k) = J Q
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sngd.basis import Basis, ReplicatedBasis
from sngd.core import Triangle
from sngd.jacobian import FactoredJacobian

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["Product", "RecomputedProduct", "StoredProduct"]

# Rows that [A | r] is put together for at once.
_ROWS = 1 << 14


class Product(Protocol):
    """The linear map z ↦ A z."""

    dtype: torch.dtype

    def times(self, z: Tensor) -> Tensor:
        """A z (#n,) for z (k,)."""
        ...

    def pull(self, x: Tensor) -> Tensor:
        """Aᵀ x (k,), summed over ranks, for this rank's x (#n,)."""
        ...

    def triangle(self, r: Tensor) -> Tensor:
        """The triangle (k+1, k+1) of [A | r] over all ranks, in the precision of r (#n,)."""
        ...


class StoredProduct:
    """A kept in memory.

    Args:
        matrix: A (#n, k).
        ranks: sums k numbers of a product, gathers triangles.
    """

    def __init__(self, matrix: Tensor, ranks: Ranks) -> None:
        self.matrix, self.ranks, self.dtype = matrix, ranks, matrix.dtype

    def times(self, z: Tensor) -> Tensor:
        """A z."""
        return self.matrix @ z.to(self.dtype)

    def pull(self, x: Tensor) -> Tensor:
        """Aᵀ x: k numbers in the precision of x are summed."""
        return self.ranks.sum((self.matrix.T @ x.to(self.dtype)).to(x.dtype), "projections")

    def triangle(self, r: Tensor) -> Tensor:
        """The triangle of [A | r]."""
        triangle = Triangle(self.matrix.shape[1] + 1, r)
        for rows, right in zip(self.matrix.split(_ROWS), r.split(_ROWS), strict=True):
            triangle.add(torch.cat([rows.to(r.dtype), right.unsqueeze(1)], dim=1))
        return triangle.over(self.ranks)


class RecomputedProduct:
    """A made from the factors of J whenever it is needed, chunk by chunk: nothing of size n·k is held.

    Args:
        jacobian: this rank's rows of J.
        basis: Q.
        ranks: gathers triangles.
    """

    def __init__(self, jacobian: FactoredJacobian, basis: ReplicatedBasis, ranks: Ranks) -> None:
        self.jacobian, self.basis, self.ranks, self.dtype = jacobian, basis, ranks, jacobian.dtype

    def times(self, z: Tensor) -> Tensor:
        """J (Q z)."""
        return self.jacobian.matmul(self.basis.displacement(z))

    def pull(self, x: Tensor) -> Tensor:
        """Qᵀ (Jᵀ x)."""
        return self.basis.project(self.jacobian.rmatmul(x).to(x.dtype))

    def triangle(self, r: Tensor) -> Tensor:
        """The triangle of [A | r]."""
        triangle = Triangle(self.basis.rank + 1, r)
        for chunk in self.jacobian.factors():
            rows = self.jacobian.times(chunk, self.basis.matrix).to(r.dtype)
            triangle.add(torch.cat([rows, r[chunk.rows].unsqueeze(1)], dim=1))
        return triangle.over(self.ranks)


def make_product(jacobian: FactoredJacobian, basis: Basis, ranks: Ranks, stored: bool) -> Product:
    """A = J Q, kept or not; a basis that is spread over ranks needs it kept."""
    if not stored and isinstance(basis, ReplicatedBasis):
        return RecomputedProduct(jacobian, basis, ranks)
    return StoredProduct(basis.times(jacobian), ranks)
