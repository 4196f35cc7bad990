"""The equations that come with the package have the solutions that they say they have."""

import inspect
import math
from math import pi

import pytest
import torch

import sngd.problems
from sngd.jet import Jet
from sngd.points import Points
from sngd.problems import (
    beam,
    burgers,
    elasticity,
    heat,
    heat4d,
    helmholtz,
    inverse_conductivity,
    inverse_diffusion,
    inverse_navier_stokes,
    log_fokker_planck,
    nonlinear,
    poisson2d,
    poisson5d,
    poisson10d,
    poisson100d,
    taylor_green,
    transport,
    vibrating_beam,
    wave,
)
from sngd.problems.burgers import cole_hopf
from tests.reference import partial

CLOSED_FORM = {
    "beam": beam(),
    "elasticity": elasticity(lame=1.5, shear=0.7),
    "heat": heat(),
    "heat4d": heat4d(),
    "helmholtz": helmholtz(),
    "inverse_conductivity": inverse_conductivity(measurements=400),
    "inverse_diffusion": inverse_diffusion(measurements=400),
    "inverse_navier_stokes": inverse_navier_stokes(measurements=400),
    "log_fokker_planck": log_fokker_planck(),
    "nonlinear": nonlinear(),
    "poisson2d": poisson2d(),
    "poisson5d": poisson5d(),
    "poisson10d": poisson10d(),
    "poisson100d": poisson100d(),
    "taylor_green": taylor_green(),
    "transport": transport(),
    "vibrating_beam": vibrating_beam(),
    "wave": wave(modes={1: 1.0, 4: 0.5}),
}
# tests/unit/test_references.py
REFERENCES = {"allen_cahn", "cavity", "gray_scott", "kdv", "kuramoto_sivashinsky", "schroedinger"}
POINTS = 400
# Rounding: terms of the residual reach this much beyond 1, and there are as many of them.
SCALE = {"log_fokker_planck": 100.0, "poisson100d": 100.0}


def _points(problem, number):
    condition = problem.conditions[number]
    x = condition.region.sample(0, POINTS, (11, 0, number), "uniform")
    known = {name: x.new_full((POINTS,), c.exact) for name, c in problem.unknowns.items()}
    return Points(x, condition.region.columns, known)


def _largest(residual):
    """The largest value of a residual with one component or several."""
    parts = residual if isinstance(residual, tuple) else (residual,)
    values = [part.value if isinstance(part, Jet) else part for part in parts]
    assert all(value.shape == (POINTS,) for value in values)
    return max(float(value.abs().max()) for value in values)


def _cases():
    return [(name, i) for name, problem in CLOSED_FORM.items() for i in range(len(problem.conditions))]


def test_every_problem_is_tested_here():
    assert set(sngd.problems.__all__) == {*CLOSED_FORM, *REFERENCES, "burgers"}


@pytest.mark.parametrize(("name", "number"), _cases())
def test_solutions_in_closed_form_satisfy_their_conditions(name, number):
    problem = CLOSED_FORM[name]
    p = _points(problem, number)
    u = problem.solution(p)
    assert all(isinstance(field, Jet) for field in (u if isinstance(u, tuple) else (u,)))
    assert _largest(problem.conditions[number].residual(u, p)) < 1e-12 * SCALE.get(name, 1.0)


@pytest.mark.parametrize(("name", "number"), _cases())
def test_another_function_does_not_satisfy_the_conditions(name, number):
    """So that the test above could fail: the solution with a ramp on top of every field."""
    problem = CLOSED_FORM[name]
    p = _points(problem, number)
    u, ramp = problem.solution(p), 1e-3 * torch.exp(p[problem.domain.axes[0]])
    u = tuple(field + ramp for field in u) if isinstance(u, tuple) else u + ramp
    assert _largest(problem.conditions[number].residual(u, p)) > 1e-4


def test_many_dimensions_take_the_channels_of_a_collapsed_laplacian():
    """The value, one first derivative per coordinate and one Laplacian; other conditions the value alone."""
    for name, dim in [
        ("poisson5d", 5),
        ("poisson10d", 10),
        ("poisson100d", 100),
        ("heat4d", 5),
        ("log_fokker_planck", 10),
    ]:
        problem = CLOSED_FORM[name]
        assert problem.domain.dim == dim
        equation, *others = (len(signature.channels) for signature in problem.signatures)
        assert equation == dim + 2
        assert set(others) == {1}


def test_solutions_in_many_dimensions_are_those_of_the_literature():
    def at(problem, *numbers):
        return float(problem.reference(torch.tensor([numbers], dtype=torch.float64)))

    assert at(poisson5d(), 0, 1, 0.5, 0, 0) == pytest.approx(1 - 1 + 0 + 1 + 1, abs=1e-15)
    assert at(poisson10d(), *range(1, 11)) == 1 * 2 + 3 * 4 + 5 * 6 + 7 * 8 + 9 * 10
    assert at(poisson100d(), *[0.5] * 100) == 25
    assert at(heat4d(), 0.1, 0.2, 0.3, 0.4, 0.7) == pytest.approx(
        math.exp(-0.7) * sum(math.sin(2 * x) for x in (0.1, 0.2, 0.3, 0.4))
    )
    variance = 2 - math.exp(-0.5)
    density = torch.distributions.MultivariateNormal(torch.zeros(3), variance * torch.eye(3))
    x = torch.tensor([0.5, -2.0, 4.0])
    assert at(log_fokker_planck(3), *x.tolist(), 0.5) == pytest.approx(float(density.log_prob(x)), rel=1e-5)


