"""An objective whose minimum, gradient and Hessian are known: for optimizers that know no residuals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sngd.collectives import LocalRanks
from sngd.objective import State


class Quadratic:
    """L(θ) = scale · Σ_i a_i (θ_i − 1)², infinite outside a ball, with a count of its gradients.

    Args:
        curvatures: a (P,).
        scale: of the loss.
        radius: |θ| from which on loss and gradient are not finite.
    """

    def __init__(self, curvatures: list[float], scale: float = 1.0, radius: float = math.inf) -> None:
        self.a = torch.tensor(curvatures, dtype=torch.float64)
        self.scale, self.radius, self.ranks, self.gradients = scale, radius, LocalRanks(), 0

    def evaluate(self, theta: Tensor) -> State:
        offset = theta.double() - 1
        losses = (self.scale * self.a * offset**2).sum().view(1)
        loss = float(losses) if float(theta.norm()) < self.radius else math.inf
        return State(theta, offset, offset, losses, loss)

    def gradient(self, theta: Tensor) -> tuple[State, Tensor]:
        self.gradients += 1
        state = self.evaluate(theta)
        g = 2 * self.scale * self.a * (theta.double() - 1)
        return state, (g if math.isfinite(state.loss) else g * math.nan).to(theta.dtype)

    def start(self, config, theta: Tensor | None = None):
        """A stepper at θ, or at a fixed point away from the minimum."""
        if theta is None:
            theta = torch.linspace(-2, 3, len(self.a), dtype=torch.float64)
        return config.start(self, self.evaluate(theta), 0, len(self.a))


def losses(objective: Quadratic, stepper, steps: int) -> list[float]:
    """The loss after every step."""
    result = []
    for number in range(1, steps + 1):
        stepper.step(objective, number)
        result.append(stepper.state.loss)
    return result
