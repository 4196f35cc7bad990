"""A matrix where the sketch expects a factored Jacobian, so that its spectrum can be chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sngd.basis import make_blocks, replicate
from sngd.collectives import LocalRanks
from sngd.factors import Panel
from sngd.jacobian import FactoredJacobian
from sngd.sketch import Gaussian, TestMatrix, Whitened


@dataclass
class Chunk:
    """Some rows of the matrix."""

    rows: slice


class DenseJacobian:
    """What range finder and basis ask of a Jacobian, from a matrix J (n, P).

    Args:
        j: the matrix.
        chunk: rows of a chunk.
        panel: columns of a panel.
    """

    def __init__(self, j: Tensor, chunk: int = 7, panel: int = 11) -> None:
        self.j, self.chunk, self.shape, self.dtype = j, chunk, j.shape, j.dtype
        self.theta = j.new_zeros(j.shape[1])
        starts = range(0, j.shape[1], panel)
        self.panels = [Panel(slice(a, min(a + panel, j.shape[1])), 0, slice(0, 0)) for a in starts]

    def factors(self) -> Iterator[Chunk]:
        for start in range(0, self.shape[0], self.chunk):
            yield Chunk(slice(start, min(start + self.chunk, self.shape[0])))

    def _columns(self, panels) -> slice:
        panels = self.panels if panels is None else panels
        return slice(panels[0].columns.start, panels[-1].columns.stop)

    def times(self, chunk: Chunk, v: Tensor, panels=None) -> Tensor:
        return self.j[chunk.rows, self._columns(panels)] @ v

    def add_transposed_times(self, chunk: Chunk, w: Tensor, out: Tensor, panels=None) -> None:
        out += self.j[chunk.rows, self._columns(panels)].T @ w

    def matmul(self, v: Tensor, panels=None) -> Tensor:
        return self.j[:, self._columns(panels)] @ v

    def rmatmul(self, w: Tensor, panels=None) -> Tensor:
        return self.j[:, self._columns(panels)].T @ w


def find_range(jacobian, test: TestMatrix | Tensor, ranks=None, stored: bool = True, most=None) -> Tensor:
    """Q (P, k), whole, of J and Ω, with nothing else in its span.

    Args:
        jacobian: factored or dense.
        test: Ω, as a matrix or not.
        ranks: who holds the other rows.
        stored: keep W.
        most: parameters of a block.
    """
    ranks = ranks or LocalRanks()
    test = Gaussian(test) if isinstance(test, Tensor) else test
    none = jacobian.theta.new_empty(jacobian.shape[0], 0, dtype=jacobian.dtype)
    whitened = Whitened(jacobian, none, test, ranks, stored)
    directions = jacobian.theta.new_empty(jacobian.shape[1], 0, dtype=jacobian.dtype)
    return replicate(
        jacobian, whitened, directions, make_blocks(jacobian.panels, most, ranks.size), ranks
    ).matrix


def dense_test_matrix(test: TestMatrix, jacobian: FactoredJacobian) -> Tensor:
    """Ω (P, k)."""
    return test.matrix if isinstance(test, Gaussian) else test.dense(jacobian.collocation.network)


def orthonormality(q: Tensor) -> float:
    """Largest entry of QᵀQ − I."""
    exact = q.double()
    return float((exact.T @ exact - torch.eye(q.shape[1], dtype=torch.float64)).abs().max())


def span_distance(a: Tensor, b: Tensor) -> float:
    """‖A Aᵀ − B Bᵀ‖ of two orthonormal bases: 0 for the same span."""
    return float(torch.linalg.matrix_norm(a @ a.T - b @ b.T, 2))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def decaying(rows: int, columns: int, decades: float, seed: int = 0) -> Tensor:
    """A matrix whose singular values are 1 … 10^−decades."""
    u, _ = torch.linalg.qr(random(rows, columns, seed=seed))
    v, _ = torch.linalg.qr(random(columns, columns, seed=seed + 1))
    return u * torch.logspace(0, -decades, columns, dtype=torch.float64) @ v.T
