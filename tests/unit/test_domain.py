import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sngd.domain import Axis, Box, Region, fold

SAMPLINGS = ("kronecker", "uniform", "sobol", "latin_hypercube")
KEY = (7, 3, 1)


def box() -> Box:
    return Box(x=(-2, 3), y=(0, 0.5), t=(10, 11))


# ---------------------------------------------------------------------------------------------
# Points are keyed
# ---------------------------------------------------------------------------------------------


@given(
    st.integers(1, 200),
    st.lists(st.integers(0, 200), max_size=6),
    st.sampled_from(SAMPLINGS),
    st.sampled_from(["interior", "face", "boundary"]),
)
def test_any_split_gives_the_same_points(total: int, cuts: list[int], sampling, where: str) -> None:
    domain = box()
    region = {"interior": domain.interior, "face": domain.face(t=10), "boundary": domain.boundary()}[where]
    whole = region.sample(0, total, KEY, sampling)
    edges = [0, *sorted(min(c, total) for c in cuts), total]
    parts = [region.sample(a, b, KEY, sampling) for a, b in pairwise(edges)]
    assert whole.dtype == torch.float64
    assert whole.shape == (total, 3)
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_more_points_keep_the_first(sampling) -> None:
    region = box().boundary()
    assert torch.equal(region.sample(0, 30, KEY, sampling), region.sample(0, 99, KEY, sampling)[:30])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_another_seed_epoch_or_condition_gives_other_points(sampling, position: int) -> None:
    other = list(KEY)
    other[position] += 1
    a = box().interior.sample(0, 100, KEY, sampling)
    b = box().interior.sample(0, 100, tuple(other), sampling)
    assert not (a == b).any()


def test_points_do_not_touch_the_generators() -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    a = box().interior.sample(0, 10, KEY)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(a, box().interior.sample(0, 10, KEY))


def test_negative_and_huge_seeds_are_keys_too() -> None:
    keys = {fold((seed, 0)) for seed in (-1, 0, 1, 2**63, -(2**63) + 5, 2**31)}
    assert len(keys) == 6
    assert torch.isfinite(box().interior.sample(0, 5, (-1, 0, 0))).all()


def test_only_a_latin_hypercube_depends_on_the_total() -> None:
    for sampling in SAMPLINGS:
        a, b = (box().boundary().sample(0, 50, KEY, sampling, total=total) for total in (50, 60))
        assert torch.equal(a, b) == (sampling != "latin_hypercube")


# ---------------------------------------------------------------------------------------------
# Regions
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_interior_fills_the_box(sampling) -> None:
    domain = box()
    points = domain.interior.sample(0, 2000, KEY, sampling)
    for column, (low, high) in zip(points.T, domain.bounds, strict=True):
        assert low <= float(column.min()) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < float(column.max()) < high


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_face_holds_its_coordinates_exactly(sampling) -> None:
    points = box().face(t=10.3, x=-2).sample(0, 500, KEY, sampling)
    assert (points[:, 2] == 10.3).all()
    assert (points[:, 0] == -2).all()
    assert float(points[:, 1].max() - points[:, 1].min()) > 0.49


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_boundary_hits_every_face_in_proportion_to_its_measure(sampling) -> None:
    domain = box()  # faces: x 0.5·1 twice, y 5·1 twice, t 5·0.5 twice
    n = 20_000
    points = domain.boundary().sample(0, n, KEY, sampling)
    total = 2 * (0.5 + 5 + 2.5)
    for axis, measure in enumerate((0.5, 5, 2.5)):
        for end in domain.bounds[axis]:
            share = float((points[:, axis] == end).double().mean())
            expected = measure / total
            assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n), (axis, end)
    on_a_face = [(points[:, i : i + 1] == torch.tensor(b)).any(1) for i, b in enumerate(domain.bounds)]
    assert torch.stack(on_a_face).any(0).all()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_points_of_one_face_are_spread_over_it(sampling) -> None:
    """The lot that picks the face is independent of the place on the face."""
    points = Box(x=(0, 1), y=(0, 1)).boundary().sample(0, 4000, KEY, sampling)
    for axis, end in ((0, 0.0), (0, 1.0), (1, 0.0), (1, 1.0)):
        along = points[points[:, axis] == end][:, 1 - axis]
        assert len(along) > 900
        counts = torch.histc(along, 10, 0, 1)
        assert float(counts.min()) > 0.5 * len(along) / 10, (axis, end, counts)


def test_boundary_of_one_axis_and_of_a_line() -> None:
    points = box().boundary("y").sample(0, 300, KEY)
    assert set(points[:, 1].tolist()) == {0.0, 0.5}
    ends = Box(x=(-1, 4)).boundary().sample(0, 300, KEY)
    assert set(ends[:, 0].tolist()) == {-1.0, 4.0}
    assert 130 < int((ends == 4).sum()) < 170


