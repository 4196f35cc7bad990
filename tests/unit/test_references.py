"""Stored references solve the equations that they stand for, to the tolerance that they state."""

import itertools
from math import pi

import numpy as np
import pytest
import torch

from references import cavity as flow
from references import equations
from references.spectral import chebyshev, fourier, lobatto, march
from sngd.jet import Jet
from sngd.points import Points
from sngd.problems import allen_cahn, cavity, gray_scott, kdv, kuramoto_sivashinsky, reference, schroedinger
from sngd.problems.corner import corner_flow
from sngd.problems.reference import load_reference
from tests.reference import partial

EVOLUTIONS = {
    "allen_cahn": allen_cahn,
    "gray_scott": gray_scott,
    "kdv": kdv,
    "kuramoto_sivashinsky": kuramoto_sivashinsky,
    "schroedinger": schroedinger,
}
NAMES = [*EVOLUTIONS, "cavity_regularised", "cavity_uniform"]
# Derivatives multiply the error of the series by wave numbers: 2⁻⁴⁶ γ 150⁴ is 1e-8 for one coefficient of
# u_xxxx.
RESIDUAL = dict.fromkeys(EVOLUTIONS, 1e-8) | {"kuramoto_sivashinsky": 1e-6}


def _fields(problem, x):
    """The solution at points as jets differentiated by autograd, and the points."""
    x = x.clone().requires_grad_()
    values = problem.solution(Points(x))

    def jet(value):
        return Jet(lambda alpha: partial(value, x, *alpha), x.shape[1])

    fields = tuple(jet(v) for v in values) if isinstance(values, tuple) else jet(values)
    return fields, Points(x.detach())


def _residuals(problem, number, x):
    fields, p = _fields(problem, x)
    result = problem.conditions[number].residual(fields, p)
    parts = result if isinstance(result, tuple) else (result,)
    return torch.stack([part.value.detach() for part in parts])


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_and_say_what_they_are(name):
    stored = load_reference(name)
    assert (reference._FOLDER / f"{name}.npz").stat().st_size < 300_000
    assert 0 < stored.tolerance < (2e-3 if name == "cavity_uniform" else 1e-5)
    assert "differ by" in stored.method


# ---------------------------------------------------------------------------------------------
# The solvers
# ---------------------------------------------------------------------------------------------


def test_transforms_give_back_polynomials_and_waves():
    t = lobatto(6, 1.0, 3.0)
    values = np.polynomial.chebyshev.chebval(t - 2, [1.0, -2, 0, 3, 0.5, 0, 4])
    np.testing.assert_allclose(chebyshev(values), [1, -2, 0, 3, 0.5, 0, 4], atol=1e-13)
    x = 2 * pi * np.arange(16) / 16
    waves = np.fft.rfft(2 + 3 * np.cos(x) - np.sin(2 * x)) / 16
    np.testing.assert_allclose(fourier(waves, 3), [2, 3, 0, 0, -1, 0, 0], atol=1e-14)


def test_the_march_is_of_fourth_order_and_exact_without_a_nonlinear_part():
    """The logistic equation v' = v − v², half of it in the linear part."""
    linear, start = np.array([0.5]), np.array([0.1])
    exact = 1 / (1 + 9 * np.exp(-2.0))

    def error(h):
        return abs(march(linear, lambda v, t: 0.5 * v - v * v, start, [0.0, 2.0], h)[-1][0] - exact)

    assert 12 < error(0.1) / error(0.05) < 20
    free = march(np.array([-3 + 2j]), lambda v, t: 0 * v, np.array([1.0 + 0j]), [0.0, 1.0], 0.5)[-1]
    np.testing.assert_allclose(free, np.exp([-3 + 2j]), rtol=1e-14)


def test_a_coarse_run_comes_to_the_stored_solution_with_fourth_order():
    case, stored = equations.kdv(), load_reference("kdv")
    times = np.array([0.0, 0.137, 0.3])
    t, x = (torch.from_numpy(a.ravel()) for a in np.meshgrid(times, case.grid(256), indexing="ij"))
    want = stored(x, t)[0].numpy().reshape(3, 256)

    def error(h):
        return np.abs(case.run(256, times, h)[..., 0] - want).max()

    assert 12 < error(1e-3) / error(5e-4) < 24
    assert error(1e-4) < 1e-9


def test_the_tolerance_is_found_again():
    """At half of the resolution in space and time, and times at which nothing is stored."""
    case, stored = equations.gray_scott(), load_reference("gray_scott")
    times = np.array([0.0, 0.0567, 0.1])
    run = case.run(256, times, 1e-4)
    t, x = (torch.from_numpy(a.ravel()) for a in np.meshgrid(times, case.grid(256), indexing="ij"))
    got = torch.stack(stored(x, t), -1).numpy().reshape(run.shape)
    assert np.abs(run - got).max() <= stored.tolerance


