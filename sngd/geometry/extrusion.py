"""A shape over an interval of time.

Letters
    n        points
    d        coordinates, the time being the last
    ν        outward unit normal
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sngd.geometry.pieces import Piece
from sngd.geometry.shape import Shape, bounded

__all__ = ["Extrusion"]


class Extrusion(Shape):
    """A shape at every time of an interval: disk.over(t=(0, 1)).

    Args:
        space: the shape.
        time: one axis with its interval, t=(0, 1).

    Raises:
        ValueError: not one axis, one that the shape has, or no interval.
    """

    def __init__(self, space: Shape, **time: tuple[float, float]) -> None:
        if len(time) != 1:
            raise ValueError(f"over() needs one axis, e.g. shape.over(t=(0, 1)), got {tuple(time) or 'none'}")
        ((name, pair),) = time.items()
        if name in space.names:
            raise ValueError(f"over({name}={pair}): {space!r} has an axis {name!r} already")
        self.space, self.names = space, (*space.names, name)
        self.bounds = (*space.bounds, bounded("over()", name, pair))
        self.periodic, self.even = space.periodic, space.even

    def __repr__(self) -> str:
        return f"{self.space!r}.over({self.names[-1]}={self.bounds[-1]})"

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, d) lie in it, (n,) bool."""
        low, high = self.bounds[-1]
        return self.space.contains(x[:, :-1]) & (x[:, -1] >= low) & (x[:, -1] <= high)

    def pieces(self) -> tuple[Piece, ...]:
        """The shape's at all times; the ends of time are faces, no boundary."""
        name, interval = self.names[-1], self.bounds[-1]
        return tuple(
            replace(
                piece,
                owners=(*piece.owners, self),
                first=tuple(Extrusion(shape, **{name: interval}) for shape in piece.first),
                draw=partial(self._draw, piece),
            )
            for piece in self.space.pieces()
        )

    def _draw(self, piece: Piece, u: Tensor) -> tuple[Tensor, Tensor]:
        points, normals = piece.draw(u[:, :-1])
        low, high = self.bounds[-1]
        t = low + (high - low) * u[:, -1:]
        return torch.cat([points, t], dim=1), torch.cat([normals, torch.zeros_like(t)], dim=1)

    def bounds_at(self, points: Tensor, normals: Tensor) -> Tensor:
        """Which points are on the shape's boundary, (n,) bool."""
        return self.space.bounds_at(points[:, :-1], normals[:, :-1])

    def distance(self, p: Any, *of: Any, **ends: float) -> Any:
        """φ of the lateral boundary at points, times the time from the ends given: distance(p, t=0).

        Args:
            p: the `Points`.
            of: parts of the shape, as its own `distance` takes them.
            ends: the time axis at one of its ends, where φ vanishes too.

        Raises:
            ValueError: another axis, or a time that is no end.
        """
        result = self.space.distance(p, *of)
        low, high = self.bounds[-1]
        for name, value in ends.items():
            if name != self.names[-1] or value not in (low, high):
                raise ValueError(
                    f"distance(p, {name}={value}) must name an end of time, {self.names[-1]}={low} or {high}"
                )
            t = p[self.axes[-1]]
            result = result * (t - low if value == low else high - t)
        return result

    def signed_distance(self, p: Any) -> Any:
        """φ of the lateral boundary, negative outside of the shape."""
        return self.space.signed_distance(p)