def test_periodic_axes_have_no_boundary() -> None:
    domain = Box(x=(0, 1), t=(0, 2), periodic="x")
    assert domain.periodic == (0,)
    assert set(domain.boundary().sample(0, 50, KEY)[:, 1].tolist()) == {0.0, 2.0}
    with pytest.raises(ValueError, match="axis 'x' is periodic and has no boundary"):
        domain.boundary("x")
    with pytest.raises(ValueError, match="every axis is periodic"):
        Box(x=(0, 1), periodic=("x",)).boundary()


def test_normals_of_faces_point_out_of_the_box() -> None:
    domain = box()
    region = domain.boundary("x", "t").with_normals()
    assert region.columns == ("normal:x", "normal:y", "normal:t")
    points, normals = region.sample(0, 400, KEY).split(3, dim=1)
    assert torch.equal(points, domain.boundary("x", "t").sample(0, 400, KEY))
    assert (normals.norm(dim=1) == 1).all()
    assert (normals[:, 1] == 0).all()
    assert domain.contains(points).all()
    assert not domain.contains(points + 1e-9 * normals).any()
    assert domain.contains(points - 1e-9 * normals).all()
    initial = domain.face(t=10).with_normals().sample(0, 5, KEY)
    assert (initial[:, 3:] == torch.tensor([0, 0, -1])).all()
    for region in (domain.interior, domain.face(t=10.5), domain.face(t=10, x=3)):
        with pytest.raises(ValueError, match=r"has no normal: it is no part of the boundary of Box\("):
            region.with_normals()
    with pytest.raises(ValueError, match="has no normal"):
        Box(x=(0, 1), t=(0, 1), periodic="x").face(x=0).with_normals()


def test_boxes_contain_their_ends() -> None:
    x = torch.tensor([[-2, 0, 10], [3, 0.5, 11], [0, 0.2, 10.5], [0, 0.6, 10.5], [-2.1, 0, 10]])
    assert box().contains(x).tolist() == [True, True, True, False, False]


def test_regions_belong_to_their_domain() -> None:
    domain = box()
    for region in (domain.interior, domain.face(t=10), domain.boundary("x")):
        assert isinstance(region, Region)
        assert region.domain is domain
        assert region.box is domain
        assert region.count is None
        assert region.columns == ()


def test_even_axes_are_named_like_periodic_ones() -> None:
    domain = Box(x=(0, 1), y=(0, 1), t=(0, 2), periodic="x", even=("x", "y"))
    assert domain.even == (0, 1)
    assert domain.periodic == (0,)
    assert repr(domain).endswith("periodic=('x',), even=('x', 'y'))")
    assert Box(x=(0, 1)).even == ()
    assert torch.equal(
        domain.boundary("y").sample(0, 9, KEY),
        Box(x=(0, 1), y=(0, 1), t=(0, 2), periodic="x").boundary("y").sample(0, 9, KEY),
    )


def test_axes_are_named_in_order() -> None:
    domain = Box(x=(0, 1), t=(0, 2), periodic=("t",))
    assert domain.axes == (Axis(0, "x"), Axis(1, "t"))
    assert domain.dim == 2
    assert repr(domain) == "Box(x=(0.0, 1.0), t=(0.0, 2.0), periodic=('t',))"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "at least one axis"),
        ({"x": (0, 0)}, r"x=\(0, 0\) must be finite with low < high"),
        ({"x": (2, 1)}, r"x=\(2, 1\) must be finite"),
        ({"x": (0, math.inf)}, "must be finite"),
        ({"x": (math.nan, 1)}, "must be finite"),
        ({"x": ("a", 1)}, r"x=\('a', 1\) must be finite with low < high"),
        ({"x": (None, 1)}, "must be finite with low < high"),
        ({"x": 3}, r"x=3 must be a pair"),
        ({"x": (0, 1, 2)}, "must be a pair"),
        ({"x": (0, 1), "even": ("x", "y")}, "axis 'y' does not exist"),
        ({"x": (0, 1), "periodic": "y"}, r"axis 'y' does not exist: this box has the axes \('x',\)"),
    ],
)
def test_bad_boxes_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Box(**arguments)


def test_bad_regions_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a coordinate to hold"):
        box().face()
    with pytest.raises(ValueError, match=r"axis 'z' does not exist"):
        box().face(z=0)
    with pytest.raises(ValueError, match=r"face\(t=9\) lies outside of t in \[10.0, 11.0\]"):
        box().face(t=9)
    with pytest.raises(ValueError, match="axis 'z' does not exist"):
        box().boundary("z")
    with pytest.raises(ValueError, match=r"sampling='halton' must be one of kronecker, uniform, sobol"):
        box().interior.sample(0, 3, KEY, "halton")
