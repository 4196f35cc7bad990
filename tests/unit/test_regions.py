"""Regions of shapes: parts of a boundary, faces, filters, and what is refused."""

import pytest
import torch

from sngd.domain import Box
from sngd.geometry import Ball
from tests.shapes import ELL, HOLE, KEY, LEFT, PLATE, RIGHT, SHAPES, boundary, refuses_uniform

# ---------------------------------------------------------------------------------------------
# Parts, faces and filters
# ---------------------------------------------------------------------------------------------


def test_parts_of_a_boundary_are_told_apart_by_shape_or_axis() -> None:
    points, normals = PLATE.boundary(HOLE).with_normals().sample(0, 500, KEY).split(2, dim=1)
    offset = points - torch.tensor(HOLE.centre)
    torch.testing.assert_close(offset, -0.5 * normals)  # out of the plate is into the hole
    walls = PLATE.boundary(PLATE.a).sample(0, 500, KEY)
    assert bool((walls.abs() == 1).any(1).all())
    assert set(PLATE.boundary("x").sample(0, 100, KEY)[:, 0].tolist()) == {-1.0, 1.0}
    both = PLATE.boundary("x", HOLE).sample(0, 500, KEY)
    assert bool(((both[:, 0].abs() == 1) | ((both - torch.tensor(HOLE.centre)).norm(dim=1) < 0.6)).all())
    lateral = PLATE.over(t=(0, 1)).boundary(HOLE).sample(0, 100, KEY)
    torch.testing.assert_close(
        (lateral[:, :2] - torch.tensor(HOLE.centre)).norm(dim=1), torch.full((100,), 0.5, dtype=torch.float64)
    )
    for wrong in (Ball(x=0, y=0, radius=1), "z"):
        with pytest.raises(ValueError, match=r"has no such part; name a shape .* or an axis .*, x, y"):
            PLATE.boundary(wrong)
    with pytest.raises(ValueError, match=r"name a shape that it is made of$"):
        HOLE.boundary("x")


def test_holes_of_several_shapes_are_one_part() -> None:
    holes = LEFT | RIGHT
    shape = ELL - holes
    x = shape.boundary(holes).sample(0, 400, KEY, "uniform")[:, 0]
    assert not refuses_uniform([int((x < 1).sum()), int((x > 1).sum())])
    assert float(shape.boundary(RIGHT).sample(0, 400, KEY)[:, 0].min()) >= 1.25


def test_a_channel_has_no_ends_where_it_is_periodic() -> None:
    channel = SHAPES["channel"][0]
    assert channel.periodic == (0,)
    x, y = channel.boundary().sample(0, 500, KEY).T
    assert not bool(((x == 0) | (x == 2)).any())
    assert {0.0, 1.0} <= set(y.tolist())


def test_faces_are_slices() -> None:
    chord = Ball(x=0, y=0, radius=1).face(x=0.6).sample(0, 200, KEY)
    assert set(chord[:, 0].tolist()) == {0.6}
    assert 0.79 < float(chord[:, 1].max()) <= 0.8
    assert float(chord[:, 1].min()) < -0.79
    initial = PLATE.over(t=(1, 3)).face(t=1).with_normals().sample(0, 200, KEY)
    assert bool((initial[:, 2:] == torch.tensor([1.0, 0, 0, -1])).all())
    assert bool(PLATE.contains(initial[:, :2]).all())
    side = PLATE.face(x=1).with_normals().sample(0, 50, KEY)
    assert bool((side[:, [0, 2, 3]] == torch.tensor([1.0, 1, 0])).all())
    with pytest.raises(ValueError, match=r"face\(x=0.5\) has no normal: it is no part of the boundary"):
        PLATE.face(x=0.5).with_normals()
    with pytest.raises(ValueError, match="interior has no normal"):
        PLATE.interior.with_normals()
    with pytest.raises(ValueError, match=r"face\(x=2\) lies outside of x in \[-1.0, 1.0\]"):
        PLATE.face(x=2)
    with pytest.raises(ValueError, match="axis 't' does not exist"):
        PLATE.face(t=0)


def test_lateral_boundary_spans_the_time_evenly_and_its_normals_have_none() -> None:
    points, normals = boundary(SHAPES["plate over t"][0], 4000)
    assert bool((normals[:, 2] == 0).all())
    assert not refuses_uniform(torch.histc(points[:, 2], 10, 1, 3))


def test_filters_keep_what_they_say() -> None:
    X, Y = PLATE.axes
    right = (
        PLATE.boundary().where(lambda p: (p[X] > 0.9) & (p["y"] < 0)).where(lambda p: torch.sin(p[Y]) < -0.1)
    )
    assert right.domain is PLATE
    points = right.sample(0, 200, KEY)
    assert bool(((points[:, 0] > 0.9) & (points[:, 1] < -0.1)).all())
    half = Box(x=(0, 1), t=(0, 1)).boundary("x").where(lambda p: p["x"] == 1).with_normals()
    assert bool((half.sample(0, 50, KEY)[:, [0, 2, 3]] == torch.tensor([1.0, 1, 0])).all())


def test_filters_that_cannot_be_used_are_refused() -> None:
    X, _ = PLATE.axes

    def nowhere(p):
        return p[X] > 1

    with pytest.raises(ValueError, match=r"where\(nowhere\) holds none of the first 262,144 points tried"):
        PLATE.interior.where(nowhere).sample(0, 1, KEY)
    with pytest.raises(ValueError, match=r"must return a bool tensor of shape .* it returned torch.float64"):
        PLATE.interior.where(lambda p: p[X]).sample(0, 1, KEY)
    with pytest.raises(ValueError, match="it returned bool"):
        PLATE.interior.where(lambda p: True).sample(0, 1, KEY)
    with pytest.raises(ValueError, match=r"axis 'z' does not exist: the domain has the axes \('x', 'y'\)"):
        PLATE.interior.where(lambda p: p["z"] > 0).sample(0, 1, KEY)
    with pytest.raises(ValueError, match="holds none of the first"):
        (Ball(x=0, y=0, radius=1) - Ball(x=0, y=0, radius=2)).boundary().sample(0, 1, KEY)
