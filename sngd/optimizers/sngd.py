"""Sketched natural gradient descent: one walk from points to a step.

Best McKay, Kaur, Greif and Wetton, "Near-optimal Sketchy Natural Gradients for Physics-Informed Neural
Networks", ICML 2025 (PMLR 267:4005–4019), with a trust region, chord corrections and adaptive rank in
place of its pseudo-inverse and line search, which remain as globalization="line_search".

Letters
    P        parameters; N rows over all ranks, #n on this one; k sketch rank
    Q        (P, k) orthonormal basis of the sketch
    A        (#n, k) = J Q
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sngd.allocation import naming_out_of_memory
from sngd.basis import Basis, make_blocks, replicate, shard
from sngd.checks import at_least, one_of, require, whole, within
from sngd.core import factor
from sngd.landmarks import choose_landmarks
from sngd.memory import BasisName, Placement
from sngd.objective import Objective, State
from sngd.optimizers.gauss_newton import GaussNewton, Globalization, LineSearch, Rule, TrustRegion
from sngd.product import Product, make_product
from sngd.sketch import TestMatrixName, Whitened, draw_test_matrix
from sngd.trust import Outcome, next_rank

__all__ = ["SNGD"]

# A float32 sketch serves while √λ is so many times above its rounding.
_ESCALATION = 100.0
# A sketch of fewer columns has none to spare for directions of its own.
_LEAST_RANK = 4


@dataclass(frozen=True)
class SNGD:
    """Sketched natural gradient descent.

    Args:
        rank: sketch rank k to start with, and to stay with unless adaptive.
        max_rank: greatest rank; P and N bound it in any case.
        adaptive_rank: follow the spectrum up and down.
        subspace: "range_finder" (the sketch of the Gramian) or "landmarks" (rows of J at random points, for
            networks so large that passes over all rows, and arrays of P × k, cost more than the rest).
        test_matrix: range finder only: "khatri_rao" (a Khatri–Rao product per layer, whose product with J
            costs no pass over the rows) or "gaussian" (as published).
        recycle: let Q hold the gradient and the displacement of the last step, whatever Ω.
        basis: range finder only: Q "replicated" on every rank or "sharded" over them; "auto" decides by size.
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
    subspace: Literal["range_finder", "landmarks"] = "range_finder"
    test_matrix: TestMatrixName = "khatri_rao"
    recycle: bool = True
    basis: BasisName = "auto"
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
            (
                "subspace",
                one_of(self.subspace, ("range_finder", "landmarks")),
                '"range_finder" or "landmarks"',
            ),
            (
                "test_matrix",
                one_of(self.test_matrix, ("khatri_rao", "gaussian")),
                '"khatri_rao" or "gaussian"',
            ),
            ("recycle", isinstance(self.recycle, bool), "True or False"),
            (
                "basis",
                one_of(self.basis, ("auto", "replicated", "sharded")),
                '"auto", "replicated" or "sharded"',
            ),
            (
                "globalization",
                one_of(self.globalization, ("trust_region", "line_search")),
                '"trust_region" or "line_search"',
            ),
            ("corrections", whole(self.corrections, 0), "a whole number ≥ 0"),
            ("acceptance", within(self.acceptance, 0, 1), "between 0 and 1"),
            ("damping", within(self.damping, 0, math.inf), "finite and > 0"),
            ("cutoff", at_least(self.cutoff, 0, 1), "in [0, 1)"),
            ("halvings", whole(self.halvings, 0), "a whole number ≥ 0"),
        ]
        require(self, checks, "optimizer.")
        if self.subspace == "landmarks" and self.basis == "sharded":
            raise ValueError(
                "optimizer.basis='sharded' goes with optimizer.subspace='range_finder' only: with "
                "optimizer.subspace='landmarks' there is no array Q to shard, leave basis='auto'"
            )

    @property
    def placement(self) -> Placement:
        """Where Q is, as a memory plan is asked for it."""
        return "landmarks" if self.subspace == "landmarks" else self.basis

    def recycled(self, rank: int) -> int:
        """Vectors that Q holds whatever else it is made of, once there was a step: gradient, displacement.

        Args:
            rank: k.
        """
        return 2 if self.recycle and rank >= _LEAST_RANK else 0

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
        return GaussNewton(SketchedForm(self, objective, seed, rows), rule, state)


