"""Boxes, and the points that are drawn from them.

A collocation point is a function of (seed, epoch, condition, global index) alone: no generator state,
no dependence on the number of ranks, the device or what was drawn before. A rank asks for the indices
it owns and gets exactly those.

Letters
    d        coordinates
    i        global index of a point in its condition
    u        point of the unit cube [0, 1)^d, mapped to the region
    φ        distance function: 0 on the boundary, positive inside
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sngd.checks import told
from sngd.geometry.combination import both
from sngd.geometry.pieces import Piece, end_normal
from sngd.geometry.regions import Axis, Region, normal_columns
from sngd.geometry.shape import Shape, bounded
from sngd.sampling import Sampling, fold, share, unit_points, unit_points_and_lot

__all__ = ["Axis", "Box", "BoxRegion", "Region", "Sampling", "Shape", "fold", "share", "unit_points"]


@dataclass(frozen=True, repr=False)
class BoxRegion(Region):
    """A union of faces of a box (the interior is one face).

    Args:
        owner: the box.
        faces: per face the fixed coordinates, {axis number: value}; an empty mapping is the interior.
        columns: names of the normal's components, when they are given.
    """

    owner: Box
    faces: tuple[Mapping[int, float], ...]
    columns: tuple[str, ...] = ()

    def __repr__(self) -> str:
        names = self.owner.names
        held = [", ".join(f"{names[i]}={v}" for i, v in face.items()) for face in self.faces]
        return (
            f"{self.owner!r}.interior" if held == [""] else f"the faces {' | '.join(held)} of {self.owner!r}"
        )

    @property
    def domain(self) -> Shape:
        """The box."""
        return self.owner

    @property
    def measure(self) -> float:
        """Sum over the faces of the lengths of their free axes, multiplied."""
        return sum(self._measure(face) for face in self.faces)

    def sample(
        self,
        start: int,
        stop: int,
        key: tuple[int, ...],
        sampling: Sampling = "kronecker",
        device: torch.device | str = "cpu",
        total: int | None = None,
    ) -> Tensor:
        """Points start … stop−1 of the set named by `key`; see `Region.sample`."""
        dim = self.owner.dim
        u, lot = unit_points_and_lot(start, stop, dim, key, sampling, device, total)
        low, high = torch.tensor(self.owner.bounds, dtype=torch.float64, device=device).unbind(1)
        points = low + (high - low) * u
        areas = torch.tensor([self._measure(face) for face in self.faces], dtype=torch.float64)
        edges = (areas.cumsum(0) / areas.sum())[:-1].to(device)
        chosen = torch.bucketize(lot, edges, right=True)
        held = [[face.get(axis, math.nan) for axis in range(dim)] for face in self.faces]
        fixed = torch.tensor(held, dtype=torch.float64, device=device)[chosen]
        points = torch.where(fixed.isnan(), points, fixed)
        if not self.columns:
            return points
        normals = torch.tensor([end_normal(self.owner, face) for face in self.faces], dtype=torch.float64)
        return torch.cat([points, normals.to(device)[chosen]], dim=1)

    def _measure(self, face: Mapping[int, float]) -> float:
        free = (b for axis, b in enumerate(self.owner.bounds) if axis not in face)
        return math.prod(high - low for low, high in free)

    def with_normals(self) -> Region:
        """The same points with ν = ±e of the held axis.

        Raises:
            ValueError: a face is no end of one axis.
        """
        if any(end_normal(self.owner, face) is None for face in self.faces):
            return super().with_normals()
        return replace(self, columns=normal_columns(self.owner.names))


class Box(Shape):
    """An axis-aligned box with named axes: Box(x=(-1, 1), t=(0, 1), periodic=("x",)).

    Args:
        periodic: names of the axes along which every solution repeats; networks embed them so that
            periodicity holds exactly, to every order.
        even: names of the axes in which every solution is symmetric about the middle of the box.
        bounds: name=(low, high) for each axis, in the order of `axes`.

    Raises:
        ValueError: no axis, low ≥ high, a bound that is not finite, or a periodic or even name that is
            no axis.
    """

    def __init__(
        self,
        *,
        periodic: tuple[str, ...] | str = (),
        even: tuple[str, ...] | str = (),
        **bounds: tuple[float, float],
    ) -> None:
        if not bounds:
            raise ValueError("Box() needs at least one axis, e.g. Box(x=(0, 1), t=(0, 1))")
        self.names = tuple(bounds)
        self.bounds = tuple(bounded("Box", name, pair) for name, pair in bounds.items())
        self.periodic = self._indices(periodic)
        self.even = self._indices(even)

    def __repr__(self) -> str:
        pairs = ", ".join(f"{n}={b}" for n, b in zip(self.names, self.bounds, strict=True))
        even = f", even={tuple(self.names[i] for i in self.even)}" if self.even else ""
        return f"Box({pairs}, periodic={tuple(self.names[i] for i in self.periodic)}{even})"

    def _indices(self, names: tuple[str, ...] | str) -> tuple[int, ...]:
        names = (names,) if isinstance(names, str) else names
        if not isinstance(names, (tuple, list)):
            raise ValueError(
                f'Box periodic or even={told(names)} must be a tuple of names of axes, e.g. ("x",)'
            )
        return tuple(self.axis_index(name) for name in names)

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, d) lie in it, (n,) bool."""
        low, high = x.new_tensor(self.bounds).unbind(1)
        return ((x >= low) & (x <= high)).all(1)

    @property
    def interior(self) -> Region:
        """The whole box."""
        return BoxRegion(self, ({},))

    def face(self, **fixed: float) -> Region:
        """Points with some coordinates held: domain.face(t=0).

        Raises:
            ValueError: no coordinate, an axis that does not exist, or a value outside of the box.
        """
        return BoxRegion(self, (self.held(fixed),))

    def boundary(self, *of: Any) -> Region:
        """Both ends of the named axes (all that are not periodic when none is named).

        Faces are hit in proportion to their measure.

        Raises:
            ValueError: an axis that does not exist or is periodic, or no axis has ends.
        """
        return BoxRegion(self, tuple({i: end} for i in self._ended(of) for end in self.bounds[i]))

    def _ended(self, names: tuple[Any, ...]) -> list[int]:
        """Numbers of the named axes, of all that are not periodic when none is named."""
        indices = [self.axis_index(n) for n in names] or [
            i for i in range(self.dim) if i not in self.periodic
        ]
        for i in indices:
            if i in self.periodic:
                raise ValueError(f"axis {self.names[i]!r} is periodic and has no boundary")
        if not indices:
            raise ValueError("every axis is periodic: this box has no boundary")
        return indices

    def pieces(self) -> tuple[Piece, ...]:
        """The faces, each labelled by its axis."""
        ends = [(i, end) for i in range(self.dim) if i not in self.periodic for end in self.bounds[i]]
        return tuple(self._piece(axis, end) for axis, end in ends)

    def _piece(self, axis: int, end: float) -> Piece:
        measure = math.prod(high - low for i, (low, high) in enumerate(self.bounds) if i != axis)
        return Piece((self,), self.names[axis], measure, partial(self._draw, axis, end))

    def _draw(self, axis: int, end: float, u: Tensor) -> tuple[Tensor, Tensor]:
        low, high = u.new_tensor(self.bounds).unbind(1)
        points = low + (high - low) * u
        points[:, axis] = end
        normal = end_normal(self, {axis: end})
        assert normal is not None
        return points, u.new_tensor(normal).expand_as(points)

    def distance(self, p: Any, *of: str, **faces: float) -> Any:
        """φ = Π_i (x_i − a_i)(b_i − x_i)/(b_i − a_i) at points, a field that is smooth everywhere.

        Args:
            p: the `Points`.
            of: names of the axes whose ends φ vanishes on; all that are not periodic when no axis and no face
                is named.
            faces: single faces that it vanishes on, e.g. distance(p, x=0), as factors x − a or b − x.

        Returns:
            A `Jet`. With one axis or face ∂φ/∂ν = −1 there; with more it has the length of the other factors.

        Raises:
            ValueError: an axis that does not exist or is periodic, or a face that is no end of its axis.
        """
        factors = [] if faces and not of else [self._between(p, i) for i in self._ended(of)]
        for name, value in faces.items():
            (i,) = self._ended((name,))
            low, high = self.bounds[i]
            if value not in (low, high):
                raise ValueError(f"distance(p, {name}={value}) must name an end of {name}: {low} or {high}")
            factors.append(p[self.axes[i]] - low if value == low else high - p[self.axes[i]])
        result = factors[0]
        for factor in factors[1:]:
            result = result * factor
        return result

    def signed_distance(self, p: Any) -> Any:
        """φ of all axes' ends, joined by R-functions: negative outside, ∂φ/∂ν = −1 but in corners."""
        indices = self._ended(())
        result = self._between(p, indices[0])
        for i in indices[1:]:
            result = both(result, self._between(p, i))
        return result

    def _between(self, p: Any, axis: int) -> Any:
        low, high = self.bounds[axis]
        x = p[self.axes[axis]]
        return (x - low) * (high - x) * (1 / (high - low))
