"""How far a field can be from the solution, given how far it is from meeting its conditions.

For many equations a theorem bounds the error of any smooth field by the residuals that it leaves:

    ‖u − u*‖ ≤ Σ_c κ_c ‖r_c‖

It holds for every u, trained or not, since it follows from subtracting the equations of u and of u*. What is
put into it here are residuals at sampled points, whose largest lies below the largest of all: hence an
estimate.

Constants for norm="max", with w the width of a slab that holds the domain (of a box its shortest side) and T
the length of time:

    Δu = f, u given on the boundary            equation w²/8, in a ball R²/(2d); boundary 1
    u_t = κ Δu + f, u given at start, walls    equation min(T, w²/(8κ)), start 1, walls 1
    u_t + b·∇u = κ Δu + f, the same            equation T, start 1, walls 1
    u_t + b·∇u = f, u given at start, inflow   equation T, start 1, inflow 1
    u_t = κ Δu + g(u), g′ ≤ L                  equation (e^{LT} − 1)/L, start and walls e^{LT}

They belong to these residuals; of twice the equation the constant is half as large. The first two compare ±e
with the solution of −Δv = 1 that vanishes on the slab's sides, v = x (w − x)/2 ≤ w²/8, the second and third
with t max|r| (Protter and Weinberger, "Maximum Principles in Differential Equations", 1967, chapters 2 and
3); the fourth integrates e along characteristics; the last is the third for e^{−Lt} e.

Letters
    r_c      residual of condition c as it is written, scale included
    κ_c      its constant
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from sngd.condition import Condition

__all__ = ["Norm", "Stability", "fitting"]

Norm = Literal["max", "l1", "l2"]


@dataclass(frozen=True)
class Stability:
    """A theorem ‖u − u*‖ ≤ Σ_c κ_c ‖r_c‖: Stability({"equation": 1 / 8, "boundary": 1.0}).

        norm       ‖u − u*‖ over the domain           ‖r_c‖ over the region of the condition
        "max"      max of |e| over points, fields     max of |r| over points, components
        "l1"       ∫ Σ_fields |e|                     ∫ Σ_components |r|
        "l2"       √∫ Σ_fields e²                     √∫ Σ_components r²

    Integrals run over all coordinates, time among them; over a face, over those that it does not hold. Faces
    of a box know their measure, so "l1" and "l2" are for conditions on them.

    Args:
        constants: κ_c ≥ 0 by the names of all conditions; 0 for one that the theorem does not need.
        norm: in which.
        source: what the theorem is called, for reports.

    Raises:
        ValueError: an argument is out of range, named with its value.
    """

    constants: Mapping[str, float]
    norm: Norm = "max"
    source: str = "stability"

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise ValueError(f"Stability: norm={self.norm!r} must be one of {get_args(Norm)}")
        if not self.source or not isinstance(self.source, str):
            raise ValueError(f"Stability: source={self.source!r} must be a non-empty string")
        if not isinstance(self.constants, Mapping) or not self.constants:
            raise ValueError(
                f"Stability: constants={self.constants!r} must map names of conditions to numbers, e.g. "
                '{"equation": 1 / 8, "boundary": 1.0}'
            )
        for name, value in self.constants.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value >= 0):
                raise ValueError(f"Stability: constants[{name!r}]={value!r} must be finite and ≥ 0")


def fitting(stability: Stability | None, conditions: Sequence[Condition]) -> Stability | None:
    """The same, once it has proved to be a theorem on these conditions.

    Raises:
        ValueError: it is none, names other conditions, leaves one out, or needs a measure that is not known.
    """
    if stability is None:
        return None
    if not isinstance(stability, Stability):
        raise ValueError(f"Problem: stability={stability!r:.80} must be Stability(...) or None")
    constants, names = stability.constants, [condition.name for condition in conditions]
    if unknown := [name for name in constants if name not in names]:
        raise ValueError(
            f"Stability: constants[{unknown[0]!r}] is of no condition, the problem has {', '.join(names)}"
        )
    for condition in conditions:
        name, region = condition.name, condition.region
        if name not in constants:
            raise ValueError(
                f"Stability: constants has none for condition {name!r}: give one for every condition, 0 "
                "where the theorem does not need it"
            )
        if not constants[name]:
            continue
        if region.count is not None:
            raise ValueError(
                f"Stability: constants[{name!r}]={constants[name]!r} must be 0: condition {name!r} holds at "
                "given points, which have no norm over a region"
            )
        if stability.norm != "max" and region.measure is None:
            raise ValueError(
                f"Stability: norm={stability.norm!r} needs the measure of {region!r} (condition {name!r}), "
                "which faces of a Box alone know"
            )
    return stability
