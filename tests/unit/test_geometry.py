import math

import numpy as np
import pytest
import torch
from scipy import stats

from sngd.calculus import d, laplacian
from sngd.condition import Condition, evaluate_residual
from sngd.data import Data
from sngd.domain import Box, share
from sngd.geometry import Ball, Polygon
from sngd.points import Points
from sngd.problem import Problem
from sngd.sampling import SAMPLINGS
from tests.shapes import (
    CHANCE,
    ELL,
    HOLE,
    KEY,
    NAMES,
    PLATE,
    SHAPES,
    boundary,
    refuses_uniform,
    regions,
)

# ---------------------------------------------------------------------------------------------
# Points are keyed
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sampling"),
    [*((name, "kronecker") for name in SHAPES), *(("plate", s) for s in SAMPLINGS), ("ball5d", "sobol")],
)
def test_any_number_of_ranks_has_the_same_points(name: str, sampling) -> None:
    total = 203
    for where, region in regions(SHAPES[name][0]).items():
        whole = region.sample(0, total, KEY, sampling, total=total)
        assert whole.shape == (total, region.domain.dim + len(region.columns)), where
        assert whole.dtype == torch.float64
        for ranks in (2, 3, 4):
            parts = [
                region.sample(*share(total, rank, ranks), KEY, sampling, total=total) for rank in range(ranks)
            ]
            assert torch.equal(torch.cat(parts), whole), (where, ranks)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_more_points_keep_the_first_and_other_keys_give_others(sampling) -> None:
    for where, region in regions(PLATE).items():
        few, many = region.sample(0, 30, KEY, sampling), region.sample(0, 3000, KEY, sampling)
        assert torch.equal(few, many[:30]), where
        other = region.sample(0, 30, (7, 4, 1), sampling)
        assert not (few[:, :2] == other[:, :2]).all(1).any(), where


def test_normals_change_no_points() -> None:
    region = PLATE.boundary()
    assert torch.equal(region.with_normals().sample(5, 300, KEY)[:, :2], region.sample(5, 300, KEY))
    assert region.columns == ()
    assert region.with_normals().columns == ("normal:x", "normal:y")


# ---------------------------------------------------------------------------------------------
# Where points lie
# ---------------------------------------------------------------------------------------------


@NAMES
def test_interior_points_fill_the_shape(name: str) -> None:
    shape, volume, _ = SHAPES[name]
    assert bool(shape.contains(shape.interior.sample(0, 500, KEY)).all())
    n = 20_000
    inside = shape.interior.candidates(0, n, KEY, "uniform", None)[1]
    hits = stats.binomtest(int(inside.sum()), n, volume / math.prod(b - a for a, b in shape.bounds))
    assert hits.pvalue > CHANCE


@NAMES
def test_normals_are_unit_and_point_outwards(name: str) -> None:
    shape = SHAPES[name][0]
    points, normals = boundary(shape, 400)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(400, dtype=torch.float64))
    step = 1e-4 * normals
    inner, outer = shape.contains(points - step), shape.contains(points + step)
    # only within a step of a corner, which is 1e-4 of the perimeter, may it be otherwise
    assert int((~inner).sum() + outer.sum()) <= 3
    # along the surface it is neither: a normal that is tilted by 45° would enter or leave the shape
    if shape.dim == 2:
        tangents = torch.stack([-normals[:, 1], normals[:, 0]], dim=1)
        for sign in (-1, 1):
            tilted = step + sign * 1e-4 * tangents
            assert int((~shape.contains(points - tilted)).sum() + shape.contains(points + tilted).sum()) <= 6


