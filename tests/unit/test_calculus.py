from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from sngd import Ball, Box, Condition, Points, Problem
from sngd.calculus import advection, curl, d, divergence, dot, gradient, laplacian, normal_derivative
from sngd.jet import Jet
from tests.reference import partial, relative_error

SPACE = Box(x=(0, 1), y=(0, 1), z=(0, 1), t=(0, 1))
X, Y, Z, T = SPACE.axes
POINTS = torch.rand(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
NUMBERS = torch.linspace(-1.0, 2.0, 5, dtype=torch.float64)


def functions(x: Tensor) -> list[Tensor]:
    """Three components without a symmetry that would hide a wrong sign or axis."""
    a, b, c, t = x.unbind(1)
    return [
        torch.sin(a + 2 * b) * torch.exp(c * t),
        a * b**2 + torch.cos(3 * c) * t,
        torch.exp(a - b) * c**3 + t * b,
    ]


def vector() -> tuple[Jet, ...]:
    x = POINTS.clone().requires_grad_()
    return tuple(Jet(lambda alpha, i=i: partial(functions(x)[i], x, *alpha).detach(), 4) for i in range(3))


def plain() -> tuple[list[Tensor], Tensor]:
    x = POINTS.clone().requires_grad_()
    return functions(x), x


def assert_equal(got, want: Tensor) -> None:
    assert relative_error(got.value if isinstance(got, Jet) else got, want.detach()) < 1e-12


def test_gradient_has_a_component_per_axis() -> None:
    (u, *_), x = plain()
    mine = vector()[0]
    assert len(gradient(mine)) == 4
    for axes in (None, (Z, X)):
        got = gradient(mine, axes)
        numbers = range(4) if axes is None else [a.index for a in axes]
        for component, i in zip(got, numbers, strict=True):
            assert_equal(component, partial(u, x, i))


def test_divergence_follows_the_order_of_the_axes() -> None:
    (u, v, w), x = plain()
    assert_equal(divergence(vector(), (X, Y, Z)), partial(u, x, 0) + partial(v, x, 1) + partial(w, x, 2))
    assert_equal(
        divergence(list(vector()), (Z, T, Y)), partial(u, x, 2) + partial(v, x, 3) + partial(w, x, 1)
    )


def test_divergence_of_the_gradient_is_the_laplacian() -> None:
    u = vector()[0]
    assert_equal(divergence(gradient(u)), laplacian(u).value)
    k = 1 + vector()[1] ** 2
    flux = tuple(k * g for g in gradient(u, (X, Y)))
    assert_equal(
        divergence(flux, (X, Y)), (k * laplacian(u, (X, Y)) + d(k, X) * d(u, X) + d(k, Y) * d(u, Y)).value
    )


def test_curl_in_two_and_three_dimensions() -> None:
    (u, v, w), x = plain()
    first, second, third = vector()
    assert_equal(curl((first, second), (X, Y)), partial(v, x, 0) - partial(u, x, 1))
    wanted = (
        partial(w, x, 1) - partial(v, x, 2),
        partial(u, x, 2) - partial(w, x, 0),
        partial(v, x, 0) - partial(u, x, 1),
    )
    for got, want in zip(curl((first, second, third), (X, Y, Z)), wanted, strict=True):
        assert_equal(got, want)


def test_identities_of_vector_calculus() -> None:
    """∇·(∇×v) = 0 and ∇×∇u = 0, by mixed third and second derivatives."""
    v, axes = vector(), (X, Y, Z)
    scale = float(d(v[0], X, Y).value.abs().max())
    assert float(divergence(curl(v, axes), axes).value.abs().max()) < 1e-12 * scale
    for component in curl(gradient(v[0], axes), axes):
        assert float(component.value.abs().max()) < 1e-12 * scale


def test_advection_of_fields_and_vectors_by_fields_tensors_and_numbers() -> None:
    (u, v, w), x = plain()
    first, second, third = vector()
    want = u * partial(w, x, 0) + v * partial(w, x, 1)
    assert_equal(advection((first, second), third, (X, Y)), want)
    want = 2.0 * partial(w, x, 2) + NUMBERS * partial(w, x, 0)
    assert_equal(advection((2.0, NUMBERS), third, (Z, X)), want)
    both = advection((first, second), (first, second), (X, Y))
    assert isinstance(both, tuple)
    for got, f in zip(both, (u, v), strict=True):
        assert_equal(got, u * partial(f, x, 0) + v * partial(f, x, 1))


def test_dot_of_whatever_can_be_multiplied() -> None:
    (u, v, w), _ = plain()
    assert_equal(dot(vector(), (2.0, NUMBERS, vector()[0])), 2 * u + NUMBERS * v + w * u)
    assert_equal(dot((NUMBERS, NUMBERS), (NUMBERS, NUMBERS)), 2 * NUMBERS**2)


def test_normal_derivative_is_the_slope_along_the_normal() -> None:
    (u, *_), x = plain()
    normal = torch.randn(5, 4, dtype=torch.float64)
    p = SimpleNamespace(normal=tuple(normal.unbind(1)))
    want = sum(normal[:, i] * partial(u, x, i) for i in range(4))
    assert_equal(normal_derivative(vector()[0], p), want)


def test_a_problem_in_vector_form_takes_the_channels_that_it_needs() -> None:
    """Navier–Stokes in two dimensions: values, three first derivatives and a Laplacian."""
    box = Box(x=(0, 1), y=(0, 1), t=(0, 1))
    space, time = box.axes[:2], box.axes[2]

    def equations(w, p):
        *velocity, pressure = w
        slopes = gradient(pressure, space)
        carried = advection(velocity, velocity, space)
        momentum = tuple(
            d(v, time) + c + g - 0.1 * laplacian(v, space)
            for v, c, g in zip(velocity, carried, slopes, strict=True)
        )
        return *momentum, divergence(velocity, space)

    problem = Problem(box, [Condition("equations", equations, box.interior, 8)], fields=("u", "v", "p"))
    assert problem.signatures[0].components == 3
    assert len(problem.signatures[0].channels) == 5


def test_errors_name_what_is_wrong() -> None:
    u, v, w = vector()
    for call, message in (
        (
            lambda: divergence((u, v), (X, Y, Z)),
            r"divergence\(vector, axes\).*vector has 2 for 3 axes \(x, y, z\)",
        ),
        (lambda: divergence((u, v)), r"vector has 2 for 4 axes \(0, 1, 2, 3\)"),
        (lambda: divergence(u, (X,)), r"needs a tuple of components, vector is Jet"),
        (lambda: divergence((u, NUMBERS), (X, Y)), r"needs fields, component 1 is a Tensor"),
        (lambda: divergence((), ()), r"needs a tuple of components"),
        (lambda: curl((u, v, w), (X, Y)), r"vector has 3 for 2 axes \(x, y\)"),
        (lambda: curl((u,), (X,)), r"needs two or three components, got 1"),
        (lambda: advection((u, v), w), r"velocity has 2 for 4 axes"),
        (lambda: advection(u, w), r"needs a tuple of components, velocity is Jet"),
        (lambda: advection((u,), NUMBERS, (X,)), r"needs a field u or a tuple of fields, got Tensor"),
        (lambda: dot((u, v), (u,)), r"a has 2, b has 1"),
        (lambda: dot(u, v), r"needs a tuple of components, a is Jet"),
        (lambda: gradient((u, v)), r"gradient\(u\) needs a field, got tuple"),
        (lambda: gradient(u, (X, 7)), r"axis 7 does not exist"),
        (lambda: normal_derivative(NUMBERS, None), r"needs a field, got Tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("domain", [Ball(x=1.0, y=-2.0, radius=0.5), Box(x=(0, 1), y=(0, 2))])
def test_normal_derivative_on_the_boundary_of_a_domain(domain) -> None:
    """A condition that asks for it gets points with normals; of |x − c|² it is 2 (x − c)·ν."""
    x, y = domain.axes
    exact = lambda p: (p[x] - 1.0) ** 2 + (p[y] + 2.0) ** 2  # noqa: E731
    flux = Condition("flux", lambda u, p: normal_derivative(u, p) - 1.0, domain.boundary(), 16)
    problem = Problem(domain, [flux])
    assert problem.signatures[0].channels == ((), (0,), (1,))
    region = problem.conditions[0].region
    p = Points(region.sample(0, 16, (0, 0, 0)), region.columns)
    got = normal_derivative(exact(p), p).value
    a, b = p.values.unbind(1)
    assert_equal(got, 2 * (a - 1.0) * p.normal[x] + 2 * (b + 2.0) * p.normal[y])
    if isinstance(domain, Ball):
        assert_equal(got, torch.ones(16, dtype=torch.float64))
