"""Collocation points that move to where the residual is large.

Both methods look at the size of the residual alone. Points are chosen by what all ranks know, so they are the
same on any number of ranks, up to the rounding of the residuals.

Letters
    N        points of a condition over all ranks; M candidates
    d + a    coordinates and further columns of a point
    r        residual at a point, |r| its length over the components
    π        (M,) probability that a candidate becomes a point, Σ π = N
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sngd.checks import at_least, require, whole, within, words
from sngd.domain import share, unit_points
from sngd.objective import Objective
from sngd.problem import Problem

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["R3", "RAD", "AdaptivePoints", "inclusion", "select"]

# Below 1, so that rounding of sums over π cannot choose a candidate twice.
_CERTAIN = 1 - 1e-9
# Every candidate keeps a chance, so that N different ones can be chosen.
_LEAST = 1e-9


@dataclass(frozen=True)
class RAD:
    """Residual-based adaptive distribution: new points, drawn with density ∝ |r|^k / mean |r|^k + c.

    The N points are chosen out of M = candidates · N without replacement: by systematic sampling, in which a
    candidate is chosen with the probability π that its density gives it, 1 at most.

    Source: Wu, Zhu, Tan, Kartha, Lu, Comput. Methods Appl. Mech. Eng. 403 (2023) 115671 (arXiv 2207.10289).

    Args:
        every: choose anew every so many steps.
        candidates: M / N.
        power: k. The larger, the closer points crowd where the residual is large.
        offset: c, the even part of the density.
        conditions: whose points; all on the whole interior when none is named.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    every: int = 100
    candidates: int = 10
    power: float = 1.0
    offset: float = 1.0
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = [
            ("every", whole(self.every, 1), "a whole number ≥ 1"),
            ("candidates", whole(self.candidates, 2), "a whole number ≥ 2"),
            ("power", within(self.power, 0, math.inf), "finite and > 0"),
            ("offset", at_least(self.offset, 0), "finite and ≥ 0"),
            ("conditions", words(self.conditions), "a tuple of names"),
        ]
        require(self, checks, "adaptive_points.")


