"""The sketch: a k-dimensional subspace of parameter space that holds the Gramian's leading directions.

Randomised range finder (Halko, Martinsson, Tropp 2011, algorithm 4.3 with one power step, on the
Gramian G = JᵀJ that is never formed):  Y = Jᵀ(J Ω), summed over ranks, Q = orth(Y).

Letters
    P        parameters; #n rows on this rank; k sketch rank
    Ω, Y, Q  (P, k) test matrix, sample of the range, orthonormal basis; the same on every rank
"""

from __future__ import annotations

import torch
from torch import Tensor

from sngd.collectives import Ranks
from sngd.domain import fold
from sngd.jacobian import FactoredJacobian

__all__ = ["orthonormalize", "range_finder", "test_matrix"]


def test_matrix(
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


test_matrix.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks


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


def range_finder(jacobian: FactoredJacobian, omega: Tensor, ranks: Ranks) -> Tensor:
    """Q (P, k), an orthonormal basis for the range of JᵀJΩ.

    Args:
        jacobian: this rank's rows of J.
        omega: (P, k), the same on every rank.
        ranks: sums Y over ranks, P·k numbers.
    """
    return orthonormalize(ranks.sum(jacobian.normal_matmul(omega)))