class SketchedModel:
    """The linear model inside the sketched subspace: z (k,), δ = Q z.

    Args:
        basis: Q.
        product: A = J Q.
        state: where it was made.
        rounding: of A in units of σ_1; that of its precision when absent.
        fallbacks: counts decompositions that failed and what served in their place.
    """

    note = ""

    def __init__(
        self,
        basis: Basis,
        product: Product,
        state: State,
        rounding: float | None = None,
        fallbacks: Counter[str] | None = None,
    ) -> None:
        self.basis, self.product = basis, product
        self.rounding = torch.finfo(product.dtype).eps if rounding is None else rounding
        self.residual, self.loss = state.residual, state.loss
        self.core = factor(product.triangle(state.residual), fallbacks)

    @property
    def largest(self) -> float:
        """σ_1² of A."""
        return float(self.core.sigma[0]) ** 2

    @property
    def least_damping(self) -> float:
        """(rounding × σ_1)²: A is not known to more."""
        return self.largest * self.rounding**2

    def solve(self, damping: float) -> Tensor:
        """The damped solution z(λ), (k,)."""
        return self.core.solve(damping)

    def correct(self, damping: float, z: Tensor, residual: Tensor) -> Tensor:
        """−V σ/(σ²+λ) (c + Uᵀq), q = r⁺ − r − A z: one local product and k numbers summed."""
        missed = residual - self.residual - self.product.times(z).to(residual.dtype)
        return self.core.solve(damping, self.core.c + self.core.project(self.product.pull(missed)))

    def predicted_reduction(self, damping: float) -> float:
        """p(λ)."""
        return self.core.predicted_reduction(damping)

    def displacement(self, z: Tensor) -> Tensor:
        """Q z (P,)."""
        return self.basis.displacement(z)


