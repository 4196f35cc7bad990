"""How far a network is from the known solution, and from meeting its conditions, on fixed points.

The points are the same for every run of a problem, whatever its seed, and no run trains on them.

Letters
    m        evaluation points
    d        coordinates
    u, u*    the network's fields and the known ones, (m, fields)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sngd.fields import fields_at
from sngd.networks import AnyNetwork
from sngd.problem import Problem
from sngd.residual import Collocation

__all__ = [
    "FRESH",
    "TIME",
    "Evaluation",
    "compare",
    "fresh_residuals",
    "known_at",
    "norms",
    "predict",
    "residual_norms",
    "time_axis",
]

# Names of the coordinate that is time.
TIME = ("t", "time")

# Names points of the evaluation; apart from the keys (seed, epoch, condition) of training points.
FRESH = (0x5EED, 0xE7A1)

# Points that go through the network at once: bounds memory, 65,536 · width numbers per layer.
_CHUNK = 65_536
# The same for residuals, whose points carry derivatives too.
_RESIDUAL_CHUNK = 8192

# Points of every time that the error is told for.
_POINTS_OF_A_TIME = 2000


def predict(problem: Problem, network: AnyNetwork, theta: Tensor, x: Tensor, chunk: int = _CHUNK) -> Tensor:
    """The problem's fields at many points, without gradients and in bounded memory.

    Args:
        problem: names the fields.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        x: (m, d) points of any dtype, on the device of theta.
        chunk: points that go through the network at once.

    Returns:
        (m, fields) float64.
    """
    with torch.no_grad():
        parts = [fields_at(problem, network, theta, part.to(theta)).double() for part in x.split(chunk)]
    return torch.cat(parts)


def compare(problem: Problem, network: AnyNetwork, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The network's fields beside the known ones, at points of which some may lie outside of the domain.

    Args:
        problem: gives domain, fields and solution.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        x: (m, d) float64.

    Returns:
        u and u*, (m, fields) float64 on the CPU; nan outside of the domain; u* None where it is not known.
    """
    inside = problem.domain.contains(x)
    points = x[inside].to(theta.device)

    def spread(found: Tensor) -> Tensor:
        full = torch.full((len(x), len(problem.fields)), math.nan, dtype=torch.float64)
        full[inside.cpu()] = found.double().cpu()
        return full

    if not len(points):
        nothing = torch.full((len(x), len(problem.fields)), math.nan, dtype=torch.float64)
        return nothing, None if problem.solution is None else nothing.clone()
    u = spread(predict(problem, network, theta.detach(), points))
    return u, None if problem.solution is None else spread(known_at(problem, points))


def known_at(problem: Problem, x: Tensor) -> Tensor:
    """The known solution at many points x (m, d), in bounded memory, (m, fields) float64."""
    with torch.no_grad():
        return torch.cat([problem.reference(part).double() for part in x.split(_CHUNK)])


def time_axis(names: Sequence[str]) -> int | None:
    """Which of a domain's coordinates is time, by its name ("t" or "time"); None where none is."""
    return next((i for i, name in enumerate(names) if name in TIME), None)


