"""First-order optimizers on the flat parameter vector: Adam and SOAP.

The gradient is summed over ranks and equal on all of them bit for bit, so every rank takes the same step.

Letters
    P        parameters, one flat vector θ
    g        (P,) gradient of the loss
    η_k      rate of update k = 0, 1, …
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sngd.checks import at_least, one_of, positive, require, whole, within
from sngd.objective import Objective, State
from sngd.optimizers.base import Report, Stepper
from sngd.optimizers.zero import ZeroStepper

__all__ = ["SOAP", "Adam", "FirstOrderStepper"]


@dataclass(frozen=True)
class _FirstOrder:
    """What Adam and SOAP share: rate η_k = η · ramp(k) · decay(k) and the decays of the moments.

    ramp(k) = min(1, (k+1)/ramp_steps); decay(k), with K decay_steps and f decay_factor, is 1 (constant),
    f^{k/K} (exponential), or f + (1−f)(1 + cos π min(k/K, 1))/2 (cosine).
    """

    rate: float = 1e-3
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    decay_steps: int = 2000
    decay_factor: float = 0.9
    ramp_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999

    def __post_init__(self) -> None:
        require(self, self._checks(), "optimizer.")

    def _checks(self) -> list[tuple[str, bool, str]]:
        return [
            ("rate", within(self.rate, 0, math.inf), "finite and > 0"),
            (
                "schedule",
                one_of(self.schedule, ("constant", "cosine", "exponential")),
                '"constant", "cosine" or "exponential"',
            ),
            ("decay_steps", whole(self.decay_steps, 1), "a whole number ≥ 1"),
            ("decay_factor", positive(self.decay_factor) and self.decay_factor <= 1, "in (0, 1]"),
            ("ramp_steps", whole(self.ramp_steps, 0), "a whole number ≥ 0"),
            ("beta1", at_least(self.beta1, 0, 1), "in [0, 1)"),
            ("beta2", at_least(self.beta2, 0, 1), "in [0, 1)"),
        ]

    def rate_at(self, update: int) -> float:
        """η_k of update k = 0, 1, …; see the class."""
        share, factor = update / self.decay_steps, self.decay_factor
        ramp = min(1.0, (update + 1) / self.ramp_steps) if self.ramp_steps else 1.0
        if self.schedule == "exponential":
            decay = factor**share
        elif self.schedule == "cosine":
            decay = factor + (1 - factor) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        else:
            decay = 1.0
        return self.rate * ramp * decay


@dataclass(frozen=True)
class Adam(_FirstOrder):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) on the whole gradient: torch.optim.Adam.

    Args:
        rate: η, the length of a step per parameter.
        schedule: how the rate falls: not at all, along a cosine, or exponentially.
        decay_steps: exponential: the rate falls by decay_factor over every so many steps; cosine: it falls
            to decay_factor · rate over so many steps and stays there.
        decay_factor: see decay_steps; in (0, 1].
        ramp_steps: the rate rises linearly over the first so many steps; 0 starts at once.
        beta1: decay of the gradient's mean per step, in [0, 1).
        beta2: decay of the squared gradient's mean per step, in [0, 1).
        zero_stage: split over ranks by DeepSpeed's ZeRO: 1 the moments, 2 the gradient too, 3 the parameters
            too, 0 nothing; float32 only. None does without DeepSpeed.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    zero_stage: Literal[0, 1, 2, 3] | None = None

    def _checks(self) -> list[tuple[str, bool, str]]:
        known = self.zero_stage is None or (whole(self.zero_stage, 0) and self.zero_stage <= 3)
        return [*super()._checks(), ("zero_stage", known, "0, 1, 2, 3 or None")]

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> Stepper:
        """A stepper at a state; seed and rows play no part.

        Raises:
            ValueError: zero_stage is given, and θ is not float32 or DeepSpeed is not installed.
        """
        betas = (self.beta1, self.beta2)
        if self.zero_stage is not None:
            return ZeroStepper(self.zero_stage, self.rate_at, betas, objective, state)

        def build(parameters: list[Tensor]) -> torch.optim.Optimizer:
            return torch.optim.Adam(parameters, lr=self.rate, betas=betas)

        return FirstOrderStepper(self, state, lambda theta: [theta], build)


@dataclass(frozen=True)
class SOAP(_FirstOrder):
    """Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv 2409.11321).

    The implementation is that of the package pytorch-optimizer, one matrix per layer, with its defaults;
    Wang, Bhartari, Li and Perdikaris 2025 (arXiv 2502.00604) use SOAP for physics-informed networks, with a
    refresh of 2. Its first eigenbases are those of singular matrices, in whose null spaces rounding chooses:
    all ranks take the same steps, but another number of ranks takes others.

    Args:
        rate: η, the length of a step per parameter.
        schedule: how the rate falls: not at all, along a cosine, or exponentially.
        decay_steps: exponential: the rate falls by decay_factor over every so many steps; cosine: it falls
            to decay_factor · rate over so many steps and stays there.
        decay_factor: see decay_steps; in (0, 1].
        ramp_steps: the rate rises linearly over the first so many steps; 0 starts at once.
        beta1: decay of the gradient's mean per step, in [0, 1).
        beta2: decay of the squared gradient's mean and of the preconditioner per step, in [0, 1).
        refresh: steps between two updates of the eigenbases.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    rate: float = 3e-3
    beta1: float = 0.95
    beta2: float = 0.95
    refresh: int = 10

    def _checks(self) -> list[tuple[str, bool, str]]:
        return [*super()._checks(), ("refresh", whole(self.refresh, 1), "a whole number ≥ 1")]

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> Stepper:
        """A stepper at a state; seed and rows play no part.

        Raises:
            ValueError: the package pytorch-optimizer is not installed.
        """
        if importlib.util.find_spec("pytorch_optimizer") is None:
            raise ValueError(
                "optimizer SOAP needs the package pytorch-optimizer, which is not installed: "
                "pip install 'sngd[soap]'"
            )
        from pytorch_optimizer import SOAP as PackagedSOAP

        def split(theta: Tensor) -> list[Tensor]:
            weights, biases = objective.collocation.network.split(theta)
            return [part for part in (*weights, *biases) if part.numel()]

        def build(parameters: list[Tensor]) -> torch.optim.Optimizer:
            return PackagedSOAP(
                parameters,
                lr=self.rate,
                betas=(self.beta1, self.beta2),
                weight_decay=0.0,
                precondition_frequency=self.refresh,
            )

        return FirstOrderStepper(self, state, split, build)


