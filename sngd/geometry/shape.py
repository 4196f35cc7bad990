"""What all domains have in common: axes, interior, boundary, faces, combinations.

Letters
    n        points
    d        coordinates
    ν        outward unit normal, (n, d)
    φ        distance function: 0 on the boundary, positive inside
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sngd.checks import one_of, real, told
from sngd.geometry.pieces import Boundary, Piece, Slice
from sngd.geometry.regions import Axis, Region

if TYPE_CHECKING:
    from sngd.geometry.combination import Combination
    from sngd.geometry.extrusion import Extrusion

__all__ = ["Bounds", "Shape", "axis_names", "bounded"]

Bounds = tuple[tuple[float, float], ...]

# Whether a place is inside is asked so far beside a surface, in units of the bounding box's diagonal.
_BESIDE = 1e-6
# Shortest axis: its square, and the inverse of that, are numbers.
_LEAST = 1e-150


class Shape:
    """A bounded domain with named axes; what `Problem` takes. Base of boxes, balls and polygons.

    Shapes of the same axes are combined by | (union), & (intersection) and − (difference).

    Attributes:
        names: of the axes.
        bounds: (low, high) of each axis: a bounding box.
        periodic: numbers of the axes along which every solution repeats.
        even: numbers of the axes in which every solution is symmetric about the middle of the bounds.
    """

    names: tuple[str, ...]
    bounds: Bounds
    periodic: tuple[int, ...] = ()
    even: tuple[int, ...] = ()

    @property
    def dim(self) -> int:
        """Number of coordinates d."""
        return len(self.names)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes in order, to be unpacked: X, T = domain.axes."""
        return tuple(Axis(i, name) for i, name in enumerate(self.names))

    def axis_index(self, name: str) -> int:
        """Number of an axis.

        Raises:
            ValueError: there is none of this name.
        """
        if not one_of(name, self.names):
            kind = type(self).__name__.lower()
            raise ValueError(f"axis {told(name)} does not exist: this {kind} has the axes {self.names}")
        return self.names.index(name)

    # -- what a shape must say ----------------------------------------------------------------

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, d) lie inside or on the boundary, (n,) bool."""
        raise NotImplementedError

    def pieces(self) -> tuple[Piece, ...]:
        """Parts whose union holds the boundary."""
        raise NotImplementedError

    def bounds_at(self, points: Tensor, normals: Tensor) -> Tensor:
        """Which points of pieces, with their ν, are on the boundary of the whole, (n,) bool."""
        return torch.ones(len(points), dtype=torch.bool)

    def distance(self, p: Any) -> Any:
        """φ at points, a field that is smooth inside: 0 on the boundary, positive inside, ∂φ/∂ν = −1.

        For hard constraints: u = g + φ N equals g on the boundary whatever the network N.

        Args:
            p: the `Points`.

        Returns:
            A `Jet`, whose derivatives exist off the boundary.
        """
        raise NotImplementedError

    def signed_distance(self, p: Any) -> Any:
        """φ that is also negative outside, a smooth field off corners."""
        inside = self.contains(p.values[:, : self.dim])
        return self.distance(p) * torch.where(inside, 1.0, -1.0).to(p.values)

    # -- what follows from it -----------------------------------------------------------------

    @property
    def interior(self) -> Region:
        """The whole shape, uniform in volume."""
        return Slice(self, {})

    def face(self, **fixed: float) -> Region:
        """Points of the shape with some coordinates held: domain.face(t=0).

        Raises:
            ValueError: no coordinate, an axis that does not exist, or a value outside of the bounds.
        """
        return Slice(self, self.held(fixed))

    def held(self, fixed: Mapping[str, float]) -> dict[int, float]:
        """The coordinates that a face holds, by number; see `face`."""
        if not fixed:
            raise ValueError("face() needs a coordinate to hold, e.g. domain.face(t=0)")
        for name, value in fixed.items():
            low, high = self.bounds[self.axis_index(name)]
            if not (real(value) and low <= value <= high):
                raise ValueError(f"face({name}={told(value)}) lies outside of {name} in [{low}, {high}]")
        return {self.axis_index(n): float(v) for n, v in fixed.items()}

    def boundary(self, *of: Any) -> Region:
        """The boundary, or the part of it that bounds some of the shapes that the domain is made of.

        Args:
            of: shapes, e.g. `plate.boundary(hole)`, or names of axes for the faces of boxes along them.

        Raises:
            ValueError: a shape that the domain is not made of, or an axis without such faces.
        """
        pieces = self.pieces()
        for what in of:
            if not any(piece.belongs_to(what) for piece in pieces):
                labels = sorted({piece.label for piece in pieces if piece.label})
                raise ValueError(
                    f"boundary({what!r}): {self!r} has no such part; name a shape that it is made of"
                    + (f", or an axis with faces of a box, {', '.join(labels)}" if labels else "")
                )
        chosen = [piece for piece in pieces if not of or any(piece.belongs_to(what) for what in of)]
        return Boundary(self, tuple(chosen))

    def near(self, x: Tensor) -> Tensor:
        """Which of the points (n, d) lie inside or within 1e-6 of the diagonal of it, (n,) bool."""
        result, step = self.contains(x), self.beside
        for i in range(self.dim):
            for sign in (1.0, -1.0):
                moved = x.clone()
                moved[:, i] += sign * step
                result |= self.contains(moved)
        return result

    @property
    def beside(self) -> float:
        """How far beside a surface inside and outside are told apart."""
        return _BESIDE * math.dist(*zip(*self.bounds, strict=True))

    def over(self, **time: tuple[float, float]) -> Extrusion:
        """The shape at every time of an interval: disk.over(t=(0, 1)), with the axes x, y, t.

        Its `boundary()` is the lateral one, the shape's boundary at all times; `face(t=0)` is its start.

        Raises:
            ValueError: not one axis, one that the shape has, or no interval.
        """
        from sngd.geometry.extrusion import Extrusion

        return Extrusion(self, **time)

    def __or__(self, other: Shape) -> Combination:
        from sngd.geometry.combination import Union

        return Union(self, other)

    def __and__(self, other: Shape) -> Combination:
        from sngd.geometry.combination import Intersection

        return Intersection(self, other)

    def __sub__(self, other: Shape) -> Combination:
        from sngd.geometry.combination import Difference

        return Difference(self, other)


def axis_names(where: str, names: Any, count: int) -> tuple[str, ...]:
    """Names of axes, all different.

    Raises:
        ValueError: they are not.
    """
    given = tuple(names) if isinstance(names, (tuple, list)) else ()
    if not (
        len(given) == count and all(isinstance(n, str) and n for n in given) and len(set(given)) == count
    ):
        words = {2: "two", 3: "three"}.get(count, str(count))
        raise ValueError(f"{where} names={told(names)} must be {words} different names")
    return given


def bounded(where: str, name: str, pair: Any) -> tuple[float, float]:
    """The bounds of an axis as two numbers.

    Raises:
        ValueError: they are no pair, not finite or not low < high.
    """
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise ValueError(f"{where} axis {name}={told(pair)} must be a pair (low, high)")
    if not (all(real(v) for v in pair) and pair[0] < pair[1]):
        raise ValueError(f"{where} axis {name}={told(pair)} must be finite with low < high")
    low, high = float(pair[0]), float(pair[1])
    if not _LEAST < high - low < math.inf:
        raise ValueError(f"{where} axis {name}={told(pair)} is too short or too long for float64")
    return low, high
