"""Shapes with known volumes, and looks at points on them."""

import math

import pytest
import torch
from scipy import stats

from sngd.domain import Box
from sngd.geometry import Ball, Polygon
from sngd.geometry.regions import Region
from sngd.geometry.shape import Shape

KEY = (7, 3, 1)
# Of a test that compares a statistic with its distribution: how unlikely a refusal is.
CHANCE = 1e-7

HOLE = Ball(x=0.2, y=0.1, radius=0.5)
PLATE = Box(x=(-1, 1), y=(-1, 1)) - HOLE
LEFT, RIGHT = Ball(x=0.5, y=0.5, radius=0.25), Ball(x=1.5, y=0.5, radius=0.25)
CHANNEL = Box(x=(0, 2), y=(0, 1), periodic="x") - Ball(x=1, y=0.5, radius=0.25)
ELL = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 3), (0, 3)])


def lens_area(r: float, s: float, apart: float) -> float:
    """Area that two disks share."""
    a = (apart**2 + r**2 - s**2) / (2 * apart)
    b = apart - a
    return (
        r**2 * math.acos(a / r)
        - a * math.sqrt(r**2 - a**2)
        + s**2 * math.acos(b / s)
        - b * math.sqrt(s**2 - b**2)
    )


LENS = lens_area(1, 0.8, 1.1)
# shape, its volume, and the measure of its boundary where it is simple
SHAPES: dict[str, tuple[Shape, float, float | None]] = {
    "segment": (Ball(x=3, radius=2), 4.0, 2.0),
    "disk": (Ball(x=0.5, y=-1, radius=1.5), math.pi * 1.5**2, 3 * math.pi),
    "ball": (Ball(x=0, y=0, z=1, radius=2), 32 / 3 * math.pi, 16 * math.pi),
    "ball5d": (Ball(a=0, b=0, c=0, d=0, e=0, radius=1), 8 * math.pi**2 / 15, 8 * math.pi**2 / 3),
    "ell": (ELL, 4.0, 10.0),
    "clockwise": (Polygon([(0, 0), (0, 2), (1, 0)], names=("x", "t")), 1.0, 3 + math.sqrt(5)),
    "plate": (PLATE, 4 - math.pi / 4, 8 + math.pi),
    "union": (
        Box(x=(0, 1), y=(0, 1)) | Ball(x=1, y=0.5, radius=0.25),
        1 + math.pi / 32,
        4 - 0.5 + math.pi / 4,
    ),
    "intersection": (Ball(x=0, y=0, radius=1) & Ball(x=1.1, y=0, radius=0.8), LENS, None),
    "crescent": (Ball(x=0, y=0, radius=1) - Ball(x=1.1, y=0, radius=0.8), math.pi - LENS, None),
    "neighbours": (Box(x=(0, 1), y=(0, 1)) | Box(x=(1, 3), y=(0, 1)), 3.0, 8.0),
    "overlapping": (Box(x=(0, 2), y=(0, 1)) | Box(x=(1, 3), y=(0, 1)), 3.0, 8.0),
    "flush": (Box(x=(0, 2), y=(0, 1)) - Box(x=(1, 2), y=(0.25, 0.75)), 1.5, 6 + 2),
    "holes": (ELL - (LEFT | RIGHT), 4 - math.pi / 8, None),
    "channel": (CHANNEL, 2 - math.pi / 16, None),
    "plate over t": (PLATE.over(t=(1, 3)), 8 - math.pi / 2, 2 * (8 + math.pi)),
    "overlapping over t": ((Box(x=(0, 2)) | Box(x=(1, 3))).over(t=(0, 1)), 3.0, 2.0),
}
NAMES = pytest.mark.parametrize("name", SHAPES)


def regions(shape: Shape) -> dict[str, Region]:
    middle = [(low + high) / 2 for low, high in shape.bounds]
    x = shape.axes[0]
    return {
        "interior": shape.interior,
        "boundary": shape.boundary(),
        "normals": shape.boundary().with_normals(),
        "filtered": shape.interior.where(lambda p: p[x] > middle[0]),
        "filtered boundary": shape.boundary().where(lambda p: p[x] > middle[0]).with_normals(),
    }


def boundary(shape: Shape, n: int, sampling="uniform") -> tuple[torch.Tensor, torch.Tensor]:
    """Points and normals."""
    return shape.boundary().with_normals().sample(0, n, KEY, sampling).split(shape.dim, dim=1)


def refuses_uniform(counts: list[int] | torch.Tensor, shares: list[float] | None = None) -> bool:
    """Pearson's test at level CHANCE."""
    counts = torch.as_tensor(counts, dtype=torch.float64)
    expected = counts.sum() * torch.tensor(shares or [1 / len(counts)] * len(counts), dtype=torch.float64)
    assert float(expected.min()) > 5
    return float(((counts - expected) ** 2 / expected).sum()) > stats.chi2.isf(CHANCE, len(counts) - 1)
