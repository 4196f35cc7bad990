"""One Gauss–Newton step out of two parts: a form of the linear algebra and a rule that chooses the step.

    form     θ → linear model:   sketched (SNGD), exact (ENGD), kernel (ENGD-W, SPRING)
    rule     linear model → θ⁺:  trust region with chord corrections, line search, fixed rate

Every form goes with every rule, so that one is judged apart from the other.

Letters
    P        parameters; #n rows on this rank
    δ        (P,) step; z its coordinates in the form at hand
    λ        damping
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from sngd.checks import at_least, one_of, require, whole, within
from sngd.core import Core
from sngd.objective import Objective, State
from sngd.optimizers.base import Report
from sngd.trust import Model, Outcome, line_search, search_damping

__all__ = [
    "FixedRate",
    "Form",
    "GaussNewton",
    "Globalization",
    "LineSearch",
    "LinearModel",
    "StepRule",
    "TrustRegion",
]

Globalization = Literal["trust_region", "line_search"]
Evaluate = Callable[[Tensor], State]


class LinearModel(Model, Protocol):
    """A linear model that knows what it is a model of."""

    @property
    def note(self) -> str:
        """What the log should say of this step."""
        ...

    @property
    def core(self) -> Core | None:
        """Singular values and factors of J as far as the form computes them."""
        ...

    def displacement(self, z: Tensor) -> Tensor:
        """δ (P,) of coordinates z."""
        ...


M = TypeVar("M", bound=LinearModel)


class Form(Protocol[M]):
    """How the linear algebra of a step is done."""

    @property
    def note(self) -> str:
        """What the log should say of this choice; empty for most."""
        ...

    def linearize(self, objective: Objective, state: State, number: int) -> M:
        """The linear model of step `number` at a state."""
        ...

    def learn(self, model: M, outcome: Outcome[State]) -> None:
        """Note what came of a model, for the next one."""

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        ...

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""


class Rule(Protocol):
    """How a step is chosen from a linear model."""

    def search(self, model: Any, evaluate: Evaluate) -> Outcome[State]:
        """The step that is taken, if any."""
        ...

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        ...

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""


class TrustRegion:
    """Damping judged after chord corrections (`trust.search_damping`), remembered from step to step.

    Args:
        first: first λ in units of σ_1².
        corrections: most chord corrections per candidate.
        acceptance: least ratio of actual to predicted reduction.
    """

    def __init__(self, first: float, corrections: int, acceptance: float) -> None:
        self.first, self.corrections, self.acceptance = first, corrections, acceptance
        self.damping: float | None = None

    def search(self, model: LinearModel, evaluate: Evaluate) -> Outcome[State]:
        """Search from the last λ on."""
        if self.damping is None:
            self.damping = self.first * model.largest
        outcome: Outcome[State] = search_damping(
            model, self.damping, evaluate, corrections=self.corrections, acceptance=self.acceptance
        )
        self.damping = outcome.damping
        return outcome

    def save(self) -> dict[str, Any]:
        """The last λ."""
        return {"damping": self.damping}

    def load(self, saved: dict[str, Any]) -> None:
        """Take the last λ."""
        self.damping = saved["damping"]


class LineSearch:
    """The published rule: the best of the step lengths 2^{-j} along a direction.

    Args:
        direction: model → z.
        damping: λ of that direction.
        halvings: j = 0 … halvings.
    """

    def __init__(self, direction: Callable[[Any], Tensor], damping: float, halvings: int) -> None:
        self.direction, self.damping, self.halvings = direction, damping, halvings

    def search(self, model: LinearModel, evaluate: Evaluate) -> Outcome[State]:
        """Try every length."""
        z = self.direction(model)
        return line_search(model, z, evaluate, damping=self.damping, halvings=self.halvings)

    def save(self) -> dict[str, Any]:
        """The damping, which stays."""
        return {"damping": self.damping}

    def load(self, saved: dict[str, Any]) -> None:
        """Nothing: the damping is a setting."""


class FixedRate:
    """A fixed share of a direction, clipped to a length; taken if the loss stays finite.

    Args:
        direction: model → z = δ.
        damping: λ of that direction.
        rate: η.
        longest: the step is scaled to at most this norm.
    """

    def __init__(
        self, direction: Callable[[Any], Tensor], damping: float, rate: float, longest: float
    ) -> None:
        self.direction, self.damping, self.rate, self.longest = direction, damping, rate, longest

    def search(self, model: LinearModel, evaluate: Evaluate) -> Outcome[State]:
        """One evaluation."""
        z = self.direction(model)
        length = float(torch.linalg.vector_norm(z))
        trial = evaluate(z * (min(self.rate, self.longest / length) if length > 0 else self.rate))
        predicted = model.predicted_reduction(self.damping)
        ratio = (model.loss - trial.loss) / predicted if predicted > 0 else -math.inf
        return Outcome(trial if math.isfinite(trial.loss) else None, self.damping, ratio, 0, 1)

    def save(self) -> dict[str, Any]:
        """The damping, which stays."""
        return {"damping": self.damping}

    def load(self, saved: dict[str, Any]) -> None:
        """Nothing: the damping is a setting."""


@dataclass(frozen=True)
class StepRule:
    """Settings of the rule, which forms with a Gram matrix share; each form's class says what they mean."""

    globalization: Globalization = "line_search"
    fixed_damping: float = 1e-12
    halvings: int = 30
    corrections: int = 8
    acceptance: float = 0.075
    damping: float = 1e-3

    def __post_init__(self) -> None:
        require(self, self._checks(), "optimizer.")

    def _checks(self) -> list[tuple[str, bool, str]]:
        rules = self._rules()
        return [
            ("globalization", one_of(self.globalization, rules), " or ".join(f'"{rule}"' for rule in rules)),
            ("fixed_damping", at_least(self.fixed_damping, 0), "finite and ≥ 0"),
            ("halvings", whole(self.halvings, 0), "a whole number ≥ 0"),
            ("corrections", whole(self.corrections, 0), "a whole number ≥ 0"),
            ("acceptance", within(self.acceptance, 0, 1), "between 0 and 1"),
            ("damping", within(self.damping, 0, math.inf), "finite and > 0"),
        ]

    def _rules(self) -> tuple[str, ...]:
        return ("line_search", "trust_region")

    def rule(self, direction: Callable[[Any], Tensor] | None = None) -> Rule:
        """The trust region, or the published line search along a direction of the shape of z: that of λ."""
        if self.globalization == "trust_region":
            return TrustRegion(self.damping, self.corrections, self.acceptance)
        damping = self.fixed_damping
        return LineSearch(direction or (lambda model: model.solve(damping)), damping, self.halvings)