class FirstOrderStepper:
    """A torch optimizer on the way: one gradient per step, at the θ that the step ends at.

    The gradient that comes with a state's loss moves θ in the next step, so nothing is evaluated twice and
    every set of points serves for one update. The first step needs one gradient more.

    Args:
        config: gives the rate of every update.
        state: where it stands.
        split: views of the flat vector, the parameters as the optimizer wants them.
        build: the torch optimizer of those.
    """

    def __init__(
        self,
        config: _FirstOrder,
        state: State,
        split: Callable[[Tensor], list[Tensor]],
        build: Callable[[list[Tensor]], torch.optim.Optimizer],
    ) -> None:
        self.config, self.state, self.updates = config, state, 0
        self._theta, self._gradient = state.theta.clone(), torch.zeros_like(state.theta)
        self._known: Tensor | None = None  # the θ that _gradient was taken at
        parameters = split(self._theta)
        for parameter, gradient in zip(parameters, split(self._gradient), strict=True):
            parameter.grad = gradient
        self.optimizer = build(parameters)

    def step(self, objective: Objective, number: int) -> Report:
        """Move θ along the last gradient and take the next one; refused where it is not finite."""
        evaluations = 0
        if self._known is not self.state.theta:
            state, gradient = objective.gradient(self.state.theta)
            evaluations += 1
            if not bool(torch.isfinite(gradient).all()):  # it would spoil the moments for good
                return Report(False, evaluations=evaluations, note="refused: the gradient is not finite")
            self._take(state, gradient)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate_at(self.updates)
        self.optimizer.step()
        self.updates += 1
        if torch.equal(self._theta, self.state.theta):  # SOAP's first call makes its eigenbases
            return Report(accepted=False, evaluations=evaluations)
        state, gradient = objective.gradient(self._theta.clone())
        evaluations += 1
        if not (math.isfinite(state.loss) and bool(torch.isfinite(gradient).all())):
            self._theta.copy_(self.state.theta)
            return Report(
                False, evaluations=evaluations, note="refused: loss or gradient would not be finite"
            )
        self._take(state, gradient)
        return Report(accepted=True, evaluations=evaluations)

    def _take(self, state: State, gradient: Tensor) -> None:
        self.state, self._known = state, state.theta
        self._theta.copy_(state.theta)
        self._gradient.copy_(gradient)

    def save(self) -> dict[str, Any]:
        """Updates so far, the gradient at hand and the torch optimizer's own state."""
        return {
            "updates": self.updates,
            "gradient": self._gradient if self._known is self.state.theta else None,
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take them."""
        self.updates = saved["updates"]
        self.optimizer.load_state_dict(saved["optimizer"])
        if saved["gradient"] is not None:
            self._take(self.state, saved["gradient"])
