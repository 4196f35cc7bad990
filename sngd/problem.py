"""What a user writes: conditions on regions of a domain, and what is known of the solution."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from sngd.allocation import is_out_of_memory
from sngd.domain import Axis, Box, Region, Sampling
from sngd.jet import Jet, coordinate, recorder
from sngd.taylor import Channel, close

__all__ = ["Condition", "Points", "Problem"]

# Points on which a residual is tried when its problem is built.
_PROBES = 3


class Points:
    """The points that a residual is evaluated on: p[X] is the coordinate X as a field.

    Args:
        values: (n, d) coordinates.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, axis: Axis) -> Any:  # a Jet; Any, so that torch.sin(p[X]) passes type checkers
        index = getattr(axis, "index", axis)
        dim = self.values.shape[1]
        if not isinstance(index, int) or not 0 <= index < dim:
            raise ValueError(f"axis {axis!r} does not exist: the domain has {dim} axes")
        return coordinate(self.values, index, dim)


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
        points: number of collocation points N_c over all ranks.
        weight: w_c, positive.
        sampling: "kronecker" (low discrepancy) or "uniform" (independent).

    Raises:
        ValueError: an argument is out of range, each named with its value.
    """

    name: str
    residual: Residual
    region: Region
    points: int
    weight: float = 1.0
    sampling: Sampling = "kronecker"

    def __post_init__(self) -> None:
        where = f"Condition({self.name!r})"
        if not self.name or not isinstance(self.name, str):
            raise ValueError(f"Condition name={self.name!r} must be a non-empty string")
        if not callable(self.residual):
            raise ValueError(f"{where}: residual={self.residual!r} must be a function (u, p) -> residual")
        if not isinstance(self.region, Region):
            raise ValueError(
                f"{where}: region={self.region!r} must be a region of the domain, e.g. domain.interior"
            )
        if not isinstance(self.points, int) or isinstance(self.points, bool) or self.points < 1:
            raise ValueError(f"{where}: points={self.points!r} must be a whole number ≥ 1")
        if not (isinstance(self.weight, (int, float)) and math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"{where}: weight={self.weight!r} must be finite and > 0")
        if self.sampling not in get_args(Sampling):
            raise ValueError(f"{where}: sampling={self.sampling!r} must be one of {get_args(Sampling)}")


@dataclass(frozen=True)
class Signature:
    """What one condition needs, found by running its residual on a recording field."""

    channels: tuple[Channel, ...]
    components: int


class Problem:
    """A differential equation with its conditions on a box.

    Args:
        domain: the box.
        conditions: one or more `Condition`.
        fields: names of the unknown fields; one name gives a scalar problem, several a system whose residuals
            unpack them: `u, v = w`.
        solution: p → the solution (a tuple for a system), exact or an interpolated reference; when
            given, runs report relative errors against it. It is called on `Points`.
        name: how logs and pictures call the problem.

    Raises:
        ValueError: no conditions, names that repeat, a region of another box, or a residual whose output
            is not one number per point.
    """

    def __init__(
        self,
        domain: Box,
        conditions: Sequence[Condition],
        *,
        fields: Sequence[str] = ("u",),
        solution: Callable[[Points], Any] | None = None,
        name: str = "problem",
    ) -> None:
        self.domain, self.name = domain, name
        self.conditions = tuple(conditions)
        self.fields = (fields,) if isinstance(fields, str) else tuple(fields)
        self.solution = solution
        if not self.conditions:
            raise ValueError("Problem: conditions is empty; give at least one Condition")
        names = [c.name for c in self.conditions]
        for kind, group in (("condition", names), ("field", list(self.fields))):
            repeated = sorted({n for n in group if group.count(n) > 1})
            if repeated:
                raise ValueError(f"Problem: {kind} names must differ, {repeated} appear more than once")
        if not self.fields:
            raise ValueError('Problem: fields is empty; name at least one, e.g. fields=("u",)')
        for c in self.conditions:
            if c.region.domain is not domain:
                raise ValueError(
                    f"Condition({c.name!r}): its region belongs to {c.region.domain!r}, not to the problem's "
                    f"domain {domain!r}"
                )
        self.signatures = tuple(self._record(c) for c in self.conditions)

    @property
    def points(self) -> int:
        """Collocation points of all conditions over all ranks."""
        return sum(c.points for c in self.conditions)

    @property
    def rows(self) -> int:
        """N, residual rows of all conditions over all ranks: points × components."""
        return sum(c.points * s.components for c, s in zip(self.conditions, self.signatures, strict=True))

    def _record(self, condition: Condition) -> Signature:
        """Run the residual on recording fields: which derivatives, how many components.

        A second run on fewer points tells whether a residual mixes them, which would make every row of the
        Jacobian wrong without a sign of it.
        """
        log: set[Channel] = set()

        def run(n: int) -> Tensor:
            probe = condition.region.sample(0, n, (0, 0, 0))
            jets = [recorder(n, self.domain.dim, log, probe.dtype, probe.device) for _ in self.fields]
            u: Any = jets[0] if len(jets) == 1 else tuple(jets)
            return evaluate_residual(condition, u, Points(probe))

        more, fewer = run(_PROBES), run(_PROBES - 1)
        if not torch.allclose(more[:-1], fewer, rtol=1e-9, atol=0.0, equal_nan=True):
            raise ValueError(
                f"residual of condition {condition.name!r} mixes points: its value at one point changes when "
                "another is left out; write it pointwise, without mean, sum or sort over the points"
            )
        return Signature(close(log), more.shape[1])

    def reference(self, points: Tensor) -> Tensor:
        """The known solution at points (n, d) → (n, fields).

        Raises:
            ValueError: there is none, or it returns another shape.
        """
        if self.solution is None:
            raise ValueError(f"problem {self.name!r} has no solution to compare with")
        return _stack(self.solution(Points(points)), len(points), "solution", len(self.fields))


def evaluate_residual(condition: Condition, u: Any, p: Points) -> Tensor:
    """The residual of one condition on given fields and points, (n, components).

    Raises:
        ValueError: it does not return one number per point.
    """
    what = f"residual of condition {condition.name!r}"
    try:
        result = condition.residual(u, p)
    except Exception as error:
        if is_out_of_memory(error):
            raise  # no mistake of the residual's: whoever asked may try fewer points
        raise ValueError(f"{what} failed{_where(error)}: {type(error).__name__}: {error}") from error
    return _stack(result, len(p), what)


def _where(error: Exception) -> str:
    """Line of the user's code that an exception passed through last."""
    package = str(Path(__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(package) and "site-packages" not in f.filename]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def _stack(result: Any, n: int, what: str, components: int | None = None) -> Tensor:
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
    return torch.stack(tensors, dim=1)
