"""Domains and keyed point sets.

A collocation point is a function of (seed, epoch, condition, global index) alone: no generator state,
no dependence on the number of ranks, the device or what was drawn before. A rank asks for the indices
it owns and gets exactly those.

Letters
    d        coordinates
    i        global index of a point in its condition
    u        point of the unit cube [0, 1)^d, mapped to the region
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Axis", "Box", "Region", "Sampling", "share"]

Sampling = Literal["kronecker", "uniform"]


@dataclass(frozen=True)
class Axis:
    """One named coordinate of a domain; what `d(u, axis)` and `p[axis]` take."""

    index: int
    name: str


@dataclass(frozen=True)
class Region:
    """Where a condition draws its points: a union of faces of a box (the interior is one face).

    Args:
        box: the domain.
        faces: per face the fixed coordinates, {axis number: value}; an empty mapping is the interior.
    """

    box: Box
    faces: tuple[Mapping[int, float], ...]
    columns: tuple[str, ...] = ()

    @property
    def domain(self) -> Box:
        """The box."""
        return self.box

    def with_normals(self) -> Region:
        """The region with components of the outward unit normal beside the coordinates."""
        raise ValueError("normals of boxes are not there yet")

    def sample(
        self,
        start: int,
        stop: int,
        key: tuple[int, ...],
        sampling: Sampling = "kronecker",
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Points start … stop−1 of the set named by `key`.

        Args:
            start: first global index.
            stop: one past the last global index.
            key: integers that name the set: (seed, epoch, condition).
            sampling: "kronecker", a randomly shifted Kronecker sequence (low discrepancy), or "uniform",
                independent uniform points.
            device: where the points are made; their values do not depend on it.

        Returns:
            (stop − start, d) float64.
        """
        dim = self.box.dim
        u = unit_points(start, stop, dim, key, sampling, device)
        low = torch.tensor([b[0] for b in self.box.bounds], dtype=torch.float64, device=device)
        high = torch.tensor([b[1] for b in self.box.bounds], dtype=torch.float64, device=device)
        points = low + (high - low) * u[:, :dim]
        areas = torch.tensor([self._measure(face) for face in self.faces], dtype=torch.float64)
        edges = (areas.cumsum(0) / areas.sum())[:-1].to(device)
        lot = unit_points(start, stop, 1, (*key, 1), sampling, device)[:, 0]
        chosen = torch.bucketize(lot, edges, right=True)
        held = [[face.get(axis, math.nan) for axis in range(dim)] for face in self.faces]
        fixed = torch.tensor(held, dtype=torch.float64, device=device)[chosen]
        return torch.where(fixed.isnan(), points, fixed)

    def _measure(self, face: Mapping[int, float]) -> float:
        free = (b for axis, b in enumerate(self.box.bounds) if axis not in face)
        return math.prod(high - low for low, high in free)


class Box:
    """An axis-aligned box with named axes: Box(x=(-1, 1), t=(0, 1), periodic=("x",)).

    Args:
        periodic: names of the axes along which every solution repeats; networks embed them so that
            periodicity holds exactly, to every order.
        bounds: name=(low, high) for each axis, in the order of `axes`.

    Raises:
        ValueError: no axis, low ≥ high, a bound that is not finite, or a periodic name that is no axis.
    """

    def __init__(self, *, periodic: tuple[str, ...] | str = (), **bounds: tuple[float, float]) -> None:
        if not bounds:
            raise ValueError("Box() needs at least one axis, e.g. Box(x=(0, 1), t=(0, 1))")
        for name, pair in bounds.items():
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
                raise ValueError(f"Box axis {name}={pair!r} must be a pair (low, high)")
            if not (all(math.isfinite(v) for v in pair) and pair[0] < pair[1]):
                raise ValueError(f"Box axis {name}={pair!r} must be finite with low < high")
        self.names = tuple(bounds)
        self.bounds = tuple((float(low), float(high)) for low, high in bounds.values())
        names = (periodic,) if isinstance(periodic, str) else tuple(periodic)
        self.periodic = tuple(self._index(name) for name in names)

    def __repr__(self) -> str:
        pairs = ", ".join(f"{n}={b}" for n, b in zip(self.names, self.bounds, strict=True))
        periodic = tuple(self.names[i] for i in self.periodic)
        return f"Box({pairs}, periodic={periodic})"

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"axis {name!r} does not exist: this box has the axes {self.names}")
        return self.names.index(name)

    @property
    def dim(self) -> int:
        """Number of coordinates d."""
        return len(self.names)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes in order, to be unpacked: X, T = domain.axes."""
        return tuple(Axis(i, name) for i, name in enumerate(self.names))

    @property
    def interior(self) -> Region:
        """The whole box."""
        return Region(self, ({},))

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points x (n, d) lie in the box, its faces included, (n,) bool."""
        low, high = torch.tensor(self.bounds, dtype=x.dtype, device=x.device).T
        return ((x >= low) & (x <= high)).all(dim=1)

    def face(self, **fixed: float) -> Region:
        """Points with some coordinates held: domain.face(t=0).

        Raises:
            ValueError: no coordinate, an axis that does not exist, or a value outside of the box.
        """
        if not fixed:
            raise ValueError("face() needs a coordinate to hold, e.g. domain.face(t=0)")
        for name, value in fixed.items():
            low, high = self.bounds[self._index(name)]
            if not low <= value <= high:
                raise ValueError(f"face({name}={value}) lies outside of {name} in [{low}, {high}]")
        return Region(self, ({self._index(n): float(v) for n, v in fixed.items()},))

    def boundary(self, *names: str) -> Region:
        """Both ends of the named axes (all that are not periodic when none is named).

        Faces are hit in proportion to their measure.

        Raises:
            ValueError: an axis that does not exist or is periodic, or no axis has ends.
        """
        indices = [self._index(n) for n in names] or [i for i in range(self.dim) if i not in self.periodic]
        for i in indices:
            if i in self.periodic:
                raise ValueError(f"axis {self.names[i]!r} is periodic and has no boundary")
        if not indices:
            raise ValueError("every axis is periodic: this box has no boundary")
        return Region(self, tuple({i: end} for i in indices for end in self.bounds[i]))


