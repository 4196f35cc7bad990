"""Balls and polygons.

Letters
    n        points
    d        coordinates
    c, r     centre and radius of a ball
    E        edges of a polygon; a_e its first vertex, l_e its length
    φ        distance function: 0 on the boundary, positive inside
    ν        outward unit normal
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sngd.checks import real, told
from sngd.geometry.pieces import Piece
from sngd.geometry.shape import Shape, axis_names, bounded

__all__ = ["Ball", "Polygon"]


class Ball(Shape):
    """A ball of any dimension around a named centre: Ball(x=0, y=0, radius=1) is a disk.

    Its interior is drawn by rejection from a cube, which serves up to about 12 dimensions.

    Args:
        radius: r > 0.
        centre: coordinate of the centre for each axis, in the order of `axes`.

    Raises:
        ValueError: no axis, a coordinate that is not finite, or a radius that is not positive.
    """

    def __init__(self, *, radius: float, **centre: float) -> None:
        if not centre:
            raise ValueError("Ball() needs a centre, e.g. Ball(x=0, y=0, radius=1)")
        for name, value in (*centre.items(), ("radius", radius)):
            if not real(value):
                raise ValueError(f"Ball {name}={told(value)} must be a finite number")
        if radius <= 0:
            raise ValueError(f"Ball radius={told(radius)} must be > 0")
        self.names, self.radius = tuple(centre), float(radius)
        self.centre = tuple(float(c) for c in centre.values())
        pairs = zip(self.names, self.centre, strict=True)
        self.bounds = tuple(bounded("Ball", n, (c - self.radius, c + self.radius)) for n, c in pairs)

    def __repr__(self) -> str:
        centre = ", ".join(f"{n}={c}" for n, c in zip(self.names, self.centre, strict=True))
        return f"Ball({centre}, radius={self.radius})"

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, d) lie in it, (n,) bool."""
        return (x - x.new_tensor(self.centre)).square().sum(1) <= self.radius**2

    def pieces(self) -> tuple[Piece, ...]:
        """The sphere; each end of an interval, for on a line u and the choice of a piece are correlated."""
        d = self.dim
        if d == 1:
            return tuple(Piece((self,), None, 1.0, partial(self._end, sign)) for sign in (-1.0, 1.0))
        # measure 2 π^{d/2} r^{d−1} / Γ(d/2)
        measure = 2 * math.pi ** (d / 2) * self.radius ** (d - 1) / math.gamma(d / 2)
        return (Piece((self,), None, measure, self._draw),)

    def _end(self, sign: float, u: Tensor) -> tuple[Tensor, Tensor]:
        normals = torch.full_like(u, sign)
        return u.new_tensor(self.centre) + self.radius * normals, normals

    def _draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        normals = _directions(u)
        return u.new_tensor(self.centre) + self.radius * normals, normals

    def distance(self, p: Any) -> Any:
        """φ = (r² − |x − c|²) / 2r at points: ∂φ/∂ν = −1 on the sphere, r/2 in the centre; see `Shape`."""
        squares = [(p[axis] - c) ** 2 for axis, c in zip(self.axes, self.centre, strict=True)]
        total = squares[0]
        for square in squares[1:]:
            total = total + square
        return (self.radius**2 - total) * (0.5 / self.radius)

    signed_distance = distance  # negative outside as it stands


def _directions(u: Tensor) -> Tensor:
    """Uniform unit vectors (n, d) out of uniform numbers u (n, d), d ≥ 2."""
    d = u.shape[1]
    angle = 2 * math.pi * u[:, 0]
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    if d == 2:
        return circle
    if d == 3:  # the height on a sphere is uniform (Archimedes)
        height = 2 * u[:, 1:2] - 1
        return torch.cat([(1 - height.square()).sqrt() * circle, height], dim=1)
    normal = torch.special.ndtri(u.clamp_min(2.0**-54))  # 0 would become −∞
    return normal / normal.norm(dim=1, keepdim=True)


