"""The points that residuals are evaluated on, with all that is known there.

Letters
    n        points
    d        coordinates
    a        columns beside the coordinates
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sngd.geometry.regions import NORMAL, Axis
from sngd.jet import Jet
from sngd.leaves import coordinate

__all__ = ["NoNormalsError", "Normal", "Points"]


class Points:
    """The points that a residual is evaluated on, and what is known there.

        p[X]            the coordinate X as a field
        p["kappa"]      a coefficient of the problem, (n,)
        p.data["u"]     measured values, (n,), in a condition on `Data`
        p.normal[X]     component of the outward unit normal, (n,), in a condition on a boundary

    Args:
        values: (n, d + a) coordinates, then columns of what else is known.
        columns: names of those a columns.
        coefficients: values by name, (n,) each.
    """

    def __init__(
        self,
        values: Tensor,
        columns: tuple[str, ...] = (),
        coefficients: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.dim = values.shape[1] - len(columns)
        self.values, self.columns = values[:, : self.dim], columns
        self._known = values[:, self.dim :]
        self._coefficients = {} if coefficients is None else coefficients
        self._axes: dict[int, Jet] = {}

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: Axis | str) -> Any:  # a Jet; Any, so that torch.sin(p[X]) passes type checkers
        if isinstance(key, str):
            if key not in self._coefficients:
                known = ", ".join(self._coefficients) or "none"
                raise ValueError(
                    f"coefficient {key!r} does not exist, the problem declares {known}: give Problem(..., "
                    f"coefficients={{{key!r}: ...}}), or p[X] with an axis of the domain for a coordinate"
                )
            return self._coefficients[key]
        index = getattr(key, "index", key)
        if not isinstance(index, int) or not 0 <= index < self.dim:
            raise ValueError(f"axis {key!r} does not exist: the domain has {self.dim} axes")
        if index not in self._axes:
            self._axes[index] = coordinate(self.values, index, self.dim)
        return self._axes[index]

    def with_coefficients(self, coefficients: Mapping[str, Tensor]) -> Points:
        """The same points with other coefficients, (n,) each."""
        other = copy.copy(self)
        other._coefficients = coefficients
        return other

    @property
    def data(self) -> Mapping[str, Tensor]:
        """Values that are known at the points, (n,) each, by name."""
        return {name: self._known[:, i] for i, name in enumerate(self.columns) if not name.startswith(NORMAL)}

    @property
    def normal(self) -> Normal:
        """Outward unit normal of the boundary that the points lie on.

        Raises:
            ValueError: they lie on no boundary.
        """
        if not any(name.startswith(NORMAL) for name in self.columns):
            raise NoNormalsError("p.normal: these points lie on no boundary; use it in a condition on one")
        places = [i for i, name in enumerate(self.columns) if name.startswith(NORMAL)]
        return Normal(tuple(self._known[:, i] for i in places))


class NoNormalsError(ValueError):
    """Normals are asked of points that have none."""


class Normal(tuple[Tensor, ...]):
    """Components (n,) of a unit normal, by number or axis."""

    def __getitem__(self, axis: Any) -> Any:
        return super().__getitem__(getattr(axis, "index", axis))