class SketchedForm:
    """Sketch and core of every step, and the rank of the next.

    In mixed precision the sketch begins in float32. Its rounding disturbs A by about 10⁻⁷ σ_1, which chord
    corrections remove as long as √λ stays well above; where it does not, the sketch goes over to float64.

    Args:
        config: rank and its bounds.
        objective: P, memory plan and precision.
        seed: of the test matrices.
        rows: N over all ranks.
    """

    def __init__(self, config: SNGD, objective: Objective, seed: int, rows: int) -> None:
        self.config, self.seed, self.objective = config, seed, objective
        parameters = objective.collocation.network.parameters
        self.most = min(config.max_rank or parameters, parameters, rows)
        # products of factors are cheap, and the landmarks' condition number is squared: no float32 for them
        self.dtype = None if config.subspace == "landmarks" else objective.sketch_dtype
        self._plan(self.dtype or objective.scale.dtype)  # an earlier stepper may have gone over to float64
        self.largest = objective.plan.largest_rank(self.most, config.placement)
        self.rank = min(config.rank, self.largest)
        self.note = ""
        self._from: Tensor | None = None  # θ of the last linearisation
        self._last: Tensor | None = None  # displacement of the last step that moved

    def linearize(self, objective: Objective, state: State, number: int) -> SketchedModel:
        """Range finder or landmarks, then A = J Q and its factorisation.

        Raises:
            OutOfMemoryError: the sketch does not fit.
        """
        with naming_out_of_memory(lambda: self._lacking(objective)):
            return self._linearize(objective, state, number)

    def _lacking(self, objective: Objective) -> str:
        budget = objective.plan.budget
        return (
            f"rank {objective.ranks.rank} has no memory for a sketch of rank k={self.rank} with "
            f"P={objective.collocation.network.parameters:,} and {objective.collocation.row_count:,} rows of "
            f"its own, planned for memory_gb={budget / 1e9:.3g}: set a lower memory_gb or "
            "optimizer.max_rank, or take more ranks"
        )

    def _linearize(self, objective: Objective, state: State, number: int) -> SketchedModel:
        theta, ranks = state.theta, objective.ranks
        how = objective.plan.arrange(self.rank, self.config.placement)
        jacobian = objective.jacobian(theta, self.dtype, self.rank)
        network, like = objective.collocation.network, theta.new_empty(0, dtype=jacobian.dtype)
        rows, directions = self._recycled(state)
        counted = objective.fallbacks
        if how.landmarks:
            vectors = [ranks.sum(jacobian.rmatmul(r), "gradient") for r in rows.T] + list(directions.T)
            chosen, rounding = choose_landmarks(
                jacobian, vectors, self.rank, self.seed, number, ranks, counted
            )
            product = make_product(jacobian, chosen, ranks, how.stored)
            return SketchedModel(chosen, product, state, rounding, counted)
        fresh = self.rank - rows.shape[1] - directions.shape[1]
        test = draw_test_matrix(self.config.test_matrix, network, fresh, self.seed, number, like)
        whitened = Whitened(jacobian, rows, test, ranks, how.stored)
        blocks = make_blocks(jacobian.panels, how.block, ranks.size)
        basis = (shard if how.sharded else replicate)(jacobian, whitened, directions, blocks, ranks)
        del whitened  # W is not needed beside A
        product = make_product(jacobian, basis, ranks, how.stored)
        return SketchedModel(basis, product, state, fallbacks=counted)

    def _recycled(self, state: State) -> tuple[Tensor, Tensor]:
        """The residual (#n, 0 or 1), whose image under Jᵀ is the gradient, and displacements (P, 0 or 1)."""
        moved = None if self._from is None else state.theta - self._from
        if moved is not None and bool(moved.any()):
            self._last = moved
        self._from = state.theta
        rows, directions = state.residual.unsqueeze(1), state.theta.unsqueeze(1)[:, :0]
        if not self.config.recycled(self.rank):
            return rows[:, :0], directions
        return rows, directions if self._last is None else self._last.unsqueeze(1)

    def learn(self, model: SketchedModel, outcome: Outcome[State]) -> None:
        """Adapt the rank to the spectrum and the accepted damping, and the precision to the damping."""
        config, self.note = self.config, ""
        if outcome.trial is not None and config.adaptive_rank and config.globalization == "trust_region":
            self.rank = next_rank(model.core.sigma, outcome.damping, config.rank, self.largest)
        floor = _ESCALATION**2 * model.least_damping
        if model.product.dtype != model.residual.dtype and (outcome.trial is None or outcome.damping < floor):
            self._escalate(model.residual.dtype)
            self.note = (
                f"the sketch goes over to float64: λ = {outcome.damping:.1e} is near float32's rounding"
            )

    def _escalate(self, dtype: torch.dtype) -> None:
        """Sketch in another precision from now on, and as the memory plan has it for that one."""
        self.dtype = dtype
        self._plan(dtype)
        self.largest = self.objective.plan.largest_rank(self.most, self.config.placement)
        self.rank = min(self.rank, self.largest)

    def _plan(self, dtype: torch.dtype) -> None:
        """Have the memory plan for a sketch in a precision, if it is for another one."""
        sizes = self.objective.plan.sizes
        if sizes is not None and sizes.sketch_itemsize != dtype.itemsize:
            self.objective.follow(self.objective.plan.with_sketch(dtype.itemsize))

    def save(self) -> dict[str, Any]:
        """The next rank and precision, θ of the last linearisation and the last displacement."""
        return {
            "rank": self.rank,
            "escalated": self.dtype is not None and self.dtype != self.objective.sketch_dtype,
            "from": self._from,
            "last": self._last,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take them."""
        like = self.objective.scale
        self._from, self._last = (None if x is None else x.to(like) for x in (saved["from"], saved["last"]))
        if saved["escalated"] and self.dtype != like.dtype:
            self._escalate(like.dtype)
        self.rank = min(saved["rank"], self.largest)