@dataclass(frozen=True)
class R3:
    """Retain, resample, release: points with |r| above its mean stay, the others are drawn anew.

    Source: Daw, Bu, Wang, Perdikaris, Karpatne, ICML 2023 (arXiv 2207.02338).

    Args:
        every: look at the points every so many steps.
        conditions: whose points; all on the whole interior when none is named.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    every: int = 1
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = [
            ("every", whole(self.every, 1), "a whole number ≥ 1"),
            ("conditions", words(self.conditions), "a tuple of names"),
        ]
        require(self, checks, "adaptive_points.")


def chosen_conditions(names: tuple[str, ...], problem: Problem, field: str) -> list[int]:
    """Numbers of the named conditions, of those on the whole interior when none is named.

    Args:
        names: of conditions.
        problem: whose conditions.
        field: of the run that names them.

    Raises:
        ValueError: there is no such condition, or none at all.
    """
    known = [condition.name for condition in problem.conditions]
    if unknown := [name for name in names if name not in known]:
        every = ", ".join(known)
        raise ValueError(f"{field}.conditions={names!r}: there is no {unknown[0]!r} among {every}")
    if names:
        return [known.index(name) for name in dict.fromkeys(names)]
    inside = problem.domain.interior
    found = [
        number
        for number, condition in enumerate(problem.conditions)
        if type(condition.region) is type(inside) and vars(condition.region) == vars(inside)
    ]
    if not found:
        raise ValueError(
            f"{field}: no condition of problem {problem.name!r} lies on the whole interior; name those that "
            f"are meant by {field}.conditions, some of {', '.join(known)}"
        )
    return found


def movable(config: RAD | R3, problem: Problem) -> list[int]:
    """Numbers of the conditions whose points move.

    Raises:
        ValueError: there is no such condition, or its points are given ones.
    """
    numbers = chosen_conditions(config.conditions, problem, "adaptive_points")
    for number in numbers:
        condition = problem.conditions[number]
        if getattr(condition.region, "count", None) is not None:
            raise ValueError(
                f"adaptive_points.conditions={config.conditions!r}: the points of condition "
                f"{condition.name!r} are given ones and cannot move"
            )
    return numbers


def inclusion(density: Tensor, count: int) -> Tensor:
    """π = min(1, τ p) of a density p (M,) with the τ that gives Σ π = count, (M,).

    Args:
        density: p ≥ 0, in any unit, float64.
        count: N < M.
    """
    mean = float(density.mean())
    weights = (density / mean if mean > 0 else torch.ones_like(density)).clamp(_LEAST)
    certain = torch.zeros_like(weights, dtype=torch.bool)
    while True:
        rest = count - _CERTAIN * int(certain.sum())
        pi = torch.where(certain, _CERTAIN, weights * (rest / float(weights[~certain].sum())))
        above = (pi > _CERTAIN) & ~certain
        if not bool(above.any()):
            return pi
        certain |= above


def select(density: Tensor, count: int, key: tuple[int, ...]) -> Tensor:
    """Systematic sampling without replacement: indices (N,) of candidates, rising, all different.

    With one lot v ∈ [0, 1) candidate i is chosen when Σ_{j<i} π_j ≤ v + n < Σ_{j≤i} π_j for a whole n.

    Args:
        density: p (M,) ≥ 0, float64, on the CPU: sums are then the same on every rank, bit for bit.
        count: N ≤ M.
        key: names the lot.
    """
    if count >= len(density):
        return torch.arange(len(density))
    edges = inclusion(density, count).cumsum(0)
    lots = unit_points(0, 1, 1, key, "uniform", "cpu")[0] + torch.arange(count, dtype=torch.float64)
    return torch.searchsorted(edges * (count / edges[-1]), lots, right=True).clamp_(max=len(density) - 1)


class AdaptivePoints:
    """The points of a run that move.

    Args:
        config: how.
        objective: whose points.
        seed: of the run; epoch e of condition c has the key (seed, e, c), as points that are drawn anew.
    """

    def __init__(self, config: RAD | R3, objective: Objective, seed: int) -> None:
        self.config, self.objective, self.seed = config, objective, seed
        self.numbers = movable(config, objective.collocation.problem)
        # by condition, once they have moved: all points, (N, d + a) float64
        self.sets: dict[int, Tensor] = {}

    @property
    def _ranks(self) -> Ranks:
        return self.objective.ranks

    def before(self, number: int, theta: Tensor) -> bool:
        """Move the points where step `number` is to begin with others; whether they moved."""
        if number == 1 or (number - 1) % self.config.every:
            return False
        epoch = (number - 1) // self.config.every
        if isinstance(self.config, RAD):
            self.sets = self._distribute(theta, epoch, self.config)
        else:
            self.sets = self._release(theta, epoch)
        self._take()
        return True

    def _draw(self, number: int, start: int, stop: int, epoch: int) -> Tensor:
        """Points of a condition's region, (stop − start, d + a) float64."""
        condition = self.objective.collocation.problem.conditions[number]
        key, device = (self.seed, epoch, number), self.objective.collocation.weights.device
        total = condition.points * (self.config.candidates if isinstance(self.config, RAD) else 1)
        return condition.region.sample(start, stop, key, condition.sampling, device, total)

    def _scores(self, theta: Tensor, points: dict[int, Tensor]) -> list[Tensor]:
        old = self.objective.collocation.points
        asked = [points[c].to(x) if c in points else x[:0] for c, x in enumerate(old)]
        return self.objective.scores(theta, asked)

    def _distribute(self, theta: Tensor, epoch: int, config: RAD) -> dict[int, Tensor]:
        """RAD: M numbers and the N points are summed over ranks."""
        ranks, conditions = self._ranks, self.objective.collocation.problem.conditions
        counts = {c: conditions[c].points for c in self.numbers}
        shares = {c: share(n * config.candidates, ranks.rank, ranks.size) for c, n in counts.items()}
        own = {c: self._draw(c, *shares[c], epoch) for c in self.numbers}
        scores, sets = self._scores(theta, own), {}
        for c, count in counts.items():
            start, stop = shares[c]
            everyone = own[c].new_zeros(count * config.candidates)
            everyone[start:stop] = scores[c].double() ** config.power
            sizes = ranks.sum(everyone, "candidates").cpu()
            even = float(sizes.mean()) or 1.0  # no residual at all: an even density
            chosen = select(sizes / even + config.offset, count, (self.seed, epoch, c, 0)).to(own[c].device)
            mine = (chosen >= start) & (chosen < stop)
            points = own[c].new_zeros(count, own[c].shape[1])
            points[mine] = own[c][chosen[mine] - start]
            sets[c] = ranks.sum(points, "points")
        return sets

    def _release(self, theta: Tensor, epoch: int) -> dict[int, Tensor]:
        """R3: a number and the N points are summed over ranks. What is drawn for a point is of its index."""
        problem, points = self.objective.collocation.problem, self.objective.collocation.points
        scores, sets = self._scores(theta, {c: points[c] for c in self.numbers}), {}
        for c in self.numbers:
            count = problem.conditions[c].points
            start, stop = share(count, self._ranks.rank, self._ranks.size)
            mean = self._ranks.sum(scores[c].double().sum(), "candidates") / count
            # equal residuals are not above their mean, whatever its rounding
            keep = scores[c] > mean * (1 + math.sqrt(torch.finfo(scores[c].dtype).eps))
            drawn = self._draw(c, start, stop, epoch)
            everyone = drawn.new_zeros(count, drawn.shape[1])
            everyone[start:stop] = torch.where(keep.unsqueeze(1), points[c].double(), drawn)
            sets[c] = self._ranks.sum(everyone, "points")
        return sets

    def _take(self) -> None:
        """Go on with this rank's share of the sets."""
        points = list(self.objective.collocation.points)
        for c, whole_set in self.sets.items():
            start, stop = share(len(whole_set), self._ranks.rank, self._ranks.size)
            points[c] = whole_set[start:stop].to(points[c])
        self.objective.replace_points(points)

    def save(self) -> dict[str, Any]:
        """All points that have moved, whatever the number of ranks."""
        return {str(c): points.cpu() for c, points in self.sets.items()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take them."""
        device = self.objective.collocation.weights.device
        self.sets = {int(c): points.to(device) for c, points in saved.items()}
        self._take()