# ---------------------------------------------------------------------------------------------
# Counter-based points
# ---------------------------------------------------------------------------------------------

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # increment of splitmix64 (Steele, Lea, Flood 2014)


def _signed(x: int) -> int:
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def _mix(x: int) -> int:
    """The finaliser of splitmix64, a bijection of 64-bit integers with full avalanche."""
    x &= _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def share(points: int, rank: int, ranks: int) -> tuple[int, int]:
    """First global index of a condition's points that a rank owns, and one past the last."""
    return points * rank // ranks, points * (rank + 1) // ranks


def fold(key: tuple[int, ...]) -> int:
    """One 64-bit key out of several integers; different tuples give unrelated keys."""
    state = 0
    for part in key:
        state = _mix(state + _GOLDEN + _mix(part))
    return state


def _mix_tensor(x: Tensor) -> Tensor:
    def xor_shift(v: Tensor, s: int) -> Tensor:  # logical shift: int64 shifts are arithmetic
        return v ^ ((v >> s) & ((1 << (64 - s)) - 1))

    x = xor_shift(x, 30) * _signed(0xBF58476D1CE4E5B9)
    x = xor_shift(x, 27) * _signed(0x94D049BB133111EB)
    return xor_shift(x, 31)


def _to_unit(bits: Tensor) -> Tensor:
    """Upper 53 bits of 64 → [0, 1) in float64."""
    return ((bits >> 11) & ((1 << 53) - 1)).to(torch.float64) * 2.0**-53


def _plastic(dim: int) -> float:
    """The root above 1 of x^{dim+1} = x + 1, which generalises the golden ratio."""
    x = 2.0
    for _ in range(64):
        x = (1.0 + x) ** (1.0 / (dim + 1))
    return x


def unit_points(
    start: int,
    stop: int,
    dim: int,
    key: tuple[int, ...],
    sampling: Sampling,
    device: torch.device | str,
) -> Tensor:
    """Points start … stop−1 in [0, 1)^dim of the set named by key, (stop − start, dim) float64.

    "uniform": splitmix64 of (key, index, coordinate). "kronecker": frac(s_j + i φ^{−j}) with φ the
    generalised golden ratio and s a shift from the key, in exact 64-bit integer arithmetic.
    """
    if sampling == "uniform":
        strides = [_signed(_GOLDEN)] * dim
    elif sampling == "kronecker":
        ratio = _plastic(dim)
        strides = [_signed(int(ratio ** -(j + 1) * 2**64) | 1) for j in range(dim)]
    else:
        raise ValueError(f'sampling={sampling!r} must be "kronecker" or "uniform"')
    shifts = [_signed(fold((*key, j))) for j in range(dim)]
    index = torch.arange(start, stop, dtype=torch.int64, device=device)
    stride, shift = (torch.tensor(x, dtype=torch.int64, device=device) for x in (strides, shifts))
    bits = index[:, None] * stride + shift
    return _to_unit(_mix_tensor(bits) if sampling == "uniform" else bits)
