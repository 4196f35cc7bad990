"""Natural gradients in the kernel form: the N×N matrix K = JJᵀ in place of the P×P Gramian.

ENGD-W and SPRING for physics-informed networks: Guzmán-Cordero, Dangel, Goldshlager and Zeinhofer,
"Improving Energy Natural Gradient Descent through Woodbury, Momentum, and Randomization", arXiv 2505.12149.
SPRING itself: Goldshlager, Abrahamsen and Lin, J. Comput. Phys. 516, 2024 (arXiv 2401.10190).

Letters
    P        parameters; N rows over all ranks, #n on this one
    K        (N, N) = JJᵀ, the same on every rank
    δ        (P,) = −Jᵀ (K + λ)⁻¹ r, step
    φ, μ     (P,) momentum direction and its decay
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from sngd.checks import at_least, within
from sngd.gram import DampedMatrix, Layout, form_kernel
from sngd.jacobian import FactoredJacobian
from sngd.objective import Objective, State
from sngd.optimizers.engd import FullModel, check_memory
from sngd.optimizers.gauss_newton import FixedRate, GaussNewton, Rule, StepRule
from sngd.trust import Outcome

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["ENGDW", "SPRING", "KernelForm"]


@dataclass(frozen=True)
class ENGDW(StepRule):
    """Energy natural gradient descent by the Woodbury identity, ENGD-W; takes N² numbers of memory.

    Args:
        globalization: "line_search" (as published) or "trust_region" (damping judged after corrections).
        fixed_damping: line search only: λ added to K, in the units of the loss. The published runs tuned it
            for each problem, between 3e-12 and 5e-3.
        halvings: line search only: greatest j of the step lengths 2^{-j}.
        corrections: trust region only: most chord corrections per candidate.
        acceptance: trust region only: least ratio of actual to predicted reduction.
        damping: trust region only: first λ in units of σ_1².

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> GaussNewton[KernelModel]:
        """A stepper at a state; nothing in it is random.

        Raises:
            ValueError: K does not fit into the memory budget.
        """
        check_memory("ENGD-W", "kernel", rows, state.theta, objective)
        return GaussNewton(KernelForm(), self.rule(), state)


