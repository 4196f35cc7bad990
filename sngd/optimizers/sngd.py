"""Sketched natural gradient descent: one walk from points to a step.

Best McKay, Kaur, Greif and Wetton, "Near-optimal Sketchy Natural Gradients for Physics-Informed Neural
Networks", ICML 2025 (PMLR 267:4005–4019), with a trust region, chord corrections and adaptive rank in
place of its pseudo-inverse and line search, which remain as globalization="line_search".

Letters
    P        parameters; N rows over all ranks, #n on this one; k sketch rank
    Q        (P, k) orthonormal basis of the sketch, the same on every rank
    A        (#n, k) = J Q
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sngd.checks import require, whole, within
from sngd.core import factor
from sngd.objective import Objective, State
from sngd.optimizers.gauss_newton import GaussNewton, Globalization, LineSearch, Rule, TrustRegion
from sngd.sketch import draw_test_matrix, range_finder
from sngd.trust import Outcome, next_rank

if TYPE_CHECKING:
    from sngd.collectives import Ranks

__all__ = ["SNGD"]


@dataclass(frozen=True)
class SNGD:
    """Sketched natural gradient descent.

    Args:
        rank: sketch rank k to start with, and to stay with unless adaptive.
        max_rank: greatest rank; P and N bound it in any case.
        adaptive_rank: follow the spectrum up and down.
        stable_sketch: orthonormalise between the two factors of the Gramian, which keeps directions below
            10⁻⁸ σ_1; without it one pass over the rows is saved where they are not kept in memory.
        globalization: "trust_region" (damping judged after chord corrections) or "line_search" (the
            published pseudo-inverse with step lengths 2^{-j}).
        corrections: most chord corrections per candidate.
        acceptance: least ratio of actual to predicted reduction.
        damping: first λ in units of σ_1².
        cutoff: line search only: singular values below cutoff · σ_1 are dropped.
        halvings: line search only: greatest j.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    rank: int = 64
    max_rank: int | None = None
    adaptive_rank: bool = True
    stable_sketch: bool = True
    globalization: Globalization = "trust_region"
    corrections: int = 8
    acceptance: float = 0.075
    damping: float = 1e-3
    cutoff: float = 1e-10
    halvings: int = 30

    def __post_init__(self) -> None:
        checks = [
            ("rank", whole(self.rank, 1), "a whole number ≥ 1"),
            (
                "max_rank",
                self.max_rank is None or (whole(self.rank, 1) and whole(self.max_rank, self.rank)),
                "a whole number, at least rank",
            ),
            ("adaptive_rank", isinstance(self.adaptive_rank, bool), "True or False"),
            ("stable_sketch", isinstance(self.stable_sketch, bool), "True or False"),
            (
                "globalization",
                self.globalization in ("trust_region", "line_search"),
                '"trust_region" or "line_search"',
            ),
            ("corrections", whole(self.corrections, 0), "a whole number ≥ 0"),
            ("acceptance", within(self.acceptance, 0, 1), "between 0 and 1"),
            ("damping", within(self.damping, 0, math.inf), "finite and > 0"),
            ("cutoff", self.cutoff == 0 or within(self.cutoff, 0, 1), "in [0, 1)"),
            ("halvings", whole(self.halvings, 0), "a whole number ≥ 0"),
        ]
        require(self, checks, "optimizer.")

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> GaussNewton[SketchedModel]:
        """A stepper at a state.

        Args:
            objective: what is minimised.
            state: where to start.
            seed: of the test matrices.
            rows: N, residual rows over all ranks.
        """
        rule: Rule
        if self.globalization == "line_search":
            rule = LineSearch(lambda model: model.core.pseudo_solve(self.cutoff), 0.0, self.halvings)
        else:
            rule = TrustRegion(self.damping, self.corrections, self.acceptance)
        return GaussNewton(SketchedForm(self, state.theta.numel(), seed, rows), rule, state)


class SketchedModel:
    """The linear model inside the sketched subspace: z (k,), δ = Q z.

    Args:
        basis: Q (P, k).
        product: A (#n, k) = J Q.
        state: where it was made.
        ranks: sums k numbers for every new right-hand side.
    """

    note = ""

    def __init__(self, basis: Tensor, product: Tensor, state: State, ranks: Ranks) -> None:
        self.basis, self.product, self.ranks = basis, product, ranks
        self.residual, self.loss = state.residual, state.loss
        self.core = factor(product, state.residual, ranks)

    @property
    def largest(self) -> float:
        """σ_1² of A."""
        return float(self.core.sigma[0]) ** 2

    @property
    def least_damping(self) -> float:
        """(rounding × σ_1)²: A is not known to more."""
        return self.largest * torch.finfo(self.core.sigma.dtype).eps ** 2

    def solve(self, damping: float) -> Tensor:
        """The damped solution z(λ), (k,)."""
        return self.core.solve(damping)

    def correct(self, damping: float, z: Tensor, residual: Tensor) -> Tensor:
        """−V σ/(σ²+λ) (c + Uᵀq), q = r⁺ − r − A z: one local product and k numbers summed."""
        predicted = (self.product @ z.to(self.product.dtype)).to(residual.dtype)
        missed = residual - self.residual - predicted
        return self.core.solve(damping, self.core.c + self.core.project(self.product, missed, self.ranks))

    def predicted_reduction(self, damping: float) -> float:
        """p(λ)."""
        return self.core.predicted_reduction(damping)

    def displacement(self, z: Tensor) -> Tensor:
        """Q z (P,)."""
        return self.basis @ z.to(self.basis.dtype)


class SketchedForm:
    """Sketch and core of every step, and the rank of the next.

    Args:
        config: rank and its bounds.
        parameters: P.
        seed: of the test matrices.
        rows: N over all ranks.
    """

    note = ""

    def __init__(self, config: SNGD, parameters: int, seed: int, rows: int) -> None:
        self.config, self.seed = config, seed
        self.largest = min(config.max_rank or parameters, parameters, rows)
        self.rank = min(config.rank, self.largest)

    def linearize(self, objective: Objective, state: State, number: int) -> SketchedModel:
        """Range finder, then A = J Q and its factorisation."""
        theta, ranks = state.theta, objective.ranks
        jacobian = objective.jacobian(theta)
        omega = draw_test_matrix(theta.numel(), self.rank, self.seed, number, jacobian.dtype, theta.device)
        q = range_finder(jacobian, omega, ranks, stable=self.config.stable_sketch)
        return SketchedModel(q, jacobian.matmul(q), state, ranks)

    def learn(self, model: SketchedModel, outcome: Outcome[State]) -> None:
        """Adapt the rank to the spectrum and the accepted damping."""
        config = self.config
        if outcome.trial is not None and config.adaptive_rank and config.globalization == "trust_region":
            self.rank = next_rank(model.core.sigma, outcome.damping, config.rank, self.largest)

    def save(self) -> dict[str, Any]:
        """The next rank."""
        return {"rank": self.rank}