@pytest.mark.parametrize("name", ["disk", "ball", "ball5d", "segment"])
def test_spheres_are_exact_and_evenly_covered(name: str) -> None:
    shape = SHAPES[name][0]
    points, normals = boundary(shape, 4000)
    offset = points - torch.tensor(shape.centre)
    torch.testing.assert_close(offset, shape.radius * normals, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(offset.norm(dim=1), torch.full((4000,), shape.radius, dtype=torch.float64))
    for i in range(shape.dim):
        # half of every axis, and between ±√(1/d) as often as a Beta distribution says
        assert not refuses_uniform([int((normals[:, i] > 0).sum()), int((normals[:, i] <= 0).sum())])
        if shape.dim > 1:
            cut = 1 / shape.dim
            share_below = float(stats.beta.cdf(cut, 0.5, (shape.dim - 1) / 2))
            below = int((normals[:, i].square() < cut).sum())
            assert not refuses_uniform([below, 4000 - below], [share_below, 1 - share_below])


def test_polygon_points_lie_on_its_edges_evenly() -> None:
    points, _ = boundary(ELL, 4000)
    x, y = points.T
    edges = [
        (y == 0) & (x <= 2),
        (x == 2) & (y <= 1),
        (y == 1) & (x >= 1),
        (x == 1) & (y >= 1),
        (y == 3) & (x <= 1),
        (x == 0) & (y <= 3),
    ]
    assert bool(torch.stack(edges).any(0).all())
    assert not refuses_uniform([int(e.sum()) for e in edges], [l / 10 for l in (2, 1, 1, 2, 1, 3)])
    assert not refuses_uniform(torch.histc(y[edges[5]], 12, 0, 3))


def test_interior_points_are_uniform() -> None:
    x, y = PLATE.interior.sample(0, 8000, KEY, "uniform").T
    offset = torch.stack([x - 0.2, y - 0.1])
    angle = torch.atan2(offset[1], offset[0])
    ring = offset.norm(dim=0) < 0.75
    assert not refuses_uniform(torch.histc(angle[ring], 16, -math.pi, math.pi))
    squares = offset.square().sum(0)[ring]  # uniform for a uniform ring
    assert not refuses_uniform(torch.histc(squares, 10, 0.25, 0.5625))
    part = math.pi * (0.5625 - 0.25) / (4 - math.pi / 4)
    assert not refuses_uniform([int(ring.sum()), int((~ring).sum())], [part, 1 - part])


@pytest.mark.parametrize("name", [name for name, (_, _, measure) in SHAPES.items() if measure])
def test_boundary_is_hit_in_proportion_to_its_measure(name: str) -> None:
    """Of the pieces' candidates as many are kept as the boundary's measure says."""
    shape, _, measure = SHAPES[name]
    pieces = sum(piece.measure for piece in shape.pieces())
    if "over" in name:
        measure /= shape.bounds[-1][1] - shape.bounds[-1][0]
    n = 20_000
    kept = int(shape.boundary().candidates(0, n, KEY, "uniform", None)[1].sum())
    assert measure <= pieces * (1 + 1e-12)
    assert stats.binomtest(kept, n, min(1.0, measure / pieces)).pvalue > CHANCE


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("key", [KEY, (0, 1, 0), (3, 1, 0)])
def test_the_ends_of_several_intervals_are_hit_evenly(sampling, key) -> None:
    shape = Ball(x=0, radius=1) | Ball(x=5, radius=1)
    ends, counts = shape.boundary().sample(0, 4000, key, sampling).unique(return_counts=True)
    assert ends.tolist() == [-1, 1, 4, 6]
    for count in counts.tolist():
        assert stats.binomtest(count, 4000, 0.25).pvalue > CHANCE


def test_shared_sides_count_once() -> None:
    """Of boxes side by side the common side is inside; where they overlap, their sides are covered once."""
    x, y = boundary(SHAPES["neighbours"][0], 4000)[0].T
    assert not bool(((x == 1) & (y > 0) & (y < 1)).any())
    for name in ("neighbours", "overlapping"):
        x, y = boundary(SHAPES[name][0], 8000)[0].T
        assert not refuses_uniform(torch.histc(x[y == 0], 12, 0, 3))
        sides = [int(on.sum()) for on in (y == 0, y == 1, x == 0, x == 3)]
        assert not refuses_uniform(sides, [3 / 8, 3 / 8, 1 / 8, 1 / 8])
    x, y = boundary(SHAPES["flush"][0], 4000)[0].T
    assert not bool(((x == 2) & (y > 0.25) & (y < 0.75)).any())


# ---------------------------------------------------------------------------------------------
# Mistakes
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ball(radius=1), "needs a centre, e.g. Ball"),
        (lambda: Ball(x=0, radius=0), "radius=0 must be > 0"),
        (lambda: Ball(x=math.nan, radius=1), "Ball x=nan must be a finite number"),
        (lambda: Ball(x=0, radius="1"), "Ball radius='1' must be a finite number"),
        (lambda: Polygon([0, 1, 2]), r"vertices=\[0, 1, 2\] must be pairs of numbers"),
        (lambda: Polygon([("a", 0), (1, 0), (1, 1)]), r"vertices\[0\]=\('a', 0\) must be two finite numbers"),
        (lambda: Polygon([(0, 0), (1, 0)]), "at least 3 vertices, got 2"),
        (lambda: Polygon([(0, 0), (1, 0), (1, math.inf)]), r"\[2\]=\(1, inf\) must be two finite"),
        (lambda: Polygon([(0, 0), (1, 0), (1, 1, 1)]), r"vertices\[2\]=\(1, 1, 1\)"),
        (lambda: Polygon([(0, 0), (1, 0), (1, 1), (0, 0)]), r"vertex \(0.0, 0.0\) appears twice"),
        (
            lambda: Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]),
            r"or touch: \(0.0, 0.0\)–\(1.0, 1.0",
        ),
        (lambda: Polygon([(0, 0), (2, 0), (1, 0), (1, 1)]), "must not cross or touch"),
        (lambda: Polygon([(0, 0), (2, 0), (2, 1), (1, 0), (0, 1)]), "must not cross or touch"),
        (lambda: Polygon([(0, 0), (1, 0), (2, 0)]), "must not cross or touch|has no area"),
        (lambda: Polygon([(0, 0), (1, 0), (1, 1)], names=("x", "x")), "must be two different names"),
        (
            lambda: PLATE - Ball(x=0, z=0, radius=1),
            r"axes \('x', 'y'\) and \('x', 'z'\) must be",
        ),
        (lambda: PLATE | 3, "the second one must be a shape too"),
        (lambda: HOLE & Ball(x=2, y=0, radius=1), "is empty: the shapes lie apart"),
        (lambda: HOLE - Box(x=(0, 1), y=(0, 1), even="x"), "a hole has no periodic or even axes"),
        (lambda: HOLE | Box(x=(0, 1), y=(0, 1), periodic="x"), "periodic axes are those of one box"),
        (lambda: PLATE.over(), "needs one axis"),
        (lambda: PLATE.over(t=(0, 1), s=(0, 1)), "needs one axis"),
        (lambda: PLATE.over(x=(0, 1)), "has an axis 'x' already"),
        (lambda: PLATE.over(t=(1, 1)), r"t=\(1, 1\) must be finite with low < high"),
    ],
)
def test_bad_shapes_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_names_and_bounds_of_shapes() -> None:
    assert PLATE.bounds == ((-1.0, 1.0), (-1.0, 1.0))
    assert (HOLE | Ball(x=1, y=0.1, radius=1)).bounds == ((-0.3, 2.0), (-0.9, 1.1))
    assert ELL.bounds == ((0.0, 2.0), (0.0, 3.0))
    solid = PLATE.over(t=(0, 2))
    assert solid.names == ("x", "y", "t")
    assert solid.bounds[-1] == (0.0, 2.0)
    assert repr(HOLE.over(t=(0, 1))) == "Ball(x=0.2, y=0.1, radius=0.5).over(t=(0.0, 1.0))"
    assert repr(HOLE - HOLE).startswith("(Ball(x=0.2, y=0.1, radius=0.5) - Ball")