class GaussNewton(Generic[M]):
    """A stepper of a form and a rule.

    Args:
        form: of the linear algebra.
        rule: that chooses the step.
        state: where it stands.
    """

    def __init__(self, form: Form[M], rule: Rule, state: State) -> None:
        self.form, self.rule, self.state = form, rule, state

    def step(self, objective: Objective, number: int) -> Report:
        """One walk: rows → linear model → damping and corrections → θ."""
        theta = self.state.theta
        model = self.form.linearize(objective, self.state, number)

        def evaluate(z: Tensor) -> State:
            return objective.evaluate(theta + model.displacement(z).to(theta.dtype))

        outcome = self.rule.search(model, evaluate)
        if outcome.trial is not None:
            self.state = outcome.trial
        self.form.learn(model, outcome)
        core = model.core
        return Report(
            accepted=outcome.trial is not None,
            damping=outcome.damping,
            rank=None if core is None else len(core.sigma),
            reduction_ratio=outcome.ratio,
            corrections=outcome.corrections,
            evaluations=outcome.evaluations,
            sigma=None if core is None else core.sigma,
            effective_dimension=None if core is None else core.effective_dimension(outcome.damping),
            note="; ".join(text for text in (self.form.note, model.note) if text),
        )

    def save(self) -> dict[str, Any]:
        """What form and rule keep."""
        return {**self.rule.save(), **self.form.save()}

    def load(self, saved: dict[str, Any]) -> None:
        """Hand form and rule what they kept."""
        self.rule.load(saved)
        self.form.load(saved)
