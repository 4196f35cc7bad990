"""Time marching: a problem cut into slabs of time, each of which begins where the one before has ended.

In slab s > 0 conditions at the start of time become u = u_{s−1}, and ∂_t u = ∂_t u_{s−1} where they ask for
∂_t, at the time where the slabs meet. All other conditions keep their form and number of points, on the slab.
Source: Wight, Zhao, Commun. Comput. Phys. 29 (2021) 930 (arXiv 2007.04542); Krishnapriyan et al., NeurIPS
2021 (arXiv 2109.01050), there sequence-to-sequence learning.

Letters
    S        slabs, s = 0 … S − 1
    n, d     points and coordinates; a columns of what is known at them
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from sngd.calculus import d
from sngd.causal import time_of
from sngd.checks import at_least, finite, one_of, require, whole
from sngd.condition import Condition, evaluate_residual
from sngd.data import PointCloud
from sngd.domain import Axis, Box, BoxRegion, Region, Sampling
from sngd.geometry.regions import Filtered
from sngd.jet import Jet
from sngd.leaves import recorder
from sngd.networks import AnyNetwork
from sngd.points import Points
from sngd.problem import Problem
from sngd.residual import Collocation
from sngd.taylor import Channel

__all__ = ["Continued", "Marching", "restricted"]

# Points of the state that a slab begins with that go through the network at once.
_CHUNK = 8192


@dataclass(frozen=True)
class Marching:
    """One network after another, each for a slab of time.

    A slab ends after its share of the steps and of the seconds that are left to the run, or where no step
    lowers its loss, or at the tolerance. Errors are over the time that has been reached.

    Args:
        slabs: how many of equal length, or the times between them.
        network: "new" starts each from initial parameters, "warm" from the last ones of the slab before.
        tolerance: a slab ends once its loss is as low; 0 for never.
        axis: name of the time axis; "t" or "time" when empty.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    slabs: int | tuple[float, ...] = 4
    network: Literal["new", "warm"] = "new"
    tolerance: float = 0.0
    axis: str = ""

    def __post_init__(self) -> None:
        between = self.slabs
        times = (
            isinstance(between, tuple)
            and bool(between)
            and all(finite(t) for t in between)
            and all(a < b for a, b in pairwise(between))
        )
        checks = [
            ("slabs", times or whole(between, 2), "a whole number ≥ 2, or a tuple of rising times"),
            ("network", one_of(self.network, ("new", "warm")), '"new" or "warm"'),
            ("tolerance", at_least(self.tolerance, 0), "finite and ≥ 0"),
            ("axis", isinstance(self.axis, str), "the name of an axis"),
        ]
        require(self, checks, "marching.")

    @property
    def count(self) -> int:
        """S."""
        return len(self.slabs) + 1 if isinstance(self.slabs, tuple) else self.slabs

    def edges(self, problem: Problem) -> tuple[float, ...]:
        """Times at which slabs begin and end, S + 1 of them.

        Raises:
            ValueError: the problem cannot be cut so.
        """
        low, high = problem.domain.bounds[self.check(problem)]
        if isinstance(self.slabs, tuple):
            return (low, *self.slabs, high)
        inner = (low + (high - low) * s / self.slabs for s in range(1, self.slabs))
        return (low, *inner, high)

    def check(self, problem: Problem) -> int:
        """Number of the time axis of a problem that can be cut.

        Raises:
            ValueError: it cannot be.
        """
        what = f"marching: problem {problem.name!r}"
        if not isinstance(problem.domain, Box):
            raise ValueError(f"{what} has the domain {problem.domain!r}, only a Box can be cut into slabs")
        if problem.unknowns:
            raise ValueError(
                f"{what} has the unknown coefficients {', '.join(problem.unknowns)}, of which every slab "
                "would find its own; train it in one piece"
            )
        axis = time_of(self.axis, problem, "marching")
        low, high = problem.domain.bounds[axis]
        if isinstance(self.slabs, tuple) and not (low < self.slabs[0] and self.slabs[-1] < high):
            raise ValueError(f"marching.slabs={self.slabs!r} must lie between {low} and {high}")
        cut = [(c, _split(c.region, axis, low, high, low, problem.domain)[1]) for c in problem.conditions]
        if not any(start is not None and _asked(problem, c, axis) for c, start in cut):
            raise ValueError(
                f"{what} has no condition on its fields at the start of time, {low}, for slabs to go on with"
            )
        return axis


# ---------------------------------------------------------------------------------------------
# What a slab begins with
# ---------------------------------------------------------------------------------------------

# (number of a field, order of a derivative in time)
Asked = tuple[tuple[int, int], ...]


def _asked(problem: Problem, condition: Condition, axis: int) -> Asked:
    """Fields, and their derivatives in time, that a condition asks for."""
    probe = condition.region.sample(0, min(3, condition.points), (0, 0, 0))
    p = Points(probe, condition.region.columns, problem.coefficients_at(probe[:, :0]))
    logs = [set[Channel]() for _ in problem.fields]
    jets = [recorder(len(probe), problem.domain.dim, log, probe.dtype, probe.device) for log in logs]
    evaluate_residual(condition, jets[0] if len(jets) == 1 else tuple(jets), p)
    orders = [{_order(channel, axis) for channel in log} for log in logs]
    return tuple((number, order) for number, own in enumerate(orders) for order in sorted(own))


def _order(channel: Channel, axis: int) -> int:
    """How often a channel is differentiated in time."""
    return channel.count(axis) if isinstance(channel, tuple) else 2 * (axis in channel.axes)


