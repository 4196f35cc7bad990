"""How points are drawn from a shape: slices of its bounds, and pieces of its boundary.

Letters
    n        points
    d        coordinates
    ν        outward unit normal, (n, d)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sngd.geometry.regions import Key, Region, Sifted, normal_columns
from sngd.sampling import Sampling, unit_points, unit_points_and_lot

if TYPE_CHECKING:
    from sngd.geometry.shape import Shape

__all__ = ["Boundary", "Piece", "Slice", "end_normal", "owned"]


@dataclass(frozen=True)
class Piece:
    """A part of the boundary of a shape; in a combination some of it may no longer bound the whole.

    Args:
        owners: the shapes that it bounds, the smallest first.
        label: name of the axis that the face of a box is orthogonal to, otherwise absent.
        measure: its (d − 1)-dimensional measure, in any unit that is one for all pieces of a shape.
        draw: u (n, d) in the unit cube → points (n, d), uniform on the piece, and ν (n, d).
        outward: −1 where the piece bounds a hole, else 1.
        first: shapes that a piece of the same boundary would belong to before this one.
    """

    owners: tuple[Shape, ...]
    label: str | None
    measure: float
    draw: Callable[[Tensor], tuple[Tensor, Tensor]]
    outward: float = 1.0
    first: tuple[Shape, ...] = ()

    def belongs_to(self, what: Any) -> bool:
        """Whether it bounds a shape, or is a face of a box along an axis of this name."""
        return self.label == what if isinstance(what, str) else any(owner is what for owner in self.owners)


def owned(piece: Piece, by: Shape, **changes: Any) -> Piece:
    """A piece of a part as a piece of the whole."""
    return replace(piece, owners=(*piece.owners, by), **changes)


class Slice(Sifted):
    """The shape with some coordinates held, none for the interior: what lies in it of a slice of its bounds.

    Args:
        shape: the shape.
        fixed: the held coordinates, {axis number: value}.
        normals: its points carry normals of a boundary.
    """

    def __init__(self, shape: Shape, fixed: Mapping[int, float], normals: bool = False) -> None:
        self.shape, self.fixed = shape, dict(fixed)
        self.columns = normal_columns(shape.names) if normals else ()

    def __repr__(self) -> str:
        held = ", ".join(f"{self.shape.names[i]}={v}" for i, v in self.fixed.items())
        return f"{self.shape!r}.face({held})" if held else f"{self.shape!r}.interior"

    @property
    def domain(self) -> Shape:
        """The shape."""
        return self.shape

    def candidates(
        self, start: int, stop: int, key: Key, sampling: Sampling, total: int | None
    ) -> tuple[Tensor, Tensor]:
        """Points of the bounds, and which of them the shape contains."""
        u = unit_points(start, stop, self.shape.dim, key, sampling, "cpu", total)
        low, high = torch.tensor(self.shape.bounds, dtype=torch.float64).unbind(1)
        points = low + (high - low) * u
        for axis, value in self.fixed.items():
            points[:, axis] = value
        inside = self.shape.contains(points)
        if self.columns:
            normal = end_normal(self.shape, self.fixed)
            assert normal is not None
            points = torch.cat([points, points.new_tensor(normal).expand_as(points)], dim=1)
        return points, inside

    def with_normals(self) -> Region:
        """The same points with ν = ±e of the held axis, where it is held at an end of the bounds."""
        if end_normal(self.shape, self.fixed) is None:
            return super().with_normals()
        return Slice(self.shape, self.fixed, normals=True)


def end_normal(shape: Shape, fixed: Mapping[int, float]) -> list[float] | None:
    """ν of the face that holds one coordinate at an end of the bounds; None for other faces."""
    if len(fixed) != 1:
        return None
    ((axis, value),) = fixed.items()
    if axis in shape.periodic or value not in shape.bounds[axis]:
        return None
    sign = 1.0 if value == shape.bounds[axis][1] else -1.0
    return [sign if i == axis else 0.0 for i in range(shape.dim)]


class Boundary(Sifted):
    """Pieces of the boundary of a shape, as far as they bound the whole; uniform in measure.

    Args:
        shape: the shape.
        chosen: its pieces.
        normals: give ν too.
    """

    def __init__(self, shape: Shape, chosen: tuple[Piece, ...], normals: bool = False) -> None:
        self.shape, self.chosen = shape, chosen
        self.columns = normal_columns(shape.names) if normals else ()

    def __repr__(self) -> str:
        return f"{self.shape!r}.boundary()"

    @property
    def domain(self) -> Shape:
        """The shape."""
        return self.shape

    def candidates(
        self, start: int, stop: int, key: Key, sampling: Sampling, total: int | None
    ) -> tuple[Tensor, Tensor]:
        """Points of the pieces, each in proportion to its measure, and which of them bound the whole."""
        u, lot = unit_points_and_lot(start, stop, self.shape.dim, key, sampling, "cpu", total)
        measures = torch.tensor([piece.measure for piece in self.chosen], dtype=torch.float64)
        edges = (measures.cumsum(0) / measures.sum())[:-1]
        number = torch.bucketize(lot, edges, right=True)
        points, normals = torch.empty_like(u), torch.empty_like(u)
        keep = torch.ones(len(u), dtype=torch.bool)
        for i, piece in enumerate(self.chosen):
            own = number == i
            points[own], drawn = piece.draw(u[own])
            normals[own] = drawn * piece.outward
            for shape in piece.first:
                keep[own] &= ~_is_surface(shape, points[own], normals[own])
        keep &= self.shape.bounds_at(points, normals)
        return torch.cat([points, normals], dim=1) if self.columns else points, keep

    def with_normals(self) -> Region:
        """The same points with ν."""
        return Boundary(self.shape, self.chosen, normals=True)


def _is_surface(shape: Shape, points: Tensor, normals: Tensor) -> Tensor:
    """Whether a shape ends at the points of a surface with normals ν."""
    step = shape.beside * normals
    return shape.contains(points + step) != shape.contains(points - step)
