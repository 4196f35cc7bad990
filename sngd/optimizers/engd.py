"""Energy natural gradient descent with the exact Gramian: the baseline of the field.

Müller and Zeinhofer, "Achieving High Accuracy with PINNs via Energy Natural Gradient Descent", ICML 2023:
least-squares solution of G d = ∇L, then the best of the step lengths 2^{-j}. For residuals the energy's
Gramian is that of Gauss and Newton, G = JᵀJ.

Letters
    P        parameters; N rows over all ranks, #n on this one
    G        (P, P) = JᵀJ;   g (P,) = Jᵀ r
    δ        (P,) step
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sngd.gram import DampedMatrix, form_gramian
from sngd.jacobian import FactoredJacobian
from sngd.objective import Objective, State
from sngd.optimizers.gauss_newton import GaussNewton, StepRule
from sngd.trust import Outcome

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["ENGD", "ExactForm", "FullModel"]

# What a step holds of the Gram matrix: itself, the damped copy and its factor.
_COPIES = 3


@dataclass(frozen=True)
class ENGD(StepRule):
    """Energy natural gradient descent with the exact Gramian G = JᵀJ, which takes P² numbers of memory.

    Args:
        globalization: "line_search" (as published) or "trust_region" (damping judged after corrections).
        fixed_damping: line search only: λ added to G, in the units of the loss; 0 takes the least-squares
            solution of least norm.
        halvings: line search only: greatest j of the step lengths 2^{-j}.
        corrections: trust region only: most chord corrections per candidate.
        acceptance: trust region only: least ratio of actual to predicted reduction.
        damping: trust region only: first λ in units of σ_1².

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    fixed_damping: float = 0.0

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> GaussNewton[FullModel]:
        """A stepper at a state; nothing in it is random.

        Raises:
            ValueError: G does not fit into the memory budget.
        """
        check_memory("ENGD", "Gramian", state.theta.numel(), state.theta, objective)
        return GaussNewton(ExactForm(), self.rule(), state)


def gram_bytes(size: int, itemsize: int) -> int:
    """What a Gram matrix of size² numbers, its damped copy and its factor take."""
    return _COPIES * size**2 * itemsize


def fits(size: int, theta: Tensor, objective: Objective) -> bool:
    """Whether a Gram matrix of size² numbers, its damped copy and its factor fit into the memory budget."""
    budget = objective.plan.budget
    return not budget or gram_bytes(size, theta.element_size()) <= budget


def check_memory(what: str, matrix: str, size: int, theta: Tensor, objective: Objective) -> None:
    """Refuse a Gram matrix that would not fit.

    Raises:
        ValueError: size² numbers, three times over, exceed the memory budget.
    """
    if not fits(size, theta, objective):
        needed, budget = gram_bytes(size, theta.element_size()), objective.plan.budget
        raise ValueError(
            f"optimizer {what} needs {needed / 1e9:.3g} GB for a {matrix} of {size:,}² numbers, its damped "
            f"copy and its factor, the budget is {budget / 1e9:.3g} GB: take SNGD, which needs none of them, "
            "or raise memory_gb"
        )


class FullModel:
    """The linear model in all of parameter space: z = δ (P,). Forms differ in how they solve.

    Args:
        jacobian: this rank's rows of J.
        state: where it was made.
        ranks: sums P numbers for every new right-hand side.
        matrix: what is solved with.
    """

    core = None

    def __init__(self, jacobian: FactoredJacobian, state: State, ranks: Ranks, matrix: DampedMatrix) -> None:
        self.jacobian, self.ranks, self.matrix = jacobian, ranks, matrix
        self.residual, self.loss = state.residual, state.loss
        self.gradient = self.pull(state.residual)
        self._solved: tuple[float, Tensor] | None = None

    @property
    def note(self) -> str:
        """Said once Cholesky has failed."""
        return "Cholesky failed, eigenvalues served" if self.matrix.indefinite else ""

    @property
    def largest(self) -> float:
        """σ_1²."""
        return self.matrix.largest()

    @property
    def least_damping(self) -> float:
        """λ below which rounding has destroyed the Gram matrix."""
        return self.matrix.least_damping

    def solve(self, damping: float) -> Tensor:
        """δ(λ) = −(G+λ)⁻¹ g, (P,)."""
        if self._solved is None or self._solved[0] != damping:
            self._solved = (damping, self.solve_for(damping, self.residual))
        return self._solved[1]

    def solve_for(self, damping: float, right: Tensor) -> Tensor:
        """−(G+λ)⁻¹ Jᵀ x for x = `right` (#n,), (P,)."""
        pulled = self.gradient if right is self.residual else self.pull(right)
        return self.matrix.solve(damping, pulled).neg_()

    def correct(self, damping: float, z: Tensor, residual: Tensor) -> Tensor:
        """δ − (G+λ)⁻¹ (Jᵀr⁺ + λδ): the chord step as an update, which refines rounding away."""
        return z - self.matrix.solve(damping, self.pull(residual).add_(z, alpha=damping))

    def pull(self, x: Tensor) -> Tensor:
        """Jᵀ x (P,), summed over ranks."""
        return self.ranks.sum(self.jacobian.rmatmul(x), "gradient")

    def predicted_reduction(self, damping: float) -> float:
        """p(λ) = −gᵀδ + λ‖δ‖², which is ‖r‖² − ‖Jδ + r‖² for δ = δ(λ) without its cancellation."""
        step = self.solve(damping)
        return float(damping * step.square().sum() - self.gradient @ step)

    def displacement(self, z: Tensor) -> Tensor:
        """δ itself."""
        return z


class ExactForm:
    """Forms and factors the Gramian in every step."""

    note = ""

    def linearize(self, objective: Objective, state: State, number: int) -> FullModel:
        """The model at a state: P² numbers are summed over ranks."""
        jacobian = objective.jacobian(state.theta)
        gramian = form_gramian(jacobian, objective.ranks)
        matrix = DampedMatrix(gramian, "the Gramian JᵀJ", objective.fallbacks)
        return FullModel(jacobian, state, objective.ranks, matrix)

    def learn(self, model: FullModel, outcome: Outcome[State]) -> None:
        """Nothing carries over."""

    def save(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        """Nothing."""