@dataclass(frozen=True)
class SPRING(StepRule):
    """ENGD-W with momentum: δ = argmin ‖J δ + r‖² + λ‖δ − μφ‖², φ the last such direction.

    Args:
        globalization: "line_search" or "fixed_rate" (both as published), or "trust_region" (damping judged
            after chord corrections; φ is then the last accepted step).
        fixed_damping: published rules only: λ added to K, in the units of the loss.
        halvings: line search only: greatest j of the step lengths 2^{-j}.
        corrections: trust region only: most chord corrections per candidate.
        acceptance: trust region only: least ratio of actual to predicted reduction.
        damping: trust region only: first λ in units of σ_1².
        momentum: μ.
        rate: fixed rate only: share of the direction.
        longest_step: fixed rate only: bound on the norm of a step.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    # one rule more than the others have
    globalization: Literal["line_search", "fixed_rate", "trust_region"] = "line_search"  # type: ignore[assignment]
    momentum: float = 0.3
    rate: float = 0.06
    longest_step: float = 0.03

    def _checks(self) -> list[tuple[str, bool, str]]:
        return [
            *super()._checks(),
            ("momentum", at_least(self.momentum, 0, 1), "in [0, 1)"),
            ("rate", within(self.rate, 0, math.inf), "finite and > 0"),
            ("longest_step", within(self.longest_step, 0, math.inf), "finite and > 0"),
        ]

    def _rules(self) -> tuple[str, ...]:
        return ("line_search", "fixed_rate", "trust_region")

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> GaussNewton[MomentumModel]:
        """A stepper at a state; nothing in it is random.

        Raises:
            ValueError: K does not fit into the memory budget.
        """
        check_memory("SPRING", "kernel", rows, state.theta, objective)
        published = self.globalization != "trust_region"
        form = MomentumForm(KernelForm(), self.momentum, state.theta, scaled=not published)
        return GaussNewton(form, self._rule(form), state)

    def _rule(self, form: MomentumForm) -> Rule:
        def direction(model: MomentumModel) -> Tensor:
            return form.unbiased(model.solve(self.fixed_damping))

        if self.globalization == "fixed_rate":
            return FixedRate(direction, self.fixed_damping, self.rate, self.longest_step)
        return self.rule(direction)


class KernelModel(FullModel):
    """The linear model solved through K: δ(λ) = −Jᵀ (K+λ)⁻¹ r.

    Args:
        jacobian: this rank's rows of J.
        state: where it was made.
        ranks: gathers N and sums P numbers for every new right-hand side.
        layout: of the rows over ranks.
        fallbacks: counts decompositions that failed and what served in their place.
    """

    def __init__(
        self,
        jacobian: FactoredJacobian,
        state: State,
        ranks: Ranks,
        layout: Layout,
        fallbacks: Counter[str] | None = None,
    ) -> None:
        self.layout = layout
        kernel = form_kernel(jacobian, layout, ranks)
        super().__init__(jacobian, state, ranks, DampedMatrix(kernel, "the kernel JJᵀ", fallbacks))

    def solve_for(self, damping: float, right: Tensor) -> Tensor:
        """−Jᵀ (K+λ)⁻¹ x for x = `right` (#n,), (P,)."""
        weights = self.matrix.solve(damping, self.layout.collect(right))
        return self.pull(weights[self.layout.mine]).neg_()

    def correct(self, damping: float, z: Tensor, residual: Tensor) -> Tensor:
        """−Jᵀ (K+λ)⁻¹ (r⁺ − J δ)."""
        return self.solve_for(damping, residual - self.jacobian.matmul(z))


class KernelForm:
    """Forms and factors the kernel in every step."""

    note = ""

    def linearize(self, objective: Objective, state: State, number: int) -> KernelModel:
        """K over ranks: the factors of all rows and N² numbers travel."""
        jacobian, ranks = objective.jacobian(state.theta), objective.ranks
        layout = Layout(objective.collocation.batches, ranks, state.theta.device)
        return KernelModel(jacobian, state, ranks, layout, objective.fallbacks)

    def learn(self, model: KernelModel, outcome: Outcome[State]) -> None:
        """Nothing carries over."""

    def save(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        """Nothing."""


class MomentumModel:
    """A linear model whose damping pulls towards μφ instead of towards 0.

        δ = μφ + argmin over s of ‖J s + (r + μJφ)‖² + λ‖s‖²

    Args:
        base: model of the same step without momentum.
        pull: μφ (P,).
    """

    core = None

    def __init__(self, base: FullModel, pull: Tensor) -> None:
        self.base, self.pull = base, pull
        self.loss = base.loss
        self._pulled = base.residual + base.jacobian.matmul(pull)
        self.direction: Tensor | None = None

    @property
    def note(self) -> str:
        """That of the model without momentum."""
        return self.base.note

    @property
    def largest(self) -> float:
        """σ_1²."""
        return self.base.largest

    @property
    def least_damping(self) -> float:
        """λ below which rounding has destroyed the Gram matrix."""
        return self.base.least_damping

    def solve(self, damping: float) -> Tensor:
        """δ(λ) (P,); the last one is kept as `direction`."""
        self.direction = self.pull + self.base.solve_for(damping, self._pulled)
        return self.direction

    def correct(self, damping: float, z: Tensor, residual: Tensor) -> Tensor:
        """The same for r⁺ − J(δ − μφ) in place of r + μJφ."""
        return self.pull + self.base.solve_for(damping, residual - self.base.jacobian.matmul(z - self.pull))

    def predicted_reduction(self, damping: float) -> float:
        """p(λ) = −2gᵀδ − ‖Jδ‖²."""
        step = self.solve(damping)
        bent = self.base.jacobian.matmul(step).double().square().sum().reshape(1)
        bent = self.base.ranks.sum(bent, "projections")
        return float(-2 * (self.base.gradient @ step) - bent)

    def displacement(self, z: Tensor) -> Tensor:
        """δ itself."""
        return z


class MomentumForm:
    """A form with momentum.

    Args:
        form: without.
        momentum: μ.
        theta: like φ, which starts at 0.
        scaled: φ is the step that was taken, 0 after none; otherwise the full direction, as published,
            whatever share of it was taken.
    """

    note = ""

    def __init__(self, form: KernelForm, momentum: float, theta: Tensor, *, scaled: bool) -> None:
        self.form, self.momentum, self.scaled = form, momentum, scaled
        self.velocity, self.steps = torch.zeros_like(theta), 0
        self._before = theta

    def unbiased(self, step: Tensor) -> Tensor:
        """δ / √(1 − μ^{2t}) in step t: early directions hold less momentum than later ones."""
        return step / math.sqrt(1.0 - self.momentum ** (2 * (self.steps + 1)))

    def linearize(self, objective: Objective, state: State, number: int) -> MomentumModel:
        """The form's model, pulled towards μφ."""
        self._before = state.theta
        return MomentumModel(self.form.linearize(objective, state, number), self.momentum * self.velocity)

    def learn(self, model: MomentumModel, outcome: Outcome[State]) -> None:
        """φ ← the direction of this step."""
        self.steps += 1
        if not self.scaled:
            assert model.direction is not None
            self.velocity = model.direction
        elif outcome.trial is None:
            self.velocity = torch.zeros_like(self.velocity)
        else:
            self.velocity = outcome.trial.theta - self._before

    def save(self) -> dict[str, Any]:
        """φ and how many steps it holds."""
        return {"velocity": self.velocity.cpu(), "steps": self.steps}

    def load(self, saved: dict[str, Any]) -> None:
        """Take φ and its steps."""
        self.velocity, self.steps = saved["velocity"].to(self.velocity), saved["steps"]
