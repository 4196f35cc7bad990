"""Causal weights: residuals of later times count once those of earlier times are small.

    w_m = exp(−ε Σ_{j<m} L_j),   L_j = mean of |r|² in time bin j, without any weight

A point in bin m has its squared residual multiplied by w_m, which is not differentiated.
Source: Wang, Sankaran, Perdikaris, Comput. Methods Appl. Mech. Eng. 421 (2024) 116813 (arXiv 2203.07404).

Letters
    B        time bins of equal length, m = 0 … B − 1
    ε        tolerance: the larger, the smaller earlier residuals must be
    K        conditions concerned
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sngd.adaptive import chosen_conditions
from sngd.checks import require, whole, within, words
from sngd.evaluate import TIME, time_axis
from sngd.objective import Objective, State
from sngd.problem import Problem

__all__ = ["Causal", "CausalWeights", "time_of"]

# ε is raised once the last bin's weight is above.
_SATISFIED = 0.99


@dataclass(frozen=True)
class Causal:
    """Weights in time, set anew after every step that is taken.

    Args:
        tolerance: ε, or several of them from small to large: the next one is taken once all weights are above
            0.99.
        bins: B.
        axis: name of the time axis; "t" or "time" when empty.
        conditions: which are weighted; all on the whole interior when none is named.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    tolerance: float | tuple[float, ...] = (1e-2, 1e-1, 1.0, 10.0, 100.0)
    bins: int = 16
    axis: str = ""
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = self.tolerances
        fine = bool(given) and all(within(e, 0, math.inf) for e in given)
        fine = fine and all(a < b for a, b in pairwise(given))
        checks = [
            ("tolerance", fine, "finite and > 0, or a tuple of such, rising"),
            ("bins", whole(self.bins, 2), "a whole number ≥ 2"),
            ("axis", isinstance(self.axis, str), "the name of an axis"),
            ("conditions", words(self.conditions), "a tuple of names"),
        ]
        require(self, checks, "causal.")

    @property
    def tolerances(self) -> tuple[float, ...]:
        """All ε, in order."""
        return self.tolerance if isinstance(self.tolerance, tuple) else (self.tolerance,)


def time_of(axis: str, problem: Problem, field: str) -> int:
    """Number of the time axis.

    Args:
        axis: its name; "t" or "time" when empty.
        problem: whose domain.
        field: of the run that names it.

    Raises:
        ValueError: the domain has no such axis, or it is periodic.
    """
    names = problem.domain.names
    found = time_axis(names) if not axis else names.index(axis) if axis in names else None
    if found is None:
        wanted = repr(axis) if axis else " or ".join(map(repr, TIME))
        raise ValueError(f"{field}.axis={axis!r}: the domain has no axis {wanted}, it has {', '.join(names)}")
    if found in problem.domain.periodic:
        raise ValueError(f"{field}.axis={axis!r}: {names[found]!r} is periodic and has no beginning")
    return found


@dataclass(frozen=True)
class TimeWeights:
    """Weights of points by their time bin, as `Collocation.emphasis`.

    Args:
        axis: number of the time axis.
        low: where time begins.
        high: where it ends.
        weights: (B,) float64.
        numbers: of the conditions concerned.
    """

    axis: int
    low: float
    high: float
    weights: Tensor
    numbers: tuple[int, ...]

    def bins(self, points: Tensor) -> Tensor:
        """Bins of points (n, d + a), (n,)."""
        share = (points[:, self.axis].double() - self.low) / (self.high - self.low)
        count = len(self.weights)
        return (share * count).floor_().clamp_(0, count - 1).long()

    def __call__(self, number: int, points: Tensor) -> Tensor | None:
        """Weights (n,) of some points of a condition; None where they are 1."""
        return self.weights[self.bins(points)].to(points) if number in self.numbers else None


class CausalWeights:
    """The weights in time of a run, the same on every rank.

    Args:
        config: how.
        objective: whose points are weighted.
    """

    def __init__(self, config: Causal, objective: Objective) -> None:
        problem, weights = objective.collocation.problem, objective.collocation.weights
        self.config, self.objective, self.stage = config, objective, 0
        self.numbers = tuple(chosen_conditions(config.conditions, problem, "causal"))
        axis = time_of(config.axis, problem, "causal")
        ones = torch.ones(config.bins, dtype=torch.float64, device=weights.device)
        self.weights = TimeWeights(axis, *problem.domain.bounds[axis], ones, self.numbers)

    def after(self, state: State) -> State:
        """Weigh anew by a state's residuals, and the state so weighed: 2 K B and K numbers are summed."""
        losses = self._losses(state.raw)
        weights = self._weigh(losses)
        if float(weights.min()) > _SATISFIED and self.stage + 1 < len(self.config.tolerances):
            self.stage += 1
            weights = self._weigh(losses)
        self._take(weights)
        return self.objective.state(state.theta, state.raw)

    def _losses(self, raw: Tensor) -> Tensor:
        """L (B,), on the CPU: what follows is then the same on every rank, bit for bit."""
        collocation, count = self.objective.collocation, self.config.bins
        sums = self.weights.weights.new_zeros(2, len(self.numbers), count)
        for row, number in enumerate(self.numbers):
            points = collocation.points[number]
            squares = raw[collocation.condition_rows[number]].double().square()
            bins = self.weights.bins(points)
            per_point = squares.view(-1, collocation.problem.signatures[number].components).sum(1)
            for m in range(count):  # bincount adds up in another order each time on a GPU
                inside = bins == m
                sums[0, row, m] = torch.where(inside, per_point, 0.0).sum()
                sums[1, row, m] = inside.sum()
        total, points_of = self.objective.ranks.sum(sums, "causal").cpu()
        return (total / points_of.clamp_min(1.0)).sum(0)

    def _weigh(self, losses: Tensor) -> Tensor:
        return torch.exp(-self.config.tolerances[self.stage] * (losses.cumsum(0) - losses).clamp_min(0.0))

    def _take(self, weights: Tensor) -> None:
        old = self.weights
        own = weights.to(old.weights)
        self.weights = TimeWeights(old.axis, old.low, old.high, own, self.numbers)
        self.objective.emphasize(self.weights)

    def record(self) -> dict[str, Any]:
        """What the history says of them."""
        least = float(self.weights.weights.min())
        return {"causal": {"tolerance": self.config.tolerances[self.stage], "least_weight": least}}

    def save(self) -> dict[str, Any]:
        """Which ε, and the weights."""
        return {"stage": self.stage, "weights": self.weights.weights.cpu()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take them."""
        self.stage = saved["stage"]
        self._take(saved["weights"])
