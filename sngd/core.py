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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sngd.collectives import Ranks

__all__ = ["Core", "factor", "tsqr"]


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
        """p(λ) = ‖r‖² − ‖A z(λ) + r‖² = Σ (σc)² (σ²+2λ)/(σ²+λ)²."""
        s2 = self.sigma.square()
        denominator = (s2 + damping).square()
        gain = torch.where(denominator > 0, s2 * (s2 + 2 * damping) / denominator, 0.0)
        return float((gain * self.c.square()).sum())

    def effective_dimension(self, damping: float) -> float:
        """Σ σ²/(σ²+λ)."""
        s2 = self.sigma.square()
        return float((s2 / (s2 + damping).clamp_min(torch.finfo(s2.dtype).tiny)).sum())

    def project(self, a: Tensor, q: Tensor, ranks: Ranks) -> Tensor:
        """Uᵀ q = Σ⁻¹ Vᵀ Aᵀ q for a new vector q (#n,), (k,): one local product and k numbers summed."""
        product = ranks.sum((a.T @ q.to(a.dtype)).to(self.sigma.dtype), "projections")
        return torch.where(self.sigma > 0, (self.v.T @ product) / self.sigma, 0.0)


def tsqr(block: Tensor, ranks: Ranks) -> Tensor:
    """Upper triangle T (k, k) of the QR factorisation of row blocks that are spread over ranks.

    Args:
        block: (#n, k) this rank's rows; #n may be below k, or 0.
        ranks: gathers R triangles of k×k.
    """
    k = block.shape[1]
    triangle = block.new_zeros(k, k)
    if len(block):
        local = torch.linalg.qr(block, mode="r").R
        triangle[: len(local)] = local
    if ranks.size == 1:
        return triangle
    return torch.linalg.qr(ranks.gather(triangle, "triangles").flatten(0, 1), mode="r").R


def factor(a: Tensor, r: Tensor, ranks: Ranks) -> Core:
    """Factor A and project r.

    Args:
        a: (#n, k).
        r: (#n,) float64.
        ranks: gathers (k+1)² numbers per rank.
    """
    k = a.shape[1]
    stacked = torch.cat([a.to(r.dtype), r.unsqueeze(1)], dim=1)
    triangle = tsqr(stacked, ranks).double()
    w, sigma, vt = torch.linalg.svd(triangle[:k, :k])
    return Core(sigma, vt.T.contiguous(), w.T @ triangle[:k, k])
