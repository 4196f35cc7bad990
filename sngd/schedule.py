"""What changes on the way of a run beside θ: points, weights, known coefficients.

Before a step: the known coefficient of a curriculum, then points, which are drawn anew or moved by residuals
with the new coefficient; the state is evaluated again if any of them changed. After a step that was taken:
weights in time, then of conditions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sngd.adaptive import AdaptivePoints
from sngd.assembly import draw_points
from sngd.causal import CausalWeights
from sngd.config import RunConfig
from sngd.curriculum import KnownCoefficient
from sngd.objective import Objective, State

__all__ = ["Schedule"]


class Schedule:
    """All that a run changes on its way, in order.

    Args:
        run: says what.
        objective: on which it is changed.
        device: of the points.
    """

    def __init__(self, run: RunConfig, objective: Objective, device: torch.device) -> None:
        self.run, self.objective, self.device = run, objective, device
        points, causal, curriculum = run.adaptive_points, run.causal, run.curriculum
        self.points = None if points is None else AdaptivePoints(points, objective, run.seed)
        self.causal = None if causal is None else CausalWeights(causal, objective)
        self.known = None if curriculum is None else KnownCoefficient(curriculum, objective)

    def settled(self, number: int) -> bool:
        """Whether step `number` is one of the problem itself, so that errors mean something."""
        return self.known is None or self.known.settled(number)

    def ahead(self, number: int) -> float:
        """So many refused steps more than usual are no end: points or equation will have changed by then."""
        if not self.settled(number):
            return math.inf
        moving = self.run.adaptive_points
        every = self.run.resample_every if moving is None else moving.every
        return float(every) if every > 1 else 0.0

    def begin(self, theta: Tensor) -> State:
        """The state that a run starts from, at θ (P,)."""
        if self.known is not None:
            self.known.before(1)
        state = self.objective.evaluate_new_points(theta)
        return state if self.causal is None else self.causal.after(state)

    def before(self, number: int, state: State) -> State:
        """The state that step `number` starts from."""
        changed = self.known is not None and self.known.before(number)
        every = self.run.resample_every
        if every and number > 1 and (number - 1) % every == 0:
            ranks, dtype = self.objective.ranks, self.run.dtype
            self.objective.replace_points(draw_points(self.run, number, ranks, self.device, dtype))
            changed = True
        if self.points is not None:
            changed = self.points.before(number, state.theta) or changed
        return self.objective.evaluate_new_points(state.theta) if changed else state

    def after(self, state: State) -> State:
        """The state after a step that was taken, weighed anew."""
        if self.causal is not None:
            state = self.causal.after(state)
        return self.objective.balance(state) if self.run.balance else state

    def record(self) -> dict[str, Any]:
        """What the history says of it, beside what it says of every run."""
        parts = [part.record() for part in (self.causal, self.known) if part is not None]
        return {name: value for part in parts for name, value in part.items()}

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps, whatever the number of ranks."""
        parts = {"points": self.points, "causal": self.causal}
        return {name: part.save() for name, part in parts.items() if part is not None}

    def load(self, saved: dict[str, Any], taken: int) -> None:
        """Stand as after step `taken` of the run that kept this."""
        if self.known is not None:
            self.known.before(max(taken, 1))
        if self.points is not None:
            self.points.load(saved["points"])
        if self.causal is not None:
            self.causal.load(saved["causal"])
