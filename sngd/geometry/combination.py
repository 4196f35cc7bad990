"""Unions, intersections and differences of shapes.

A point of a part's boundary bounds the whole if the whole is on one side of it only: just inside along the
normal, and not just outside. Distance functions are joined by the R-functions

    a ∧ b = a + b − √(a² + b²)      positive where both are
    a ∨ b = a + b + √(a² + b²)      positive where one is

which keep ∂φ/∂ν = −1 and are smooth but where both parts vanish: in corners (Rvachev 1982; Shapiro,
"Semi-analytic geometry with R-functions", Acta Numerica 16, 2007; for networks Sukumar and Srivastava,
"Exact imposition of boundary conditions with distance functions in physics-informed deep neural networks",
Comput. Methods Appl. Mech. Engrg. 389, 2022).

Letters
    φ        distance function: 0 on the boundary, positive inside
    ν        outward unit normal
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sngd.geometry.pieces import Piece, owned
from sngd.geometry.shape import Bounds, Shape

__all__ = ["Combination", "Difference", "Intersection", "Union", "both", "either"]


def both(a: Any, b: Any) -> Any:
    """R-conjunction a ∧ b of two fields."""
    return a + b - (a * a + b * b) ** 0.5


def either(a: Any, b: Any) -> Any:
    """R-disjunction a ∨ b of two fields."""
    return a + b + (a * a + b * b) ** 0.5


class Combination(Shape):
    """Two shapes as one.

    Args:
        a: a shape.
        b: a shape with the same axes.

    Raises:
        ValueError: b is no shape, or the axes differ.
    """

    sign = ""

    def __init__(self, a: Shape, b: Shape) -> None:
        if not isinstance(b, Shape):
            raise ValueError(f"{a!r} {self.sign} {b!r}: the second one must be a shape too")
        if a.names != b.names:
            raise ValueError(f"{a!r} {self.sign} {b!r}: their axes {a.names} and {b.names} must be the same")
        self.a, self.b, self.names = a, b, a.names
        self.bounds = self._bounds()
        self.periodic, self.even = self._symmetries()

    def __repr__(self) -> str:
        return f"({self.a!r} {self.sign} {self.b!r})"

    def _bounds(self) -> Bounds:
        raise NotImplementedError

    def _symmetries(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Axes that stay periodic, and symmetric about the middle."""
        for shape in (self.a, self.b):
            for word, axes in (("periodic", shape.periodic), ("even", shape.even)):
                if axes:
                    raise ValueError(
                        f"{self!r}: {word} axes are those of one box; only holes may be cut out of it by −"
                    )
        return (), ()

    def bounds_at(self, points: Tensor, normals: Tensor) -> Tensor:
        """Whether the whole is on the inner side of points of parts' boundaries, and not on the outer one."""
        step = self.beside * normals
        return self.contains(points - step) & ~self.contains(points + step)

    def pieces(self) -> tuple[Piece, ...]:
        """Those of both; where their boundaries coincide, the first one's count."""
        first = [owned(piece, self) for piece in self.a.pieces()]
        second = [owned(piece, self, first=(*piece.first, self.a)) for piece in self.b.pieces()]
        return (*first, *second)

    def distance(self, p: Any, *of: Shape) -> Any:
        """φ at points, joined out of the parts' by R-functions; its derivatives exist off corners.

        Beside corners higher derivatives are large. Where parts do not touch, as a hole in a plate, the
        product plate.distance(p) * shape.distance(p, hole) is smoother, but ∂φ/∂ν is not −1.

        Args:
            p: the `Points`.
            of: the parts whose boundaries φ vanishes on, e.g. `plate.distance(p, hole)`; all when absent.

        Raises:
            ValueError: the shape is not cut out of these parts; a union has none but itself.
        """
        if not of:
            return self.signed_distance(p)
        parts = _parts(self, 1.0)
        chosen = []
        for shape in of:
            signs = [sign for part, sign in parts if part is shape]
            if not signs:
                raise ValueError(f"distance(p, {shape!r}): {self!r} is not cut out by this shape")
            chosen.append(shape.signed_distance(p) * signs[0])
        result = chosen[0]
        for field in chosen[1:]:
            result = both(result, field)
        return result


def _parts(shape: Shape, sign: float) -> list[tuple[Shape, float]]:
    """Shapes whose insides (1) or outsides (−1) a shape's inside or outside is the intersection of."""
    parts = [(shape, sign)]
    if isinstance(shape, Difference) and sign > 0:
        parts += _parts(shape.a, 1.0) + _parts(shape.b, -1.0)
    elif isinstance(shape, Intersection if sign > 0 else Union):
        parts += _parts(shape.a, sign) + _parts(shape.b, sign)
    return parts


class Union(Combination):
    """a | b: what lies in one of two shapes, or both."""

    sign = "|"

    def _bounds(self) -> Bounds:
        pairs = zip(self.a.bounds, self.b.bounds, strict=True)
        return tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, d) lie in it, (n,) bool."""
        return self.a.contains(x) | self.b.contains(x)

    def signed_distance(self, p: Any) -> Any:
        """φ_a ∨ φ_b."""
        return either(self.a.signed_distance(p), self.b.signed_distance(p))


class Intersection(Combination):
    """a & b: what lies in both of two shapes."""

    sign = "&"

    def _bounds(self) -> Bounds:
        pairs = zip(self.a.bounds, self.b.bounds, strict=True)
        bounds = tuple((max(a[0], b[0]), min(a[1], b[1])) for a, b in pairs)
        if any(low >= high for low, high in bounds):
            raise ValueError(f"{self!r} is empty: the shapes lie apart")
        return bounds

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, d) lie in it, (n,) bool."""
        return self.a.contains(x) & self.b.contains(x)

    def signed_distance(self, p: Any) -> Any:
        """φ_a ∧ φ_b."""
        return both(self.a.signed_distance(p), self.b.signed_distance(p))


class Difference(Combination):
    """a − b: what lies in the first of two shapes, and not in the second."""

    sign = "-"

    def _bounds(self) -> Bounds:
        return self.a.bounds

    def _symmetries(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self.b.periodic or self.b.even:
            raise ValueError(f"{self!r}: a hole has no periodic or even axes; declare them of the first")
        return self.a.periodic, self.a.even

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, d) lie in it, (n,) bool."""
        return self.a.contains(x) & ~self.b.contains(x)

    def pieces(self) -> tuple[Piece, ...]:
        """Those of both; normals on the second's boundary point into it."""
        first = [owned(piece, self) for piece in self.a.pieces()]
        second = [
            owned(piece, self, first=(*piece.first, self.a), outward=-piece.outward)
            for piece in self.b.pieces()
        ]
        return (*first, *second)

    def signed_distance(self, p: Any) -> Any:
        """φ_a ∧ −φ_b."""
        return both(self.a.signed_distance(p), -self.b.signed_distance(p))