# ---------------------------------------------------------------------------------------------
# Equations of evolution
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVOLUTIONS)
def test_references_satisfy_their_equations_between_the_nodes(name):
    problem = EVOLUTIONS[name]()
    x = problem.domain.interior.sample(0, 100, (5, 0, 0), "uniform")
    if name == "allen_cahn":
        x[:, 1] = 0.02 + 0.98 * x[:, 1]
    assert float(_residuals(problem, 0, x).abs().max()) < RESIDUAL[name]


@pytest.mark.parametrize("name", EVOLUTIONS)
def test_references_start_as_the_problem_says(name):
    problem, stored = EVOLUTIONS[name](), load_reference(name)
    x = problem.domain.face(t=0).sample(0, 300, (5, 0, 1), "uniform")
    largest = float(problem.reference(x).abs().max())
    p = Points(x)
    result = problem.conditions[1].residual(problem.solution(p), p)
    parts = result if isinstance(result, tuple) else (result,)
    values = [part.value if isinstance(part, Jet) else part for part in parts]
    assert max(float(v.abs().max()) for v in values) <= 5 * stored.tolerance * largest


def _on_a_grid(problem, size=512):
    """Values and x-derivatives at three times, (fields, 3, size); means over x are spectral integrals."""
    low, high = problem.domain.bounds[0]
    times = problem.domain.bounds[1][1] * torch.tensor([0.0, 0.317, 1.0], dtype=torch.float64)
    x = low + (high - low) * torch.arange(size, dtype=torch.float64) / size
    points = torch.cartesian_prod(times, x).flip(1)
    values = problem.reference(points).T.reshape(len(problem.fields), 3, size)
    k = 2 * pi / (high - low) * torch.arange(size // 2 + 1, dtype=torch.float64)
    return values, torch.fft.irfft(1j * k * torch.fft.rfft(values), size)


def _constant(quantity, tolerance):
    means = quantity.mean(-1)
    return float((means - means[0]).abs().max()) < tolerance


def test_invariants_are_conserved():
    (u,), _ = _on_a_grid(kdv())
    assert _constant(u, 1e-12)
    assert _constant(u**2, 1e-12)
    (u,), _ = _on_a_grid(kuramoto_sivashinsky())
    assert _constant(u, 1e-10)
    (u, v), (u_x, v_x) = _on_a_grid(schroedinger())
    mass = u**2 + v**2
    assert _constant(mass, 1e-11)
    assert _constant(u_x**2 + v_x**2 - mass**2, 1e-11)
    assert not _constant(u_x**2 + v_x**2, 1e-2)


def test_the_pulse_of_schroedingers_equation_is_near_the_breather_of_the_line():
    """|h(0, t)| of the breather on the whole line is 2 at t = 0, 4 at π/4, and 2 again at π/2."""
    x = torch.tensor([[0.0, 0.0], [0.0, pi / 4], [0.0, pi / 2]], dtype=torch.float64)
    torch.testing.assert_close(
        schroedinger().reference(x).norm(dim=1).tolist(), [2.0, 4.0, 2.0], rtol=0, atol=4e-3
    )


@pytest.mark.parametrize("problem", [kdv(dispersion=0.022**2), schroedinger("sech")])
def test_without_a_reference_there_is_no_solution(problem):
    assert problem.solution is None


def test_the_two_starts_of_schroedingers_equation_differ_at_the_seam():
    x = torch.tensor([[0.0, 0.0], [5.0, 0.0]], dtype=torch.float64)
    p, zero = Points(x), Jet(lambda alpha: 0 * x[:, 0], 2)
    images, alone = (
        schroedinger(start).conditions[1].residual((zero, zero), p)[0].value for start in ("images", "sech")
    )
    torch.testing.assert_close(alone, -2 / torch.cosh(x[:, 0]))
    torch.testing.assert_close(images[1], 2 * alone[1], rtol=1e-4, atol=0)


# ---------------------------------------------------------------------------------------------
# The cavity
# ---------------------------------------------------------------------------------------------

# Ghia, Ghia and Shin 1982, tables I and II, Re = 100: (y, u) on x = ½ and (x, v) on y = ½, from second-order
# differences on 129² nodes. Their extrema are 2 to 4 per cent short of those of later spectral solutions.
GHIA_U = [(0.1719, -0.10150), (0.2813, -0.15662), (0.4531, -0.21090), (0.5, -0.20581), (0.6172, -0.13641)]
GHIA_U += [(0.7344, 0.00332), (0.8516, 0.23151), (0.9531, 0.68717), (0.9766, 0.84123)]
GHIA_V = [(0.0625, 0.09233), (0.1563, 0.16077), (0.2344, 0.17527), (0.5, 0.05454), (0.8047, -0.24533)]
GHIA_V += [(0.9063, -0.16914), (0.9688, -0.05906)]


def test_the_cavity_agrees_with_tabulated_velocities():
    problem = cavity()
    y, u = torch.tensor(GHIA_U, dtype=torch.float64).T
    x, v = torch.tensor(GHIA_V, dtype=torch.float64).T
    half = torch.full((16,), 0.5, dtype=torch.float64)
    got_u = problem.reference(torch.stack([half[: len(y)], y], 1))[:, 0]
    got_v = problem.reference(torch.stack([x, half[: len(x)]], 1))[:, 1]
    torch.testing.assert_close(got_u, u, rtol=0, atol=0.006)
    torch.testing.assert_close(got_v, v, rtol=0, atol=0.010)


@pytest.mark.parametrize("lid", ["uniform", "regularised"])
def test_the_cavity_meets_its_conditions(lid):
    problem = cavity(lid)
    walls = problem.conditions[1].region.sample(0, 400, (5, 0, 1), "uniform")
    assert float(_residuals(problem, 1, walls).abs().max()) < 1e-10
    corner = problem.conditions[2].region.sample(0, 2, (5, 0, 2))
    assert float(_residuals(problem, 2, corner).abs().max()) < 1e-10


@pytest.mark.parametrize(("lid", "bound"), [("uniform", 2e-3), ("regularised", 1e-5)])
def test_the_cavity_satisfies_the_equations(lid, bound):
    """Root mean squares away from the lid's corners, where derivatives grow like 1/r."""
    problem = cavity(lid)
    x = problem.domain.interior.sample(0, 400, (5, 0, 0), "uniform")
    x[:, 1] *= 0.9
    momentum_x, momentum_y, divergence = _residuals(problem, 0, x)
    assert float(momentum_x.square().mean().sqrt()) < bound
    assert float(momentum_y.square().mean().sqrt()) < bound
    assert float(divergence.abs().max()) < 1e-9


@pytest.mark.parametrize("known", [flow.uniform, flow.regularised])
def test_the_known_part_of_the_stream_function_and_its_derivatives(known):
    """Central differences of each derivative are the next one."""
    x, y, h = np.array([[0.3], [0.8]]), np.array([[0.25, 0.6]]), 1e-5
    for a, b in itertools.product(range(3), range(2)):
        along = (known(a, b, x + h, y) - known(a, b, x - h, y)) / (2 * h)
        up = (known(a, b, x, y + h) - known(a, b, x, y - h)) / (2 * h)
        np.testing.assert_allclose(known(a + 1, b, x, y), along, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(known(a, b + 1, x, y), up, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("side", [0, 1])
def test_the_flow_of_the_corners_solves_the_equations_up_to_bounded_terms(side):
    """The advection grows like 1/r towards a corner, what the equations leave does not."""
    left = []
    for r in (1e-2, 1e-4):
        angle = torch.linspace(0.1, 1.5, 7, dtype=torch.float64)
        x = r * torch.cos(angle)
        points = torch.stack([1 - x if side else x, 1 - r * torch.sin(angle)], 1).requires_grad_()
        u, v, p = corner_flow(points[:, 0], points[:, 1], 100.0)
        for axis, w in enumerate((u, v)):
            advection = u * partial(w, points, 0) + v * partial(w, points, 1)
            friction = (partial(w, points, 0, 0) + partial(w, points, 1, 1)) / 100
            left.append(float((advection + partial(p, points, axis) - friction).detach().abs().max()))
            assert float(advection.detach().abs().max()) > 0.1 / r
    assert max(left) < 3


def test_few_polynomials_give_nearly_the_stored_flow():
    stored = load_reference("cavity_regularised")
    few = flow.Cavity(flow.regularised, 12, 32)
    u, _ = few.velocities()
    grid = np.linspace(0.1, 0.9, 9)
    got = np.polynomial.chebyshev.chebgrid2d(2 * grid - 1, 2 * grid - 1, u)
    got += flow.regularised(0, 1, grid[:, None], grid[None])
    x, y = (torch.from_numpy(a.ravel()) for a in np.meshgrid(grid, grid, indexing="ij"))
    np.testing.assert_allclose(got.ravel(), stored(x, y)[0].numpy(), atol=3e-4)


def test_an_unknown_lid_is_refused():
    with pytest.raises(ValueError, match="lid='smooth' must be"):
        cavity("smooth")
