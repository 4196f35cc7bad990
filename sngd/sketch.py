"""The sketch: a k-dimensional subspace of parameter space that holds the Gramian's leading directions.

Randomised range finder (Halko, Martinsson, Tropp 2011) on the Gramian G = JᵀJ, which is never formed:
Y = Jᵀ(J Ω), summed over ranks, Q = orth(Y).

Letters
    P        parameters; #n rows on this rank; k sketch rank
    Ω, Y, Q  (P, k) test matrix, sample of the range, orthonormal basis; the same on every rank
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sngd.core import tsqr
from sngd.domain import fold
from sngd.jacobian import FactoredJacobian

# Diagonal entries of a triangle below this many roundings of the largest hold no information.
_ROUNDING = 32

if TYPE_CHECKING:
    from sngd.collectives import Ranks

__all__ = ["draw_test_matrix", "orthonormalize", "range_finder"]


def draw_test_matrix(
    parameters: int, rank: int, seed: int, step: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Gaussian Ω (P, k), equal on every rank without communication: a function of (seed, step).

    Growing the rank keeps the leading columns: they are drawn one after the other, because the values of
    a larger draw depend on its size.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(fold((seed, step)) >> 1)
    columns = torch.empty(rank, parameters, dtype=dtype, device=device)
    for column in columns:
        column.normal_(generator=generator)
    return columns.T.contiguous()


def orthonormalize(y: Tensor) -> Tensor:
    """An orthonormal basis Q (P, k) whose span contains that of Y (P, k).

    Y is numerically rank-deficient by design. Householder reflections give orthonormal columns whatever
    the rank; columns are scaled to a largest entry of 1 first, so that squares neither over- nor underflow.

    Raises:
        ValueError: Y has fewer rows than columns or is not finite.
    """
    p, k = y.shape
    if p < k:
        raise ValueError(f"cannot orthonormalise {k} columns of length {p}: the rank exceeds the length")
    peaks = torch.linalg.vector_norm(y, ord=torch.inf, dim=0)
    if not bool(torch.isfinite(peaks).all()):
        raise ValueError("the sketch Y = JᵀJΩ is not finite: the residual's derivatives overflow")
    q, _ = torch.linalg.qr(y / torch.where(peaks > 0, peaks, 1.0))
    return q


def range_finder(jacobian: FactoredJacobian, omega: Tensor, ranks: Ranks, *, stable: bool = True) -> Tensor:
    """Q (P, k), an orthonormal basis for the range of JᵀJΩ.

    The plain product loses every direction with σ_j² below the rounding of σ_1², that is σ_j < 10⁻⁸ σ_1 in
    float64. The stable form orthonormalises between the two factors (Halko, Martinsson, Tropp 2011,
    algorithm 4.4) and reaches σ_j ≈ 10⁻¹⁶ σ_1:

        A₀ = J Ω = Q₀ T₀ (TSQR),   Y = Jᵀ Q₀,   Q = orth(Y)

    Args:
        jacobian: this rank's rows of J.
        omega: (P, k), the same on every rank.
        ranks: sums Y over ranks, P·k numbers; the stable form also gathers a k×k triangle of each.
        stable: orthonormalise in between; costs one more pass over the rows where they are not kept.
    """
    if not stable:
        return orthonormalize(ranks.sum(jacobian.normal_matmul(omega), "sketch"))
    a = jacobian.matmul(omega)
    whitened = torch.linalg.solve_triangular(_floored(tsqr(a, ranks)), a, upper=True, left=False)
    return orthonormalize(ranks.sum(jacobian.rmatmul(whitened), "sketch"))


def _floored(triangle: Tensor) -> Tensor:
    """The triangle with its diagonal lifted to rounding level, so that it can be solved with.

    Columns beyond the numerical rank come out of the solve as noise of moderate size, which is what a
    range finder wants there.
    """
    diagonal = triangle.diagonal()
    info = torch.finfo(triangle.dtype)
    floor = (_ROUNDING * info.eps * diagonal.abs().max()).clamp_min(info.tiny)
    lifted = torch.where(diagonal.abs() < floor, floor, diagonal)
    return triangle + torch.diag(lifted - diagonal)
