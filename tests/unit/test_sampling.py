"""Points of the unit cube: the frozen stream, and how evenly each way of sampling spreads them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sngd.domain import fold, unit_points

SAMPLINGS = ("kronecker", "uniform", "sobol", "latin_hypercube")
KEY = (7, 3, 1)


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
