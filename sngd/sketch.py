"""The sketch: a k-dimensional subspace of parameter space that holds the Gramian's leading directions.

Randomised range finder (Halko, Martinsson, Tropp 2011) on the Gramian G = JᵀJ, which is never formed:

    A₀ = [r, J Ω] = Q₀ T₀ (TSQR),   W = A₀ T₀⁻¹,   Y = [Jᵀ W summed over ranks, δ],   Q = orth(Y)

The plain product Y = Jᵀ J Ω would lose every direction with σ_j² below the rounding of σ_1², that is σ_j <
10⁻⁸ σ_1 in float64. Orthonormalised in between (their algorithm 4.4) it reaches 10⁻¹⁶ σ_1.

Two directions are not left to chance: the gradient Jᵀr, for which r joins the columns of A₀, and the
displacement δ of the last step. Where memory bounds k they make up for many random ones.

Letters
    P        parameters; #n rows on this rank; k sketch rank
    Ω        (P, k) test matrix, equal on every rank without communication
    A₀, W    (#n, k) its image under J with r, whitened
    δ        (P,) displacement of the last step
    Y, Q     (P, k) sample of the Gramian's range, orthonormal basis
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from sngd.core import Triangle
from sngd.domain import fold
from sngd.factors import Factors
from sngd.jacobian import FactoredJacobian
from sngd.networks import AnyNetwork

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["TestMatrix", "TestMatrixName", "Whitened", "draw_test_matrix"]

# Diagonal entries of a triangle below this many roundings of their column hold no information.
_ROUNDING = 32
# Rows that are solved for at once: W is as large as A, a second copy of it would be one too many.
_ROWS = 1 << 14

TestMatrixName = Literal["khatri_rao", "gaussian"]


class TestMatrix(Protocol):
    """Ω (P, k), as far as it is needed: what the rows of J make of it."""

    @property
    def rank(self) -> int:
        """K."""
        ...

    def product(self, jacobian: FactoredJacobian, chunk: Factors) -> Tensor:
        """Rows of J Ω for a chunk of points, (m·q, k)."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Independent normal entries: P·k numbers, and a pass over the rows to multiply with.

    Args:
        matrix: (P, k).
    """

    matrix: Tensor

    @property
    def rank(self) -> int:
        """K."""
        return self.matrix.shape[1]

    def product(self, jacobian: FactoredJacobian, chunk: Factors) -> Tensor:
        """Rows of J Ω, (m·q, k)."""
        return jacobian.times(chunk, self.matrix)


@dataclass(frozen=True)
class KhatriRao:
    """Column j of a layer's block is the outer product a_j ⊗ (b_j, β_j) of normal vectors.

    J Ω then follows from the factors without forming rows, for less than an evaluation of the network
    (test matrices of low tensor rank: Rakhshan and Rabusseau 2020, arXiv 2003.05101; here one factor for a
    layer's outputs, the other for its inputs and bias).

    Args:
        outer: per layer a (out, k).
        inner: per layer b (in, k).
        bias: β (layers, k).
    """

    outer: list[Tensor]
    inner: list[Tensor]
    bias: Tensor

    @property
    def rank(self) -> int:
        """K."""
        return self.bias.shape[1]

    def product(self, jacobian: FactoredJacobian, chunk: Factors) -> Tensor:
        """Rows of J Ω, (m·q, k)."""
        return chunk.khatri_rao_product(self.outer, self.inner, self.bias, jacobian.tile)

    def dense(self, network: AnyNetwork) -> Tensor:
        """Ω (P, k), for tests.

        Args:
            network: whose parameters it belongs to.
        """
        matrix = self.bias.new_empty(network.parameters, self.rank)
        for layer, (a, b, beta) in enumerate(zip(self.outer, self.inner, self.bias, strict=True)):
            matrix[network.weight_slices[layer]] = torch.einsum("ok,ik->oik", a, b).flatten(0, 1)
            matrix[network.bias_slices[layer]] = a * beta
        return matrix


def draw_test_matrix(
    kind: TestMatrixName, network: AnyNetwork, rank: int, seed: int, step: int, like: Tensor
) -> TestMatrix:
    """Ω, equal on every rank without communication: a function of (seed, step).

    Growing the rank keeps the leading columns: they are drawn one after the other, because the values of
    a larger draw depend on its size.

    Args:
        kind: of matrix.
        network: whose parameters and layers it has.
        rank: k.
        seed: of the run.
        step: number of the step.
        like: dtype and device.
    """
    if kind == "gaussian":
        return Gaussian(_columns(network.parameters, rank, seed, step, like))
    outs, ins = [o for o, _ in network.shapes], [i for _, i in network.shapes]
    drawn = _columns(sum(outs) + sum(ins) + len(outs), rank, seed, step, like)
    outer, inner, bias = drawn.split([sum(outs), sum(ins), len(outs)])
    return KhatriRao(list(outer.split(outs)), list(inner.split(ins)), bias)


def _columns(length: int, rank: int, seed: int, step: int, like: Tensor) -> Tensor:
    generator = torch.Generator(device=like.device)
    generator.manual_seed(fold((seed, step)) >> 1)
    columns = like.new_empty(rank, length)
    for column in columns:
        column.normal_(generator=generator)
    return columns.T.contiguous()


class Whitened:
    """W = [X, J Ω] T₀⁻¹ (#n, k), whose columns are orthonormal over all ranks up to rounding.

    Args:
        jacobian: this rank's rows of J.
        given: X (#n, e), columns that W is to span beside those of J Ω.
        test: Ω (P, k − e).
        ranks: gathers a k×k triangle of each.
        stored: keep W; otherwise it is made anew from Ω and T₀, chunk by chunk.
    """

    def __init__(
        self, jacobian: FactoredJacobian, given: Tensor, test: TestMatrix, ranks: Ranks, stored: bool
    ) -> None:
        self.jacobian, self.test, self.given = jacobian, test, given.to(jacobian.dtype)
        self.rank = given.shape[1] + test.rank
        like = jacobian.theta.new_empty(0, dtype=jacobian.dtype)
        self._rows = like.new_empty(jacobian.shape[0], self.rank) if stored else None
        triangle = Triangle(self.rank, like)
        for chunk in jacobian.factors():
            product = self._product(chunk)
            triangle.add(product)
            if self._rows is not None:
                self._rows[chunk.rows] = product
        self._triangle = _floored(triangle.over(ranks))
        if self._rows is not None:
            for part in self._rows.split(_ROWS):
                part.copy_(self._solve(part))

    def rows(self, chunk: Factors) -> Tensor:
        """Rows of W for a chunk of points, (m·q, k)."""
        if self._rows is not None:
            return self._rows[chunk.rows]
        return self._solve(self._product(chunk))

    def _product(self, chunk: Factors) -> Tensor:
        return torch.cat([self.given[chunk.rows], self.test.product(self.jacobian, chunk)], dim=1)

    def _solve(self, product: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self._triangle, product, upper=True, left=False)


def _floored(triangle: Tensor) -> Tensor:
    """The triangle with its diagonal lifted to rounding level, so that it can be solved with.

    Columns beyond the numerical rank come out of the solve as noise of moderate size, which is what a
    range finder wants there. Rounding is that of each column: their sizes may differ by decades.
    """
    diagonal = triangle.diagonal()
    info = torch.finfo(triangle.dtype)
    sizes = torch.linalg.vector_norm(triangle, dim=0)
    floor = (_ROUNDING * info.eps * sizes).clamp_min(info.tiny)
    lifted = torch.where(diagonal.abs() < floor, floor, diagonal)
    return triangle + torch.diag(lifted - diagonal)
