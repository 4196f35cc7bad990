"""One requirement on the solution: a residual on a region, and what it needs of the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from sngd.checks import failure, one_of, told, whole, within
from sngd.device_errors import is_machine_failure
from sngd.geometry.regions import Region
from sngd.jet import Jet
from sngd.points import Points
from sngd.sampling import Sampling
from sngd.taylor import Channel

__all__ = ["Condition", "Signature", "evaluate_residual", "stack"]

Residual = Callable[[Any, Points], Any]


@dataclass(frozen=True)
class Condition:
    """One requirement on the solution: residual(u, p) = 0 on a region.

    Its part of the loss is weight · mean over the points of Σ_components residual².

    Args:
        name: how logs call it; unique within a problem.
        residual: (u, p) → one number per point, or a tuple of such for several equations. u is the field
            (a `Jet`; a tuple of them for a system), p the `Points`. It must treat points independently.
        region: where its points lie: `domain.interior`, `domain.face(t=0)`, `domain.boundary("x")`.
        points: number of collocation points N_c over all ranks; those that the region has, for
            `Data` and other regions of given points.
        weight: w_c, positive.
        sampling: "kronecker" (low discrepancy) or "uniform" (independent).

    Raises:
        ValueError: an argument is out of range, each named with its value.
    """

    name: str
    residual: Residual
    region: Region
    points: int = 0
    weight: float = 1.0
    sampling: Sampling = "kronecker"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"Condition name={told(self.name)} must be a non-empty string")
        where = f"Condition({told(self.name)})"
        if not callable(self.residual):
            raise ValueError(f"{where}: residual={told(self.residual)} must be a function (u, p) -> residual")
        if not isinstance(self.region, Region):
            raise ValueError(
                f"{where}: region={told(self.region)} must be a region of the domain, e.g. domain.interior"
            )
        count = getattr(self.region, "count", None)
        if count is not None and isinstance(self.points, int) and self.points == 0:
            object.__setattr__(self, "points", count)
        if not whole(self.points, 1):
            raise ValueError(f"{where}: points={told(self.points)} must be a whole number ≥ 1")
        if count is not None and self.points > count:
            raise ValueError(
                f"{where}: points={self.points} must be at most {count}, all that its region has"
            )
        if not within(self.weight, 0, math.inf):
            raise ValueError(f"{where}: weight={told(self.weight)} must be finite and > 0")
        if not one_of(self.sampling, get_args(Sampling)):
            raise ValueError(f"{where}: sampling={told(self.sampling)} must be one of {get_args(Sampling)}")


@dataclass(frozen=True)
class Signature:
    """What one condition needs, found by running its residual on a recording field."""

    channels: tuple[Channel, ...]
    components: int
    columns: tuple[str, ...] = ()


def evaluate_residual(condition: Condition, u: Any, p: Points) -> Tensor:
    """The residual of one condition on given fields and points, (n, components).

    Raises:
        ValueError: it does not return one number per point.
    """
    what = f"residual of condition {condition.name!r}"
    try:
        result = condition.residual(u, p)
    except Exception as error:
        if is_machine_failure(error):
            raise  # no mistake of the residual's: whoever asked may try fewer points
        raise ValueError(f"{what} failed{failure(error)}") from error
    return stack(result, len(p), what)


def stack(result: Any, n: int, what: str, components: int | None = None) -> Tensor:
    """What a user's function has returned as one tensor.

    Args:
        result: a field, a tensor (n,), or a tuple of such.
        n: points.
        what: the function, for the message.
        components: how many it must return; any number when absent.

    Returns:
        (n, components).

    Raises:
        ValueError: it returned something else.
    """
    parts = list(result) if isinstance(result, (tuple, list)) else [result]
    tensors = [part.value if isinstance(part, Jet) else part for part in parts]
    for part in tensors:
        if not isinstance(part, Tensor) or part.shape != (n,):
            shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(
                f"{what} must return one number per point, shape ({n},), or a tuple of such; "
                f"it returned {shape}"
            )
    if not tensors or (components is not None and len(tensors) != components):
        raise ValueError(
            f"{what} must return {components or 'at least one'} component(s), got {len(tensors)}"
        )
    for part in tensors:
        if not part.is_floating_point():  # a complex one would lose its imaginary part
            raise ValueError(f"{what} must return real numbers in floating point, it returned {part.dtype}")
    return torch.stack(tensors, dim=1)
