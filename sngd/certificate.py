"""What a run can say of its own answer without knowing the solution.

Residuals on points that no run trains on, and an estimate of the error where the problem has a `Stability`.
They are evaluated in float64 whatever a run was trained in: one of float32 left 9.9e-7 of heat's initial
condition, which float32 itself saw as 1.5e-6, and sees as 9e-7 where float64 has reached 6e-10. What float32
makes of the same residuals at the first points tells their rounding, which in float64 is smaller by the ratio
of the two units of rounding.

Letters
    P        parameters
    n        points of a condition; q components of its residual
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sngd.condition import Condition
from sngd.domain import BoxRegion
from sngd.estimate import error_estimate
from sngd.evaluate import FRESH, fresh_residuals, norms, time_axis
from sngd.geometry.pieces import Boundary, Slice
from sngd.geometry.regions import Filtered, Region
from sngd.networks import AnyNetwork
from sngd.problem import Problem
from sngd.taylor import Channel, Laplacian

__all__ = ["agreement", "certify"]

# Without a number of points: so many for each that a run trains on, not below and not above these …
_PER_POINT, _FEWEST, _MOST = 10, 1000, 10_000
# … unless parameters times derivatives times points exceed this, about 2 s of a core; then so few at least.
_WORK, _LEAST = 1e10, 500

# Rounding is judged at so many points; a residual is resolved where it exceeds its rounding so many times.
_JUDGED, _RESOLVED = 1000, 10.0
# Two computers may differ by so many times the rounding, or by so many units of it in sums.
_APART, _UNITS = 10.0, 1e3


def certify(
    problem: Problem,
    network: AnyNetwork,
    theta: Tensor,
    points: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Any]:
    """Residuals on points that no run trains on, and an estimate of the error where one is known.

    Args:
        problem: its conditions.
        network: on the device of theta, of any dtype.
        theta: (P,) parameters.
        points: of every condition; as many as take seconds when absent.
        dtype: of the evaluation, float64 or float32.

    Returns:
        What JSON can hold. By condition: kind ("equation", "boundary", "initial", "inside", "given"), order
        of the highest derivative in it (0: the residual has the field's units), number of points, whether
        they are fresh, rms, max and mean of |r|, the point of the largest, and the rounding of rms and
        max; what is not finite is None. error_estimate: value, norm, source, and the share of every
        condition; None with the reason among the notes.
    """
    count = _affordable(problem, network) if points is None else points
    told: dict[str, Any] = {
        "points": count,
        "key": list(FRESH),
        "dtype": _name(dtype),
        "device": str(theta.device),
        "trained_in": _name(theta.dtype),
        "conditions": {},
        "error_estimate": None,
        "notes": [],
    }
    other = torch.float32 if dtype == torch.float64 else torch.float64
    try:
        found = _evaluated(problem, network, theta, count, dtype)
        for condition, (x, r) in zip(problem.conditions, found, strict=True):
            told["conditions"][condition.name] = _condition(problem, condition, x, r)
        told["notes"] = [_not_finite(name, c) for name, c in told["conditions"].items() if c["not_finite"]]
        again = _evaluated(problem, network, theta, min(count, _JUDGED), other)
        _add_rounding(told, [r for _, r in found], [r for _, r in again], dtype)
    except (ValueError, RuntimeError, MemoryError) as error:  # a finished run is worth more than this
        told["notes"].append(f"{type(error).__name__}: {error}".splitlines()[0])
    told["error_estimate"], why = error_estimate(problem, network, theta, told["conditions"])
    told["notes"] += why
    told["summary"] = _summary(told)
    return told


def _affordable(problem: Problem, network: AnyNetwork) -> int:
    """Points of every condition: a function of problem and network alone, so that it is the same anywhere."""
    work = network.parameters * sum(len(s.channels) for s in problem.signatures)
    most = min(_MOST, max(_FEWEST, _PER_POINT * problem.points))
    return min(most, max(_LEAST, int(_WORK / work)))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _evaluated(
    problem: Problem, network: AnyNetwork, theta: Tensor, points: int, dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    return fresh_residuals(problem, network.to(dtype, theta.device), theta.detach().to(dtype), points)


# ---------------------------------------------------------------------------------------------
# A condition
# ---------------------------------------------------------------------------------------------


def _condition(problem: Problem, condition: Condition, x: Tensor, r: Tensor) -> dict[str, Any]:
    """What is told of a condition.

    Args:
        problem: that it belongs to.
        condition: which.
        x: (n, d + a) its points.
        r: (n, q) float64, its residuals there.
    """
    number = problem.conditions.index(condition)
    bad = ~r.isfinite().all(1)
    largest = int((bad.double() if bad.any() else r.abs().amax(1)).argmax())
    where = x[largest, : problem.domain.dim].tolist()
    size = norms(r)
    return {
        "kind": _kind(condition.region),
        "order": max(_order(channel) for channel in problem.signatures[number].channels),
        "points": len(x),
        "fresh": condition.region.count is None,
        **{name: size[name] if math.isfinite(size[name]) else None for name in ("rms", "max", "mean")},
        "at": dict(zip(problem.domain.names, where, strict=True)),
        "not_finite": int(bad.sum()),
        "rounding": None,
        "rounding_max": None,
        "resolved": None,
    }


def _not_finite(name: str, condition: Mapping[str, Any]) -> str:
    at = ", ".join(f"{axis}={value:.6g}" for axis, value in condition["at"].items())
    count, points = condition["not_finite"], condition["points"]
    return f"{name}: residual not finite at {count} of {points} points, the first at {at}"


def _order(channel: Channel) -> int:
    """How often a channel is differentiated."""
    if isinstance(channel, Laplacian):
        return 2 * channel.power + len(channel.along)
    return len(channel)


def _kind(region: Region) -> str:
    """What part of the domain a region is.

    "given" points, "equation" for the whole, "initial" for the start of time, "boundary", "inside" for other
    places where coordinates are held.
    """
    if region.count is not None:
        return "given"
    while isinstance(region, Filtered):
        region = region.base
    if isinstance(region, Boundary):
        return "boundary"
    faces = region.faces if isinstance(region, BoxRegion) else [getattr(region, "fixed", {})]
    if not isinstance(region, (BoxRegion, Slice)) or not any(faces):
        return "equation"
    domain = region.domain
    axis = time_axis(domain.names)
    if axis is not None and all(face.get(axis) == domain.bounds[axis][0] for face in faces):
        return "initial"
    ends = [[v in domain.bounds[i] and i not in domain.periodic for i, v in face.items()] for face in faces]
    return "boundary" if all(any(held) for held in ends) else "inside"


def _add_rounding(told: dict[str, Any], found: list[Tensor], again: list[Tensor], dtype: torch.dtype) -> None:
    """Rounding of residuals in one dtype, from what they are in the other at their first points."""
    unit = torch.finfo(dtype).eps / torch.finfo(torch.float32).eps
    for condition, r, other in zip(told["conditions"].values(), found, again, strict=True):
        size = norms(unit * (r[: len(other)] - other))
        if math.isfinite(size["rms"]):
            condition["rounding"], condition["rounding_max"] = size["rms"], size["max"]
            if condition["rms"] is not None:
                condition["resolved"] = condition["rms"] >= _RESOLVED * size["rms"]


# ---------------------------------------------------------------------------------------------
# In words, and beside another
# ---------------------------------------------------------------------------------------------


def _summary(told: Mapping[str, Any]) -> str:
    """One line of text."""
    parts = []
    for name, condition in told["conditions"].items():
        what = "rms" if condition["kind"] == "equation" else "max"
        size = "not finite" if condition[what] is None else f"{condition[what]:.1e} {what}"
        blurred = " (not above rounding)" if condition["resolved"] is False else ""
        parts.append(f"{name} {size}{blurred}")
    line = f"residual on fresh points: {', '.join(parts) or told['notes'][0]}"
    estimate = told["error_estimate"]
    if estimate is None:
        return line
    norm = {"max": "", "l1": " in L1", "l2": " in L2"}[estimate["norm"]]
    return f"{line}; error{norm} at most about {estimate['value']:.1e} ({estimate['source']})"


def agreement(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a certificate says the same as one that was recorded, up to rounding.

    Both are of the same parameters; the computer, its device or the dtype may differ. They may be apart by
    ten times the rounding that was recorded, in the coarser of the two dtypes.

    Args:
        recorded: of result.json.
        now: made anew.

    Returns:
        agrees: None where they cannot be compared; why; and by condition the relative differences of rms and
        max, and whether they agree.
    """
    try:
        if recorded["points"] != now["points"] or recorded["key"] != now["key"]:
            why = f"other points than the {recorded['points']:,} that were recorded"
            return {"agrees": None, "why": why, "conditions": {}}
        if list(recorded["conditions"]) != list(now["conditions"]) or not now["conditions"]:
            return {"agrees": False, "why": "other conditions than were recorded", "conditions": {}}
        coarser = [getattr(torch, told["dtype"]) for told in (recorded, now)]
        compared = {
            name: _compared(told, now["conditions"][name], *coarser)
            for name, told in recorded["conditions"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"what was recorded is no certificate ({type(error).__name__}: {error})"
        return {"agrees": None, "why": why, "conditions": {}}
    apart = [name for name, one in compared.items() if not one["agrees"]]
    why = f"{', '.join(apart)}: residuals differ from those recorded by more than rounding" if apart else ""
    return {"agrees": not apart, "why": why, "conditions": compared}


def _compared(
    old: Mapping[str, Any], new: Mapping[str, Any], old_dtype: torch.dtype, new_dtype: torch.dtype
) -> dict[str, Any]:
    """Relative differences of one condition, and whether rounding explains them."""
    old_unit, new_unit = torch.finfo(old_dtype).eps, torch.finfo(new_dtype).eps
    unit = max(old_unit, new_unit)
    told: dict[str, Any] = {"agrees": True}
    for name, rounding in (("rms", old["rounding"]), ("max", old["rounding_max"])):
        a, b = old[name], new[name]
        if a is None or b is None:
            told[name] = None
            told["agrees"] &= a is b
            continue
        told[name] = abs(a - b) / a if a else (0.0 if b == a else None)
        blurred = math.sqrt(unit) * a if rounding is None else _APART * rounding * unit / old_unit
        told["agrees"] &= abs(a - b) <= blurred + _UNITS * unit * a
    return told