def test_numbers_of_numpy_are_numbers() -> None:
    assert Ball(x=np.int64(1), y=np.float32(0.5), radius=np.float64(2)).bounds == ((-1, 3), (-1.5, 2.5))
    assert Box(x=(np.int64(0), np.float32(0.5))).bounds == ((0, 0.5),)


def test_near_takes_in_what_rounding_puts_outside() -> None:
    disk = Ball(x=0, y=0, radius=1)
    points = torch.tensor([[1 + 1e-9, 0], [1.01, 0], [0, 0.5]], dtype=torch.float64)
    assert disk.contains(points).tolist() == [False, False, True]
    assert disk.near(points).tolist() == [True, False, True]


def test_a_problem_with_flux_through_a_hole_and_data() -> None:
    """Its conditions are met by its solution, and by no other field."""
    X, Y = PLATE.axes

    def exact(p):
        return torch.sin(p[X]) * torch.cos(p[Y])

    def flux(u, p):
        outward = p.normal[X] * d(u, X) + p.normal[Y] * d(u, Y)
        known = p.normal[X] * torch.cos(p[X]) * torch.cos(p[Y])
        return outward - known + p.normal[Y] * torch.sin(p[X]) * torch.sin(p[Y])

    measured = [math.sin(0.9) * math.cos(0.9), -math.sin(0.5) * math.cos(0.5)]
    data = Data(PLATE, [[0.9, 0.9], [-0.5, 0.5]], {"u": measured})
    problem = Problem(
        PLATE,
        [
            Condition("equation", lambda u, p: laplacian(u) + 2 * u, PLATE.interior, 50, sampling="sobol"),
            Condition("walls", lambda u, p: u - exact(p), PLATE.boundary("x", "y"), 50),
            Condition("hole", flux, PLATE.boundary(HOLE), 50, sampling="latin_hypercube"),
            Condition("data", lambda u, p: u - p.data["u"], data),
        ],
        solution=exact,
    )
    assert [c.points for c in problem.conditions] == [50, 50, 50, 2]
    for c, signature in zip(problem.conditions, problem.signatures, strict=True):
        p = Points(c.region.sample(0, c.points, KEY, c.sampling, total=c.points), signature.columns)
        assert float(evaluate_residual(c, exact(p), p).abs().max()) < 1e-14, c.name
        assert float(evaluate_residual(c, torch.sin(2 * p[X] + p[Y]), p).abs().max()) > 0.01, c.name
