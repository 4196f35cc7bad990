"""What is known in closed form where solutions are not smooth: Allen–Cahn's kink, the cavity's corners."""

import pytest
import torch

from sngd import d, laplacian
from sngd.points import Points
from sngd.problems import allen_cahn, cavity
from sngd.problems.allen_cahn import kink
from sngd.problems.cavity import REYNOLDS
from sngd.problems.corner import corner_flow

X, T = allen_cahn().domain.axes


def _points(n, generator=3):
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(generator))


def test_the_kink_as_a_field_satisfies_its_linear_equation_and_has_the_values_of_the_tensors():
    x = _points(200) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])
    p = Points(x)
    s = kink(p[X], p[T])
    residual = d(s, T) - 1e-4 * d(s, X, X) + 10 * s
    assert float(residual.value.abs().max()) < 1e-11
    assert float(d(s, T).value.abs().max()) > 1
    torch.testing.assert_close(s.value, kink(x[:, 0], x[:, 1]), rtol=0, atol=1e-13)


def test_the_kink_starts_from_the_distance_to_the_seam():
    x = torch.tensor([-1.0, -0.7, 0.0, 0.4, 1.0], dtype=torch.float64)
    y = 1 - x.abs()
    torch.testing.assert_close(kink(x, torch.zeros_like(x)), 2 * y - y * y, rtol=0, atol=1e-9)


def test_allen_cahn_without_its_kink_is_the_same_field_for_the_conditions():
    plain, rest = allen_cahn(), allen_cahn(subtract_kink=True)
    p = Points(_points(50))
    smooth = 0.3 * torch.cos(torch.pi * p[X]) * (1 + p[T])
    u = rest.ansatz(smooth, p)
    torch.testing.assert_close(u.value, smooth.value + kink(p[X].value, p[T].value))
    for mine, other in zip(rest.conditions, plain.conditions, strict=True):
        torch.testing.assert_close(mine.residual(u, p).value, other.residual(u, p).value)
    assert rest.domain.even == (0,)
    assert plain.domain.even == ()


def test_the_corner_flow_as_fields_is_free_of_divergence_and_has_the_values_of_the_tensors():
    x = _points(200)
    p = Points(x)
    flow = corner_flow(p[X], p[T], REYNOLDS)
    u, v, _ = flow
    assert float((d(u, X) + d(v, T)).value.abs().max()) < 1e-9 * float(d(u, X).value.abs().max())
    for field, values in zip(flow, corner_flow(x[:, 0], x[:, 1], REYNOLDS), strict=True):
        torch.testing.assert_close(field.value, values)


@pytest.mark.parametrize("left", [True, False])
def test_near_a_corner_momentum_stays_bounded_where_friction_does_not(left):
    """Towards both corners: 1/r² friction against pressure and inertia of two terms, which leave O(1)."""
    r = torch.logspace(-5, -2, 20, dtype=torch.float64)
    along, down = 0.8 * r, 0.6 * r
    p = Points(torch.stack([along if left else 1 - along, 1 - down], dim=1))
    u, v, pressure = corner_flow(p[X], p[T], REYNOLDS)
    friction = laplacian(u) / REYNOLDS
    momentum = u * d(u, X) + v * d(u, T) + d(pressure, X) - friction
    assert float(momentum.value.abs().max()) < 10
    assert float(friction.value.abs().max()) > 1e4


def test_only_the_uniform_lid_has_corners_to_subtract():
    with pytest.raises(ValueError, match="subtract_corners=True"):
        cavity(lid="regularised", subtract_corners=True)
