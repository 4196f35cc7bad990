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
from typing import Any, Literal

from torch import Tensor

from sngd.checks import require, whole, within
from sngd.core import factor
from sngd.objective import Objective, State
from sngd.optimizers.base import Report
from sngd.sketch import draw_test_matrix, range_finder
from sngd.trust import Model, Outcome, line_search, next_rank, search_damping

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
    globalization: Literal["trust_region", "line_search"] = "trust_region"
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

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> SNGDStepper:
        """A stepper at a state.

        Args:
            objective: what is minimised.
            state: where to start.
            seed: of the test matrices.
            rows: N, residual rows over all ranks.
        """
        return SNGDStepper(self, state, seed, rows)


class SNGDStepper:
    """SNGD on the way: the state, the last damping and the next rank.

    Args:
        config: its settings.
        state: where it stands.
        seed: of the test matrices.
        rows: N over all ranks.
    """

    def __init__(self, config: SNGD, state: State, seed: int, rows: int) -> None:
        self.config, self.state, self.seed = config, state, seed
        self.largest = min(config.max_rank or state.theta.numel(), state.theta.numel(), rows)
        self.rank = min(config.rank, self.largest)
        self.damping: float | None = None

    def step(self, objective: Objective, number: int) -> Report:
        """One walk: rows → sketch → core → damping and corrections → θ."""
        state, ranks, k = self.state, objective.ranks, self.rank
        theta = state.theta
        jacobian = objective.jacobian(theta)
        omega = draw_test_matrix(theta.numel(), k, self.seed, number, jacobian.dtype, theta.device)
        q = range_finder(jacobian, omega, ranks, stable=self.config.stable_sketch)
        a = jacobian.matmul(q)
        core = factor(a, state.residual, ranks)
        model = Model(
            core,
            state.residual,
            state.loss,
            predict=lambda z: (a @ z.to(a.dtype)).to(state.residual.dtype),
            project=lambda x: core.project(a, x, ranks),
        )

        def evaluate(z: Tensor) -> State:
            return objective.evaluate(theta + (q @ z.to(q.dtype)).to(theta.dtype))

        outcome = self._search(model, evaluate)
        if outcome.trial is not None:
            self.state = outcome.trial
            if self.config.adaptive_rank and self.config.globalization == "trust_region":
                self.rank = next_rank(core.sigma, outcome.damping, self.config.rank, self.largest)
        return Report(
            accepted=outcome.trial is not None,
            damping=outcome.damping,
            rank=k,
            reduction_ratio=outcome.ratio,
            corrections=outcome.corrections,
            evaluations=outcome.evaluations,
            sigma=core.sigma,
            effective_dimension=core.effective_dimension(outcome.damping),
        )

    def _search(self, model: Model, evaluate: Any) -> Outcome[State]:
        config = self.config
        if config.globalization == "line_search":
            return line_search(model, evaluate, cutoff=config.cutoff, halvings=config.halvings)
        if self.damping is None:
            self.damping = config.damping * float(model.core.sigma[0]) ** 2
        outcome: Outcome[State] = search_damping(
            model,
            self.damping,
            evaluate,
            corrections=config.corrections,
            acceptance=config.acceptance,
        )
        self.damping = outcome.damping
        return outcome

    def save(self) -> dict[str, Any]:
        """Damping and rank."""
        return {"damping": self.damping, "rank": self.rank}