def _values(u: Any, asked: Asked, axis: Axis) -> tuple[Tensor, ...]:
    jets: tuple[Jet, ...] = u if isinstance(u, tuple) else (u,)
    return tuple(d(jets[f], *[axis] * k).value if k else jets[f].value for f, k in asked)


class Continued:
    """Where a slab has ended: its fields as functions, with their derivatives in time.

    Args:
        problem: of that slab.
        network: on the dtype and device of theta.
        theta: (P,) its parameters.
        axis: number of the time axis.
    """

    def __init__(self, problem: Problem, network: AnyNetwork, theta: Tensor, axis: int) -> None:
        self.problem, self.network, self.theta = problem, network, theta
        self.axis = problem.domain.axes[axis]

    def at(self, x: Tensor, asked: Asked) -> Tensor:
        """What is asked for at points x (n, d) float64, (n, a) float64 on their device."""
        own = self.problem
        state = Condition("state", lambda u, p: _values(u, asked, self.axis), own.domain.interior, 1)
        only = Problem(
            own.domain,
            [state],
            fields=own.fields,
            outputs=own.outputs,
            ansatz=own.ansatz,
            coefficients=own.coefficients,
        )
        points, one = [x.to(self.theta)], self.theta.new_ones(1)
        values = Collocation(only, self.network, points, one, _CHUNK).residual(self.theta)
        return values.view(len(x), len(asked)).to(x)


class Handoff(Region):
    """Points of a region with what the slab before has come to there, as columns.

    Args:
        base: at the time where the slabs meet.
        before: the slab before.
        asked: of its fields.
    """

    def __init__(self, base: Region, before: Continued, asked: Asked) -> None:
        self.base, self.before, self.asked = base, before, asked
        names = before.problem.fields
        self.columns = tuple(f"{names[field]} before, {order}" for field, order in asked)

    @property
    def domain(self) -> Any:
        """The slab."""
        return self.base.domain

    def sample(
        self,
        start: int,
        stop: int,
        key: tuple[int, ...],
        sampling: Sampling = "kronecker",
        device: torch.device | str = "cpu",
        total: int | None = None,
    ) -> Tensor:
        """Points start … stop−1 and the columns; see `Region.sample`."""
        x = self.base.sample(start, stop, key, sampling, device, total)
        return torch.cat([x, self.before.at(x, self.asked)], dim=1)

    def residual(self, u: Any, p: Points) -> tuple[Tensor, ...]:
        """What is asked for, less what it was."""
        now = _values(u, self.asked, self.before.axis)
        return tuple(a - p.data[name] for a, name in zip(now, self.columns, strict=True))


# ---------------------------------------------------------------------------------------------
# The problem of a slab
# ---------------------------------------------------------------------------------------------


def restricted(problem: Problem, axis: int, low: float, high: float, before: Continued | None) -> Problem:
    """A problem on the times low … high.

    Args:
        problem: on a box.
        axis: number of the time axis.
        low: where the slab begins.
        high: where it ends.
        before: the slab before; None where time itself begins.

    Raises:
        ValueError: a region cannot be cut.
    """
    domain = problem.domain
    assert isinstance(domain, Box)
    bounds = dict(zip(domain.names, domain.bounds, strict=True)) | {domain.names[axis]: (low, high)}
    periodic, even = (tuple(domain.names[i] for i in axes) for axes in (domain.periodic, domain.even))
    slab = Box(periodic=periodic, even=even, **bounds)
    beginning = None if before is None else domain.bounds[axis][0]
    conditions: list[Condition] = []
    for condition in problem.conditions:
        rest, start = _split(condition.region, axis, low, high, beginning, slab)
        if rest is not None:
            points = min(condition.points, rest.count or condition.points)
            conditions.append(replace(condition, region=rest, points=points))
        if before is not None and start is not None and (asked := _asked(problem, condition, axis)):
            handoff = Handoff(start, before, asked)
            name = condition.name if rest is None else f"{condition.name}, continued"
            conditions.append(replace(condition, name=name, residual=handoff.residual, region=handoff))
    return Problem(
        slab,
        conditions,
        fields=problem.fields,
        outputs=problem.outputs,
        ansatz=problem.ansatz,
        coefficients=problem.coefficients,
        solution=problem.solution,
        name=problem.name,
    )


def _split(
    region: Region, axis: int, low: float, high: float, beginning: float | None, slab: Box
) -> tuple[Region | None, Region | None]:
    """What of a region lies in a slab, and what lies at the beginning of all time, moved to that of the slab.

    Without a beginning, in the first slab, all of it lies in the slab.

    Raises:
        ValueError: it is of a kind that cannot be cut.
    """
    if isinstance(region, BoxRegion):
        stay: list[dict[int, float]] = []
        begin: list[dict[int, float]] = []
        for face in region.faces:
            time = face.get(axis)
            if time is None or low < time <= high or (beginning is None and time == low):
                stay.append(dict(face))
            elif time == beginning:
                begin.append({**face, axis: low})
        rest = BoxRegion(slab, tuple(stay), region.columns) if stay else None
        return rest, BoxRegion(slab, tuple(begin)) if begin else None
    if isinstance(region, PointCloud):
        return region.between(axis, low, high, slab, closed=beginning is None), None
    if isinstance(region, Filtered):
        parts = _split(region.base, axis, low, high, beginning, slab)
        inside, first = (None if part is None else Filtered(part, region.keep) for part in parts)
        return inside, first
    raise ValueError(
        f"marching: {region!r} cannot be cut into slabs of time; faces of a Box and given points can"
    )