@pytest.mark.parametrize("dim", [0, -1, 2.0])
def test_an_impossible_dimension_is_refused(dim):
    with pytest.raises(ValueError, match=f"dim={dim} must be a whole number"):
        log_fokker_planck(dim)


@pytest.mark.parametrize("viscosity", [0.003, 0.01, 0.05])
def test_the_cole_hopf_solution_solves_burgers_equation(viscosity):
    problem = burgers(viscosity)
    points = _points(problem, 0).values
    points[:, 1] = 0.05 + 0.95 * points[:, 1]  # the derivative of √t does not exist at 0
    x = points.clone().requires_grad_()
    u = cole_hopf(x[:, 0], x[:, 1], viscosity)
    residual = partial(u, x, 1) + u * partial(u, x, 0) - viscosity * partial(u, x, 0, 0)
    scale = partial(u, x, 1).abs().max()  # up to 150 in the shock layer
    assert float((residual.abs().max() / scale).detach()) < 1e-9


def test_the_cole_hopf_solution_starts_as_the_sine_and_repeats():
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(cole_hopf(x, 0 * x, 0.01), -torch.sin(pi * x), rtol=0, atol=1e-14)
    t = torch.full_like(x, 0.6)
    torch.testing.assert_close(cole_hopf(x, t, 0.01), cole_hopf(x + 2, t, 0.01), rtol=0, atol=1e-12)
    torch.testing.assert_close(cole_hopf(x, t, 0.01), -cole_hopf(-x, t, 0.01), rtol=0, atol=1e-12)


def test_128_quadrature_nodes_are_enough_at_the_configured_viscosity():
    points = burgers().domain.interior.sample(0, 4000, (3, 0, 0), "uniform")
    few, many = (cole_hopf(points[:, 0], points[:, 1], 0.01, nodes) for nodes in (128, 200))
    assert float((few - many).abs().max()) < 1e-14
    rough = cole_hopf(points[:, 0], points[:, 1], 0.01, 16)
    assert float((rough - many).abs().max()) > 1e-6


@pytest.mark.parametrize("viscosity", [0.01 / pi, 0.002])
def test_128_quadrature_nodes_are_enough_near_the_shock_of_lower_viscosities(viscosity):
    """Against a sum over equidistant nodes, which converges faster than any power of their distance."""
    points = burgers().domain.interior.sample(0, 1000, (3, 0, 0), "uniform")
    x, t = 0.1 * points[:, 0], points[:, 1]
    s = torch.linspace(-14, 14, 3000, dtype=torch.float64)
    eta = x[:, None] - torch.sqrt(4 * viscosity * t)[:, None] * s
    exponent = -torch.cos(pi * eta) / (2 * pi * viscosity) - s * s
    f = torch.exp(exponent - exponent.amax(1, keepdim=True))
    exact = -(torch.sin(pi * eta) * f).sum(1) / f.sum(1)
    assert float((cole_hopf(x, t, viscosity) - exact).abs().max()) < 2e-14
    assert float((cole_hopf(x, t, viscosity, 64) - exact).abs().max()) > 1e-11


def test_where_the_quadrature_is_too_coarse_there_is_no_solution():
    assert burgers(0.002).solution is not None
    assert burgers(0.001).solution is None


def test_the_solution_of_the_burgers_problem_is_the_cole_hopf_solution():
    problem = burgers(0.02)
    x = problem.domain.interior.sample(0, 50, (3, 0, 0))
    want = cole_hopf(x[:, 0], x[:, 1], 0.02)
    torch.testing.assert_close(problem.reference(x)[:, 0], want)


@pytest.mark.parametrize("name", sngd.problems.__all__)
def test_points_are_what_was_asked_for(name):
    function = getattr(sngd.problems, name)
    counts = [
        p
        for p in inspect.signature(function).parameters
        if p in ("interior", "initial", "walls", "boundary", "gauge", "measurements")
    ]
    asked = {parameter: 10 + number for number, parameter in enumerate(counts)}
    problem = function(**asked)
    assert sorted(c.points for c in problem.conditions) == sorted(asked.values())
    assert problem.name == name
    assert inspect.getdoc(function)


def test_the_weight_of_burgers_equation_is_the_equations():
    problem = burgers(weight=0.125)
    assert [c.weight for c in problem.conditions] == [0.125, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wave(speed=-1), "speed=-1 must be positive"),
        (lambda: wave(modes={}), "modes={} must map whole numbers"),
        (lambda: wave(modes={0: 1.0}), "must map whole numbers"),
        (lambda: wave(modes={1.5: 1.0}), "must map whole numbers"),
        (lambda: helmholtz(waves=(1,)), r"waves=\(1,\) must be two whole numbers"),
        (lambda: helmholtz(waves=(0, 4)), "must be two whole numbers"),
        (lambda: helmholtz(waves=(1.0, 4)), "must be two whole numbers"),
        (lambda: elasticity(lame=-1.0), "lame=-1.0 must be ≥ 0"),
        (lambda: elasticity(shear=0.0), "shear=0.0 must be positive"),
        (lambda: burgers(viscosity=0.0), "viscosity=0.0 must be positive"),
        (lambda: taylor_green(viscosity=0), "viscosity=0 must be positive"),
        (lambda: sngd.problems.kdv(dispersion=0), "dispersion=0 must be positive"),
        (lambda: sngd.problems.schroedinger("soliton"), "start='soliton' must be"),
        (lambda: sngd.problems.kuramoto_sivashinsky(until=1.0), "until=1.0 must be > 0 and ≤ 0.4"),
    ],
)
def test_impossible_constants_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
