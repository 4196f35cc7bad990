"""Given points: measurements and point clouds.

Letters
    n        points
    d        coordinates
    ν        outward unit normal
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sngd.checks import told, words_of
from sngd.geometry.regions import Key, Places, Region, normal_columns
from sngd.geometry.shape import Shape
from sngd.sampling import Sampling
from sngd.tables import read_csv, read_npz

__all__ = ["Data", "PointCloud"]

# A row that is at fault is told as one of so many at most.
_SHOWN = 5
# Lengths of given normals may differ from 1 by so much.
_LENGTH = 1e-3


class PointCloud(Region):
    """Given points as a region, in the interior or on the boundary: PointCloud(domain, points).

    Its points are these, in this order, whatever the key.

    Args:
        domain: of the problem.
        points: (n, d), an array or nested lists.
        normals: ν (n, d), where the points lie on a boundary; residuals then have p.normal.

    Raises:
        ValueError: an array has another shape, is empty or not finite; points lie outside of the domain;
            normals are not of length 1.
    """

    def __init__(self, domain: Shape, points: Any, normals: Any = None) -> None:
        if not isinstance(domain, Shape):
            raise ValueError(f"{self._what('domain')}={told(domain)} must be a Box or another shape")
        self._domain, self.columns = domain, ()
        self._x = _matrix(self._what("points"), points, domain.dim)
        self._refuse(~domain.near(self._x), "points", f"lies outside of the domain {domain!r}")
        self.count = len(self._x)
        self._extra = self._x.new_empty(self.count, 0)
        self._normals: Tensor | None = None
        if normals is not None:
            self._normals = self._aligned("normals", _matrix(self._what("normals"), normals, domain.dim))
            off = (self._normals.norm(dim=1) - 1).abs() > _LENGTH
            self._refuse(off, "normals", "is not of length 1")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.count} points)"

    def __len__(self) -> int:
        return len(self._x)

    @property
    def domain(self) -> Shape:
        """Of the problem."""
        return self._domain

    def _what(self, name: str) -> str:
        return f"{type(self).__name__} {name}"

    def _refuse(self, bad: Tensor, name: str, why: str) -> None:
        rows = bad.nonzero().flatten().tolist()
        if rows:
            at = ", ".join(f"{v:.6g}" for v in self._x[rows[0]].tolist())
            raise ValueError(f"{self._what(name)}: row {_listed(rows)} {why}; row {rows[0]} is at ({at})")

    def _aligned(self, name: str, values: Tensor) -> Tensor:
        if len(values) != len(self._x):
            raise ValueError(
                f"{self._what(name)} has {len(values)} rows, points has {len(self._x)}; they must be as many"
            )
        return values

    def sample(
        self,
        start: int,
        stop: int,
        key: Key,
        sampling: Sampling = "kronecker",
        device: torch.device | str = "cpu",
        total: int | None = None,
    ) -> Tensor:
        """Points start … stop−1 with their columns; key, sampling and total change nothing.

        Raises:
            ValueError: there are fewer points.
        """
        if stop > len(self._x):
            raise ValueError(f"{self!r} has no point {stop - 1}; ask for at most {len(self._x)} points")
        return torch.cat([self._x[start:stop], self._extra[start:stop]], dim=1).to(device)

    def with_normals(self) -> Region:
        """The same points with their normals.

        Raises:
            ValueError: they were given none.
        """
        if self._normals is None:
            raise ValueError(f"{self!r} has no normals; give {type(self).__name__}(..., normals=...)")
        result = copy.copy(self)
        result.columns = (*self.columns, *normal_columns(self._domain.names))
        result._extra = torch.cat([self._extra, self._normals], dim=1)
        return result

    def where(self, keep: Callable[[Places], Any]) -> PointCloud:
        """Those of the points where a condition holds; see `Region.where`.

        Raises:
            ValueError: there are none, or the condition is not one bool per point.
        """
        kept = keep(Places(self._x, self._domain.names))
        if not (isinstance(kept, Tensor) and kept.dtype == torch.bool and kept.shape == (len(self._x),)):
            raise ValueError(f"{self!r}: the filter must return a bool tensor of shape ({len(self._x)},)")
        if not bool(kept.any()):
            raise ValueError(f"{self!r}: the filter keeps none of its points")
        return self._kept(kept)

    def between(self, axis: int, low: float, high: float, domain: Shape, closed: bool) -> PointCloud | None:
        """Those of the points with low < x_axis ≤ high, on another domain; None where there are none.

        Args:
            axis: number of a coordinate.
            low: where it begins.
            high: where it ends.
            domain: of the points that are kept.
            closed: keep those at low, too.
        """
        x = self._x[:, axis]
        kept = (x > low) & (x <= high) | (closed & (x == low))
        if not bool(kept.any()):
            return None
        result = self._kept(kept)
        result._domain = domain
        return result

    def _kept(self, kept: Tensor) -> PointCloud:
        result = copy.copy(self)
        result._x, result._extra = self._x[kept], self._extra[kept]
        result._normals = None if self._normals is None else self._normals[kept]
        result.count = len(result._x)
        return result


class Data(PointCloud):
    """Measured values at given points, Data(domain, points, {"u": values}): residuals read p.data["u"].

    A condition on data takes all of its points unless it is told fewer:
    Condition("data", lambda u, p: u - p.data["u"], data).

    Args:
        domain: of the problem.
        points: (n, d), an array or nested lists.
        values: by name, (n,) each.
        normals: ν (n, d), where the points lie on a boundary.

    Raises:
        ValueError: as for `PointCloud`; or values are absent, of another length, or called as an axis.
    """

    def __init__(self, domain: Shape, points: Any, values: Mapping[str, Any], normals: Any = None) -> None:
        super().__init__(domain, points, normals)
        if not isinstance(values, Mapping):
            raise ValueError(
                f'Data values must map names to arrays, e.g. {{"u": values}}, not {type(values).__name__}'
            )
        if not values:
            raise ValueError('Data values is empty; name at least one, e.g. {"u": values}, or use PointCloud')
        columns = []
        for name, column in values.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"Data values has the name {told(name)}, which must be text")
            if name in domain.names or ":" in name:
                raise ValueError(f"Data values[{name!r}] must not be called as an axis, nor have a colon")
            columns.append(
                self._aligned(f"values[{name!r}]", _matrix(f"Data values[{name!r}]", column, None))
            )
        self.columns = tuple(values)
        self._extra = torch.cat(columns, dim=1)

    @classmethod
    def from_csv(cls, domain: Shape, path: str | Path, values: Sequence[str] | str = ()) -> Data:
        """Read a table with a header line: x,t,u.

        Args:
            domain: of the problem; its axes are columns of the table.
            path: the file, fields parted by commas.
            values: columns to take as values, or one by its name; all that are no axes when absent.

        Raises:
            ValueError: naming file, column and line: it is missing, empty, has no such column, or an entry
                that is no number.
        """
        _check_source(domain, path)
        return cls._from_table(domain, path, *read_csv(path, domain.names, values))

    @classmethod
    def from_npz(cls, domain: Shape, path: str | Path, values: Sequence[str] | str = ()) -> Data:
        """Read arrays (n,) called as the axes and the values, written by numpy.savez(path, x=…, u=…).

        Args:
            domain: of the problem.
            path: the file.
            values: arrays to take as values, or one by its name; all that are no axes when absent.

        Raises:
            ValueError: naming file and array: it is missing or no NPZ file, has no such array, or one that is
                not finite or has another shape.
        """
        _check_source(domain, path)
        return cls._from_table(domain, path, *read_npz(path, domain.names, values))

    @classmethod
    def _from_table(
        cls, domain: Shape, path: str | Path, table: Mapping[str, np.ndarray], chosen: Sequence[str]
    ) -> Data:
        try:
            points = np.stack([table[name] for name in domain.names], axis=1)
            return cls(domain, points, {name: table[name] for name in chosen})
        except ValueError as error:
            raise ValueError(f"data file {str(path)!r}: {error}") from error


def _matrix(what: str, array: Any, width: int | None) -> Tensor:
    """An array as (n, width) float64; (n,) as one column where width is None."""
    try:
        if isinstance(array, Tensor):  # of any device, or part of a graph
            array = array.detach().cpu()
            array = array if array.is_complex() else array.double()
        given = np.asarray(array)
        if np.iscomplexobj(given):  # numpy would drop the imaginary part
            raise TypeError(f"they are {given.dtype}; take real and imaginary parts as two")
        if given.dtype.kind not in "fiub":  # text and times would be taken for numbers
            raise TypeError(f"they are {given.dtype}")
        if np.ma.is_masked(array):  # what is behind the mask would be taken for measured
            raise TypeError("some are masked; leave these points out")
        values = torch.as_tensor(given.astype(np.float64))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{what} must be an array of numbers: {words_of(error)}") from error
    shape, values = tuple(values.shape), values[:, None] if width is None and values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] != (width or 1):
        raise ValueError(f"{what} has shape {shape}, it must be {f'(n, {width})' if width else '(n,)'}")
    if not len(values):
        raise ValueError(f"{what} is empty; it needs at least one row")
    bad = (~values.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"{what}: row {_listed(bad)} is not finite")
    return values


def _listed(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(str(row) for row in rows[:_SHOWN]) + more


def _check_source(domain: Any, path: Any) -> None:
    """Refuse what is no domain, and what is no path: open() takes whole numbers for open files."""
    if not isinstance(domain, Shape):
        raise ValueError(f"Data domain={told(domain)} must be a Box or another shape")
    if not isinstance(path, (str, Path)):
        raise ValueError(f"Data path={told(path)} must be a path")