class Evaluation:
    """Errors of a network against the known solution, on points that no run trains on.

    Args:
        problem: its `solution` is evaluated once, here; None makes every error nan.
        network: built for the problem.
        points: m, number of points of the interior (low discrepancy), all of equal weight.
        dtype: of the network's evaluation; differences and norms are taken in float64.
        device: where the network is evaluated.

    Raises:
        ValueError: points < 1, or the solution is not finite at one of them.
    """

    def __init__(
        self,
        problem: Problem,
        network: AnyNetwork,
        points: int = 10_000,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(points, int) or isinstance(points, bool) or points < 1:
            raise ValueError(f"Evaluation: points={points!r} must be a whole number ≥ 1")
        self.problem, self.network = problem, network.to(dtype, device)
        self.dtype, self.device = dtype, torch.device(device)
        drawn = problem.domain.interior.sample(0, points, (*FRESH, 0), "kronecker", device)
        self.points = drawn[:, : problem.domain.dim]
        self.reference = None if problem.solution is None else self._reference()

    def _reference(self) -> Tensor:
        reference = known_at(self.problem, self.points)
        bad = (~reference.isfinite().all(dim=1)).nonzero()
        if len(bad):
            first = int(bad[0])
            pairs = zip(self.problem.domain.names, self.points[first].tolist(), strict=True)
            where = ", ".join(f"{name}={value:.17g}" for name, value in pairs)
            raise ValueError(
                f"problem {self.problem.name!r}: its solution must be finite inside the domain, it is "
                f"{reference[first].tolist()} at {where} (and not finite at {len(bad)} of "
                f"{len(reference)} evaluation points)"
            )
        return reference

    def relative_l2(self, theta: Tensor) -> float:
        """‖u − u*‖ / ‖u*‖ over all points and fields; nan without a solution or where u* vanishes.

        Args:
            theta: (P,) parameters.
        """
        if self.reference is None:
            return math.nan
        difference = self._difference(theta)
        return _ratio(float(difference.norm()), float(self.reference.norm()))

    def errors(self, theta: Tensor) -> dict[str, Any]:
        """Every error of one set of parameters.

        Args:
            theta: (P,) parameters.

        Returns:
            relative_l2: ‖u − u*‖ / ‖u*‖ over all points and fields.
            max_error: max |u − u*| over all points and fields.
            fields: the relative L2 error of each field by its name.
            fields_max_error: the largest error of each field by its name.
            Each is nan without a solution; a relative error also where u* vanishes at every point.
        """
        names = self.problem.fields
        if self.reference is None:
            nothing = dict.fromkeys(names, math.nan)
            empty = {"fields": nothing, "fields_max_error": dict(nothing)}
            return {"relative_l2": math.nan, "max_error": math.nan, **empty}
        difference = self._difference(theta)
        error, known = difference.norm(dim=0).tolist(), self.reference.norm(dim=0).tolist()
        largest = difference.abs().amax(dim=0).tolist()
        return {
            "relative_l2": _ratio(math.hypot(*error), math.hypot(*known)),
            "max_error": float(difference.abs().max()),
            "fields": {n: _ratio(e, k) for n, e, k in zip(names, error, known, strict=True)},
            "fields_max_error": dict(zip(names, largest, strict=True)),
        }

    def over_time(self, theta: Tensor, times: int = 21) -> dict[str, Any] | None:
        """The errors at several times, from the first to the last of the domain.

        The points of a time are those of the evaluation (2,000 at most) moved to it, less those that the
        domain does not contain.

        Args:
            theta: (P,) parameters.
            times: how many, evenly spaced.

        Returns:
            axis: the name of time.
            times: (times,) numbers.
            relative_l2: (times,) over all fields; nan where the solution vanishes or is not finite.
            fields: the same for each field by its name.
            None without a solution, or where no coordinate is time.
        """
        domain = self.problem.domain
        axis = time_axis(domain.names)
        if self.reference is None or axis is None:
            return None
        moments = torch.linspace(*domain.bounds[axis], times, dtype=torch.float64).tolist()
        total: list[float] = []
        fields: dict[str, list[float]] = {name: [] for name in self.problem.fields}
        for moment in moments:
            x = self.points[:_POINTS_OF_A_TIME].clone()
            x[:, axis] = moment
            x = x[domain.contains(x)]
            known = known_at(self.problem, x) if len(x) else x.new_zeros(0, len(fields))
            error = (self._fields(theta, x) - known if len(x) else known).norm(dim=0).tolist()
            size = known.norm(dim=0).tolist()
            total.append(_ratio(math.hypot(*error), math.hypot(*size)))
            for name, e, k in zip(fields, error, size, strict=True):
                fields[name].append(_ratio(e, k))
        return {"axis": domain.names[axis], "times": moments, "relative_l2": total, "fields": fields}

    def _difference(self, theta: Tensor) -> Tensor:
        assert self.reference is not None
        return self._fields(theta, self.points) - self.reference

    def _fields(self, theta: Tensor, x: Tensor) -> Tensor:
        theta = theta.detach().to(dtype=self.dtype, device=self.device)
        return predict(self.problem, self.network, theta, x)


def fresh_residuals(
    problem: Problem, network: AnyNetwork, theta: Tensor, points: int = 10_000
) -> list[tuple[Tensor, Tensor]]:
    """Residuals of every condition on points that no run trains on; weights do not count.

    Args:
        problem: its conditions.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        points: of every condition; one whose points are given has no others.

    Returns:
        Points (n, d + a) and residuals (n, components), both float64, condition after condition.
    """
    drawn = []
    for number, condition in enumerate(problem.conditions):
        region, key = condition.region, (*FRESH, 1 + number)
        count = points if region.count is None else min(points, region.count)
        drawn.append(region.sample(0, count, key, condition.sampling, theta.device, count))
    weights = theta.new_ones(len(problem.conditions))
    collocation = Collocation(problem, network, [x.to(theta) for x in drawn], weights, _RESIDUAL_CHUNK)
    with torch.no_grad():
        residual = collocation.residual(theta.detach()).double()
    rows = collocation.condition_rows
    return [(x, residual[own].view(len(x), -1)) for own, x in zip(rows, drawn, strict=True)]


def norms(r: Tensor) -> dict[str, float]:
    """Sizes of residuals r (n, components).

    Returns:
        rms = √(mean over points of Σ_components r²), max = max |r|, mean over points of Σ_components |r|.
    """
    rms = math.sqrt(float(r.square().sum()) / len(r))
    return {"rms": rms, "max": float(r.abs().max()), "mean": float(r.abs().sum()) / len(r)}


def residual_norms(
    problem: Problem, network: AnyNetwork, theta: Tensor, points: int = 10_000
) -> dict[str, dict[str, float]]:
    """How well every condition is met on points that no run trains on; needs no solution.

    Args:
        problem: its conditions.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        points: of every condition; one whose points are given has no others.

    Returns:
        By the conditions' names: points, and rms and max as `norms` has them.
    """
    told = {}
    found = fresh_residuals(problem, network, theta, points)
    for condition, (x, r) in zip(problem.conditions, found, strict=True):
        size = norms(r)
        told[condition.name] = {"points": len(x), "rms": size["rms"], "max": size["max"]}
    return told


def _ratio(error: float, known: float) -> float:
    return error / known if known > 0 else math.nan