class Polygon(Shape):
    """A simple polygon in the plane: Polygon([(0, 0), (2, 0), (1, 1)]).

    Args:
        vertices: three or more (x, y) in order, either way round; the last is joined to the first.
        names: of the two axes.

    Raises:
        ValueError: too few vertices, one that is no pair of finite numbers or repeats, or edges that cross.
    """

    def __init__(self, vertices: Sequence[Sequence[float]], names: tuple[str, str] = ("x", "y")) -> None:
        self.names = axis_names("Polygon", names, 2)
        try:
            given = [tuple(vertex) for vertex in vertices]
        except TypeError as error:
            raise ValueError(
                f"Polygon vertices={told(vertices)} must be pairs of numbers: {error}"
            ) from error
        for i, pair in enumerate(given):
            if len(pair) != 2 or not all(real(_item(c)) for c in pair):
                raise ValueError(f"Polygon vertices[{i}]={told(pair)} must be two finite numbers")
        pairs = [(float(x), float(y)) for x, y in given]
        if len(pairs) < 3:
            raise ValueError(f"Polygon needs at least 3 vertices, got {len(pairs)}")
        if len(set(pairs)) < len(pairs):
            twice = next(pair for pair in pairs if pairs.count(pair) > 1)
            raise ValueError(
                f"Polygon vertex {twice} appears twice; the last is joined to the first by itself"
            )
        corners = torch.tensor(pairs, dtype=torch.float64)
        if _area(corners) < 0:
            corners = corners.flip(0)
        crossing = _crossing(corners)
        if crossing or not 0 < _area(corners) < math.inf:
            raise ValueError(
                f"Polygon edges must not cross or touch: {crossing}"
                if crossing
                else "Polygon has no area that float64 can hold"
            )
        self.vertices = corners  # (E, 2), counter-clockwise
        ends = zip(self.names, corners.amin(0).tolist(), corners.amax(0).tolist(), strict=True)
        self.bounds = tuple(bounded("Polygon", name, (low, high)) for name, low, high in ends)

    def __repr__(self) -> str:
        corners = [tuple(v) for v in self.vertices.tolist()]
        return f"Polygon({corners if len(corners) < 7 else f'{len(corners)} vertices'}, names={self.names})"

    def _edges(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First vertices a (E, 2), unit vectors along the edges (E, 2), lengths l (E,), ν (E, 2)."""
        along = self.vertices.roll(-1, 0) - self.vertices
        lengths = along.norm(dim=1)
        along = along / lengths[:, None]
        return self.vertices, along, lengths, torch.stack([along[:, 1], -along[:, 0]], dim=1)

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, 2) lie in it, (n,) bool: a ray meets an odd number of edges."""
        a = self.vertices.to(x)
        b = a.roll(-1, 0)
        above = a[:, 1] > x[:, 1:], b[:, 1] > x[:, 1:]  # (n, E)
        rise = torch.where(b[:, 1] == a[:, 1], 1.0, b[:, 1] - a[:, 1])
        crossing = a[:, 0] + (x[:, 1:] - a[:, 1]) * (b[:, 0] - a[:, 0]) / rise
        inside = ((above[0] != above[1]) & (x[:, :1] < crossing)).sum(1) % 2 == 1
        return inside | self._on_edge(x)

    def _on_edge(self, x: Tensor) -> Tensor:
        """Which points lie on an edge, to rounding: a ray tells it for some edges, and not for others."""
        a, along, lengths, normals = (t.to(x) for t in self._edges())
        offset = x[:, None] - a  # (n, E, 2)
        far = (offset * normals).sum(2).abs()
        at = (offset * along).sum(2)
        slack = 8 * torch.finfo(x.dtype).eps * float(self.vertices.abs().max())
        return ((far <= slack) & (at >= -slack) & (at <= lengths + slack)).any(1)

    def pieces(self) -> tuple[Piece, ...]:
        """All edges as one."""
        return (Piece((self,), None, float(self._edges()[2].sum()), self._draw),)

    def _draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        a, along, lengths, normals = self._edges()
        ends = lengths.cumsum(0)
        place = u[:, 0] * ends[-1]
        edge = torch.bucketize(place, ends[:-1], right=True)
        rest = place - (ends - lengths)[edge]
        return a[edge] + rest[:, None] * along[edge], normals[edge]

    def distance(self, p: Any) -> Any:
        """φ at points, 1/φ = Σ_e 1/φ_e over the edges; ∂φ/∂ν = −1 on edges; see `Shape`.

        φ_e = √(f² + (√(s² + f⁴) − s)²/4) vanishes on edge e alone, with f the distance to its line and
        s = (l²/4 − |x − midpoint|²)/l, positive in a circle around it (Sukumar and Srivastava, Comput.
        Methods Appl. Mech. Engrg. 389, 2022, section 3).
        """
        x, y = (p[axis] for axis in self.axes)
        middles = (self.vertices + self.vertices.roll(-1, 0)) / 2
        _, _, lengths, normals = self._edges()
        total: Any = None
        for (mx, my), length, (nx, ny) in zip(
            middles.tolist(), lengths.tolist(), normals.tolist(), strict=True
        ):
            dx, dy = x - mx, y - my
            f = dx * nx + dy * ny
            s = (length**2 / 4 - dx * dx - dy * dy) * (1 / length)
            f2 = f * f
            beyond = ((s * s + f2 * f2) ** 0.5 - s) * 0.5
            inverse = (f2 + beyond * beyond) ** -0.5
            total = inverse if total is None else total + inverse
        return 1.0 / total


def _item(value: Any) -> Any:
    """The number in a tensor of one."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _area(corners: Tensor) -> float:
    """Signed area by the shoelace formula."""
    after = corners.roll(-1, 0)
    return float((corners[:, 0] * after[:, 1] - corners[:, 1] * after[:, 0]).sum()) / 2


def _crossing(corners: Tensor) -> str | None:
    """Two edges that meet other than in a common vertex, in words."""
    ends = [tuple(v) for v in corners.tolist()]
    edges = list(zip(ends, ends[1:] + ends[:1], strict=True))

    def side(a: Any, b: Any, c: Any) -> int:
        turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        return (turn > 0) - (turn < 0)

    def between(a: Any, b: Any, c: Any) -> bool:  # c on the line through a and b
        return all(min(p, q) <= r <= max(p, q) for p, q, r in zip(a, b, c, strict=True))

    for i, (a, b) in enumerate(edges):
        for j in range(i + 1, len(edges)):
            c, d = edges[j]
            sides = side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)
            if j == i + 1 or (i == 0 and j == len(edges) - 1):  # neighbours share a vertex: no way back
                shared, far, other = (b, a, d) if j == i + 1 else (a, b, c)
                forward = sum((p - s) * (q - s) for p, q, s in zip(far, other, shared, strict=True))
                meets = side(far, shared, other) == 0 and forward > 0
            else:
                meets = sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0
                for s, triple in zip(sides, ((a, b, c), (a, b, d), (c, d, a), (c, d, b)), strict=True):
                    meets = meets or (s == 0 and between(*triple))
            if meets:
                return f"{a}–{b} and {c}–{d}"
    return None
