import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sngd.domain import Axis, Box, Region, fold, unit_points

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


def test_points_stay_as_they_are() -> None:
    """Published runs can be repeated: the stream of points is part of the interface."""
    got = {s: unit_points(1000, 1001, 2, (1, 2, 3), s, "cpu")[0].tolist() for s in SAMPLINGS}
    assert got == FROZEN


FROZEN = {
    "kronecker": [0.7944936924879795, 0.008830843301327662],
    "uniform": [0.08483595389159726, 0.5612852780752021],
    "sobol": [0.41785888909362257, 0.08032284560613334],
    "latin_hypercube": [0.4604485680867262, 0.39722588201721404],
}


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_keys_of_different_tuples_differ(pair) -> None:
    a, b = pair
    assert fold(a) != fold(b)
    assert fold(a) != fold((*a, 0))
    assert 0 <= fold(a) < 2**64


def test_negative_and_huge_seeds_are_keys_too() -> None:
    keys = {fold((seed, 0)) for seed in (-1, 0, 1, 2**63, -(2**63) + 5, 2**31)}
    assert len(keys) == 6
    assert torch.isfinite(box().interior.sample(0, 5, (-1, 0, 0))).all()


# ---------------------------------------------------------------------------------------------
# Points are spread as they should be
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_unit_points_lie_in_the_half_open_cube(sampling, dim: int) -> None:
    u = unit_points(0, 5000, dim, KEY, sampling, "cpu")
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    # every decile of every coordinate is hit about 500 times: 5 standard deviations of uniform points
    for column in u.T:
        counts = torch.histc(column, 10, 0, 1)
        assert float((counts - 500).abs().max()) < 5 * math.sqrt(5000 * 0.1 * 0.9)


def test_uniform_points_have_the_moments_of_independent_uniform_ones() -> None:
    n = 200_000
    u = unit_points(0, n, 3, KEY, "uniform", "cpu")
    five = 5 / math.sqrt(n)  # five standard errors
    assert float((u.mean(0) - 1 / 2).abs().max()) < five * math.sqrt(1 / 12)
    assert float((u.square().mean(0) - 1 / 3).abs().max()) < five * math.sqrt(4 / 45)
    centred = u - 0.5
    covariance = centred.T @ centred / n
    off = covariance - torch.diag(covariance.diagonal())
    assert float(off.abs().max()) < five / 12
    for lag in (1, 2, 7):  # neighbours in the sequence are independent
        assert float((centred[lag:] * centred[:-lag]).mean(0).abs().max()) < five / 12
    assert len(torch.unique(u[:, 0])) == n


def test_uniform_sets_of_different_keys_are_uncorrelated() -> None:
    n = 100_000
    sets = [
        unit_points(0, n, 1, (seed, epoch, c), "uniform", "cpu")[:, 0] - 0.5
        for seed in (0, 1)
        for epoch in (0, 1)
        for c in (0, 1)
    ]
    stacked = torch.stack(sets)
    covariance = stacked @ stacked.T / n
    off = covariance - torch.diag(covariance.diagonal())
    assert float(off.abs().max()) < 5 / math.sqrt(n) / 12


def largest_gap(u: torch.Tensor) -> float:
    """Of points on the circle [0, 1)."""
    s = u.sort().values
    return float(torch.cat([s.diff(), s[:1] + 1 - s[-1:]]).max())


def star_discrepancy(u: torch.Tensor, boxes: torch.Tensor) -> float:
    """max over anchored boxes [0, b) of |share of points inside − volume|, from below."""
    inside = (u.unsqueeze(0) < boxes.unsqueeze(1)).all(2).double().mean(1)
    return float((inside - boxes.prod(1)).abs().max())


def test_kronecker_points_leave_small_gaps_in_one_dimension() -> None:
    n = 1000
    for seed in range(5):
        kronecker = largest_gap(unit_points(0, n, 1, (seed,), "kronecker", "cpu")[:, 0])
        uniform = largest_gap(unit_points(0, n, 1, (seed,), "uniform", "cpu")[:, 0])
        # golden ratio: below 2/n for every n (three-distance theorem); uniform points about ln n / n
        assert kronecker < 2 / n
        assert uniform > 4 / n


@pytest.mark.parametrize("dim", [2, 3])
def test_low_discrepancy_points_have_a_lower_one(dim: int) -> None:
    n = 1024
    boxes = torch.rand(2000, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = {
        s: [star_discrepancy(unit_points(0, n, dim, (seed,), s, "cpu"), boxes) for seed in range(8)]
        for s in ("kronecker", "sobol", "uniform")
    }
    for low in ("kronecker", "sobol"):
        assert max(found[low]) < min(found["uniform"]), found
        assert sum(found["uniform"]) > 3 * sum(found[low]), found


@pytest.mark.parametrize("dim", [2, 5])
def test_sobol_points_are_a_net(dim: int) -> None:
    """In base 2: each of 256 slices of every axis holds one of any 256 points from a multiple of 256 on."""
    for start in (0, 256, 1024):
        u = unit_points(start, start + 256, dim, KEY, "sobol", "cpu")
        for column in u.T:
            assert (column * 256).long().unique().shape == (256,)
    pair = (unit_points(512, 768, 2, KEY, "sobol", "cpu") * 16).long()
    assert len(pair.unique(dim=0)) == 256, "and so does each square of a 16 × 16 grid"


@pytest.mark.parametrize("total", [1, 7, 1000])
def test_a_latin_hypercube_has_one_point_in_each_slice_of_each_axis(total: int) -> None:
    u = unit_points(0, total, 3, KEY, "latin_hypercube", "cpu", total)
    for column in u.T:
        assert (column * total).long().sort().values.tolist() == list(range(total))
    if total == 1000:  # axes are unrelated, and so is the place in the slice
        centred = u - 0.5
        covariance = centred.T @ centred / total
        assert float((covariance - torch.diag(covariance.diagonal())).abs().max()) < 5 / math.sqrt(total) / 12
        inside = u * total % 1
        assert float((inside.mean(0) - 0.5).abs().max()) < 5 / math.sqrt(12 * total)
    more = unit_points(0, 3 * total, 3, KEY, "latin_hypercube", "cpu", total)
    assert torch.equal(more[:total], u)
    assert total == 1 or not torch.equal(more[total : 2 * total], u)
    for column in more[total : 2 * total].T:  # the next ones are another hypercube
        assert (column * total).long().sort().values.tolist() == list(range(total))


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
