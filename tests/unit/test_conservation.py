import math
from types import SimpleNamespace

import pytest
import torch

from sngd import MLP, Box, Condition, Problem, d
from sngd.composite import build_network
from sngd.conservation import conservation, integral, quadrature
from sngd.conserved import Conserved

CIRCLE = Box(x=(0, 2 * math.pi), t=(0, 1), periodic="x")
X, T = CIRCLE.axes
MASS = Conserved("mass", lambda u, p: u)
ENERGY = Conserved("energy", lambda u, p: d(u, X) ** 2 + d(u, T) ** 2)


def drifts(function, conserved, domain=CIRCLE, time=1, **given):
    """Of a field that is a function of the coordinates, whatever the network gives."""
    zero = Condition("zero", lambda u, p: u, domain.interior, 5)
    problem = Problem(domain, [zero], ansatz=lambda outputs, p: function(p) + 0.0 * outputs)
    network = build_network(problem, MLP((4,)), 0)
    return conservation(problem, network, network.initial, conserved, time, **given)


@pytest.mark.parametrize("nodes", [3, 8])
def test_quadrature_is_exact_for_polynomials_and_waves(nodes: int) -> None:
    box = Box(x=(-1, 2), y=(0, 2 * math.pi), z=(1, 3), periodic="y")
    grid, weights = quadrature(box, (0, 1), nodes)
    assert grid.shape == (nodes**2, 2)
    assert float(weights.sum()) == pytest.approx(3 * 2 * math.pi, rel=1e-14)
    degree, mode = 2 * nodes - 1, nodes - 1
    x, y = grid.unbind(1)
    got = float(weights @ (x**degree * (1 + torch.cos(mode * y))))
    assert got == pytest.approx((2 ** (degree + 1) - 1) / (degree + 1) * 2 * math.pi, rel=1e-13)


def test_integral_over_a_slice() -> None:
    box = Box(x=(0, 1), t=(0, 5), y=(0, 2))
    got = integral(box, lambda x: torch.stack([x.prod(1), 1 + 0 * x[:, 0]], dim=1), {1: 3.0}, 4)
    assert got.tolist() == pytest.approx([0.5 * 3.0 * 2.0, 2.0], rel=1e-14)
    assert integral(box, lambda x: x[:, :1], {}, 2).tolist() == pytest.approx([5.0], rel=1e-14)


def test_a_travelling_wave_keeps_mass_and_energy() -> None:
    found = drifts(lambda p: torch.cos(p[X] - p[T]), (MASS, ENERGY), times=5)
    for name, exact in (("mass", 0.0), ("energy", 2 * math.pi)):
        assert found[name].values == pytest.approx([exact] * 5, abs=1e-12)
        assert found[name].times == (0.0, 0.25, 0.5, 0.75, 1.0)
        assert found[name].drift < 1e-13
        assert found[name].quadrature < 1e-13


def test_a_decaying_field_loses_what_it_should() -> None:
    """u = (2 + cos x) e^{−t}: mass 4π e^{−t}, ∫u_x² + u_t² = 10π e^{−2t}."""
    found = drifts(lambda p: (2 + torch.cos(p[X])) * torch.exp(-p[T]), (MASS, ENERGY), times=3)
    assert found["mass"].values == pytest.approx([4 * math.pi * math.exp(-t) for t in (0, 0.5, 1)], rel=1e-13)
    assert found["mass"].drift == pytest.approx(1 - math.exp(-1), rel=1e-13)
    assert found["energy"].values[0] == pytest.approx(10 * math.pi, rel=1e-13)
    assert found["energy"].drift == pytest.approx(1 - math.exp(-2), rel=1e-13)


def test_scale_of_an_integral_that_cancels() -> None:
    """u = cos x + t/1000: mass from 0 to 2π/1000, ∫|cos x| = 4."""

    def field(p):
        return torch.cos(p[X]) + 1e-3 * p[T]

    own, given = Conserved("own", MASS.density), Conserved("given", MASS.density, scale=1.0)
    found = drifts(field, (own, given), times=2)
    assert found["own"].drift == pytest.approx(2e-3 * math.pi / 4, rel=1e-4)  # |cos x| has kinks
    assert found["given"].drift == pytest.approx(2e-3 * math.pi, rel=1e-12)
    large = Conserved("large", lambda u, p: u + 1.0, scale=1.0)
    assert drifts(field, (large,), times=2)["large"].drift == pytest.approx(1e-3, rel=1e-12)


def test_time_may_be_any_axis_and_space_have_several() -> None:
    box = Box(t=(0, 2), x=(0, 1), y=(-1, 1))
    time, x, y = box.axes
    found = drifts(lambda p: p[x] * p[y] ** 2 * (1 + p[time]), (MASS,), box, time=0, times=3)
    assert found["mass"].values == pytest.approx([1 / 3, 2 / 3, 1.0], rel=1e-13)
    assert found["mass"].drift == pytest.approx(2.0, rel=1e-13)


def test_a_quadrature_that_does_not_resolve_the_field_says_so() -> None:
    """512 nodes see the mean of 256 waves, half of them see the crests alone."""
    found = drifts(lambda p: 1 + torch.cos(256 * p[X]), (MASS,), times=2)["mass"]
    assert found.drift < 1e-12
    assert found.quadrature > 0.5


def test_nothing_to_be_relative_to_is_nan() -> None:
    assert math.isnan(drifts(lambda p: 0.0 * p[X], (MASS,), times=2)["mass"].drift)


def test_errors_name_what_is_wrong() -> None:
    def none(p):
        return 0.0 * p[X]

    with pytest.raises(ValueError, match="times=1 must be at least 2"):
        drifts(none, (MASS,), times=1)
    with pytest.raises(ValueError, match=r"must differ, got \['mass', 'mass'\]"):
        drifts(none, (MASS, MASS))
    line = Box(t=(0, 1))
    with pytest.raises(ValueError, match="one to 4 axes beside time, this domain has 0"):
        drifts(lambda p: p[line.axes[0]], (MASS,), line, time=0)
    with pytest.raises(ValueError, match="needs a Box"):
        conservation(SimpleNamespace(domain="disc"), None, None, (MASS,), 0)
    for given, message in (
        ({"name": ""}, "name='' must be a non-empty string"),
        ({"density": 3}, r"Conserved\('m'\): density=3 must be a function"),
        ({"scale": 0.0}, r"scale=0.0 must be finite and > 0"),
        ({"scale": math.inf}, r"scale=inf must be finite and > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Conserved(**({"name": "m", "density": MASS.density} | given))
