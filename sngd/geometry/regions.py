"""Regions: where a condition draws its points.

Points are chosen by keyed rejection where a region has no simple map from the unit cube: a fixed sequence of
candidates is walked through from its beginning, and those that lie in the region are the region's points.
Every rank walks through the same candidates and keeps its part, so the points do not depend on how many ranks
there are.

Letters
    n        points
    d        coordinates
    a        columns beside the coordinates
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sngd.sampling import Sampling

if TYPE_CHECKING:
    from sngd.geometry.shape import Shape

__all__ = ["NORMAL", "Axis", "Filtered", "Places", "Region", "Sifted", "normal_columns"]

# Candidates are judged in blocks of so many, always the same ones, so that a point's last bits do not depend
# on which others are asked for.
_BLOCK = 1024
# A region is refused when of so many candidates fewer than this share lie in it.
_TRIED = 2**18
_LEAST_SHARE = 1e-4

# Columns of components of the normal are named so, and then by the axis.
NORMAL = "normal:"

Key = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """One named coordinate of a domain; what `d(u, axis)` and `p[axis]` take."""

    index: int
    name: str


class Places:
    """Points as a filter sees them: p[X] is the tensor (n,) of their coordinate X.

    Args:
        values: (n, d or more), the coordinates first.
        names: of the axes.
    """

    def __init__(self, values: Tensor, names: tuple[str, ...]) -> None:
        self.values, self.names = values, names

    def __getitem__(self, axis: Axis | str) -> Tensor:
        name = axis.name if isinstance(axis, Axis) else axis
        if name not in self.names:
            raise ValueError(f"axis {axis!r} does not exist: the domain has the axes {self.names}")
        return self.values[:, self.names.index(name)]


def normal_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns that hold a normal's components."""
    return tuple(f"{NORMAL}{name}" for name in names)


class Region:
    """Where a condition draws its points, by index: point i depends on the key and on i alone.

    Attributes:
        domain: what it is a region of; a problem's regions belong to its domain.
        columns: names of what `sample` gives beside the coordinates.
        count: number of points when they are given ones, None when as many as wanted can be drawn.
    """

    columns: tuple[str, ...] = ()
    count: int | None = None

    @property
    def domain(self) -> Shape:
        """What it is a region of."""
        raise NotImplementedError

    @property
    def box(self) -> Shape:
        """The domain, by its older name."""
        return self.domain

    @property
    def measure(self) -> float | None:
        """Length, area or volume over the coordinates that are not held; None where it is not known."""
        return None

    def sample(
        self,
        start: int,
        stop: int,
        key: Key,
        sampling: Sampling = "kronecker",
        device: torch.device | str = "cpu",
        total: int | None = None,
    ) -> Tensor:
        """Points start … stop−1 of the set named by `key`.

        Args:
            start: first global index.
            stop: one past the last global index.
            key: integers that name the set: (seed, epoch, condition).
            sampling: "kronecker", a randomly shifted Kronecker sequence (low discrepancy); "uniform",
                independent uniform points; "sobol", a scrambled Sobol sequence; or "latin_hypercube".
            device: where the points are wanted; their values do not depend on it.
            total: number of points of the whole set, which a Latin hypercube spreads together; the others do
                not depend on it.

        Returns:
            (stop − start, d + a) float64, the columns after the coordinates.

        Raises:
            ValueError: the region holds no points.
        """
        raise NotImplementedError

    def candidates(
        self, start: int, stop: int, key: Key, sampling: Sampling, total: int | None
    ) -> tuple[Tensor, Tensor]:
        """Candidates start … stop−1, (m, d + a) on the CPU, and which lie in the region, (m,) bool."""
        rows = self.sample(start, stop, key, sampling, "cpu", total)
        return rows, torch.ones(len(rows), dtype=torch.bool)

    def with_normals(self) -> Region:
        """The same points with the outward unit normal as columns "normal:x", "normal:y", one per axis.

        Raises:
            ValueError: the region is no part of a boundary.
        """
        raise ValueError(f"{self!r} has no normal: it is no part of the boundary of {self.domain!r}")

    def where(self, keep: Callable[[Places], Any]) -> Region:
        """The part of the region where a condition holds: domain.boundary().where(lambda p: p[X] > 0).

        Args:
            keep: points → tensor (n,) of bool; p[X] is the tensor of their coordinates X. Points must be
                judged one by one.
        """
        return Filtered(self, keep)


class Sifted(Region):
    """A region whose points are those of its candidates that lie in it."""

    def sample(
        self,
        start: int,
        stop: int,
        key: Key,
        sampling: Sampling = "kronecker",
        device: torch.device | str = "cpu",
        total: int | None = None,
    ) -> Tensor:
        """Points start … stop−1 of the candidates that lie in the region; see `Region.sample`.

        Raises:
            ValueError: too few candidates do, fewer than one in 10,000.
        """
        width = self.domain.dim + len(self.columns)
        kept: list[Tensor] = [torch.empty(0, width, dtype=torch.float64)]
        found, tried = 0, 0
        while found < stop:
            if tried >= _TRIED and found < _LEAST_SHARE * tried:
                raise ValueError(
                    f"{self!r} holds {found or 'none'} of the first {tried:,} points tried: it is empty, or "
                    "too small to be found by chance; describe it by a shape, a face or a point cloud"
                )
            rows, keep = self.candidates(tried, tried + _BLOCK, key, sampling, total)
            if bool(keep.any()):
                kept.append(rows[keep][max(start - found, 0) : stop - found])
            found, tried = found + int(keep.sum()), tried + _BLOCK
        return torch.cat(kept).to(device)


class Filtered(Sifted):
    """The points of a region that a user's filter keeps."""

    def __init__(self, base: Region, keep: Callable[[Places], Any]) -> None:
        self.base, self.keep = base, keep
        self.columns = base.columns

    def __repr__(self) -> str:
        return f"{self.base!r}.where({getattr(self.keep, '__name__', repr(self.keep))})"

    @property
    def domain(self) -> Shape:
        """What it is a region of."""
        return self.base.domain

    def candidates(
        self, start: int, stop: int, key: Key, sampling: Sampling, total: int | None
    ) -> tuple[Tensor, Tensor]:
        """The candidates of the whole region, judged by it and by the filter."""
        rows, inside = self.base.candidates(start, stop, key, sampling, total)
        verdict = self.keep(Places(rows, self.domain.names))
        if not (
            isinstance(verdict, Tensor) and verdict.dtype == torch.bool and verdict.shape == inside.shape
        ):
            what = (
                f"{verdict.dtype} of shape {tuple(verdict.shape)}"
                if isinstance(verdict, Tensor)
                else type(verdict).__name__
            )
            raise ValueError(
                f"{self!r}: the filter must return a bool tensor of shape {tuple(inside.shape)}, one verdict "
                f"per point, e.g. lambda p: p[X] > 0; it returned {what}"
            )
        return rows, inside & verdict

    def with_normals(self) -> Region:
        """The same points with normals."""
        return Filtered(self.base.with_normals(), self.keep)
