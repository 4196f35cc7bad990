import math
import re

import numpy as np
import pytest
import torch

from sngd import MLP, Box, Condition, Problem, d
from sngd.composite import build_network
from sngd.norms import quantities_at, sobolev_errors
from tests.problems import inverse, parameters
from tests.reference import network_function, partial

DOMAIN = Box(x=(-1, 1), t=(0, 2))
X, T = DOMAIN.axes
POINTS = DOMAIN.interior.sample(0, 200, (1, 2, 3))


def problem(solution=None, ansatz=None, fields=("u",), domain=DOMAIN) -> Problem:
    zero = Condition("zero", lambda w, p: w if len(fields) == 1 else w[0], domain.interior, 5)
    return Problem(domain, [zero], fields=fields, solution=solution, ansatz=ansatz)


def exactly(function):
    """An ansatz whose fields are a function of the coordinates, whatever the network gives."""
    return lambda outputs, p: function(p) + 0.0 * outputs


def errors(solution, ansatz=None, **given):
    case = problem(solution, ansatz)
    network = build_network(case, MLP((4,)), 0)
    return sobolev_errors(case, network, network.initial, POINTS, **given)["u"]


def wave(p):
    return torch.sin(3 * p[X]) * torch.exp(-p[T])


def squared_slopes(values, x) -> float:
    return sum(float(partial(values, x, i).detach().norm() ** 2) for i in (0, 1))


def test_errors_of_a_network_equal_those_by_nested_autograd() -> None:
    case = problem(lambda p: (wave(p), torch.cos(p[X].value) * p[T].value ** 2), fields=("u", "v"))
    network = build_network(case, MLP((6, 5)), 0)
    theta = network.initial + 0.1
    got = sobolev_errors(case, network, theta, POINTS)
    x = POINTS.clone().requires_grad_()
    mine = network_function(network)(theta.detach(), x).unbind(1)
    exact = torch.sin(3 * x[:, 0]) * torch.exp(-x[:, 1]), torch.cos(x[:, 0]) * x[:, 1] ** 2
    for name, u, known in zip("uv", mine, exact, strict=True):
        e = u - known
        value, slope = float(e.detach().norm() ** 2), squared_slopes(e, x)
        size, steep = float(known.detach().norm() ** 2), squared_slopes(known, x)
        assert got[name].reason == ""
        assert got[name].seminorm == pytest.approx(math.sqrt(slope / steep), rel=1e-12)
        assert got[name].norm == pytest.approx(math.sqrt((value + slope) / (size + steep)), rel=1e-12)


def test_a_shift_has_no_seminorm_and_a_factor_has_both() -> None:
    shifted = errors(wave, exactly(lambda p: wave(p) + 0.25))
    assert shifted.seminorm == 0.0
    assert shifted.norm > 1e-2
    scaled = errors(wave, exactly(lambda p: 1.001 * wave(p)))
    assert scaled.seminorm == pytest.approx(1e-3, rel=1e-9)
    assert scaled.norm == pytest.approx(1e-3, rel=1e-9)


def test_the_gradient_over_some_axes() -> None:
    """u − u* = ε t changes in time alone."""
    shifted = exactly(lambda p: wave(p) + 0.01 * p[T])
    assert errors(wave, shifted, axes=(X,)).seminorm < 1e-14
    x, t = POINTS.unbind(1)
    want = 0.01 / float((torch.sin(3 * x) * torch.exp(-t)).square().mean().sqrt())
    assert errors(wave, shifted, axes=(T,)).seminorm == pytest.approx(want, rel=1e-12)


def test_known_slopes_by_jets_and_by_autograd_are_the_same() -> None:
    ansatz = exactly(lambda p: wave(p) + 0.01 * torch.cos(p[X]))
    by_jets = errors(wave, ansatz)
    by_autograd = errors(lambda p: torch.sin(3 * p.values[:, 0]) * torch.exp(-p.values[:, 1]), ansatz)
    assert by_autograd.norm == pytest.approx(by_jets.norm, rel=1e-12)
    assert by_autograd.seminorm == pytest.approx(by_jets.seminorm, rel=1e-12)


def test_known_slopes_that_are_not_to_be_had_are_none_with_the_reason() -> None:
    def by_numpy(p):
        return torch.from_numpy(np.sin(3 * p.values[:, 0].numpy()))

    def without_gradient(p):
        return torch.from_numpy(np.sin(3 * p.values[:, 0].detach().numpy()))

    cases = (
        (by_numpy, r"has no derivatives: .*numpy"),
        (without_gradient, r"has no derivatives: it is not made of p\[X\]"),
        (lambda p: torch.sin(p[X]) * torch.exp(-p[T].value), r"differ from its differences"),
        (lambda p: torch.sin(p.values[:, 0]) * torch.exp(-p.values[:, 1].detach()), r"differ from"),
        (lambda p: 0.0 * p[X] + 3.0, r"is constant"),
        (lambda p: torch.sqrt(0 * p[X]), r"not finite"),
    )
    for solution, reason in cases:
        found = errors(solution)
        assert (found.seminorm, found.norm) == (None, None)
        assert re.search(reason, found.reason), found.reason


def test_a_kink_of_the_known_solution_does_no_harm() -> None:
    found = errors(lambda p: abs(p[X] - 0.3), exactly(lambda p: 1.01 * abs(p[X] - 0.3)))
    assert found.seminorm == pytest.approx(0.01, rel=1e-9)


def test_without_a_solution_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(ValueError, match="has no solution"):
        errors(None)


def test_quantities_of_fields_with_ansatz_and_coefficients() -> None:
    case = inverse()
    network = build_network(case.problem, case.network, 0)
    theta = parameters(case.collocation())
    X, T = case.problem.domain.axes

    def quantities(w, p):
        u, k = w
        return [k * d(u, X), p["c"] * d(u, T), p["known"]]

    x = case.problem.domain.interior.sample(0, 9, (0, 0, 0))
    got = quantities_at(case.problem, network, theta, x, quantities, chunk=40)
    leaf = x.clone().requires_grad_()
    first, second, constants = network.parts
    split = first.parameters, second.parameters, constants.parameters
    one, two, raw = theta.split(split)
    u = leaf[:, 0] * (1 - leaf[:, 0]) * network_function(first)(one, leaf)[:, 0]
    k = network_function(second)(two, leaf)[:, 0]
    c = case.problem.coefficients["c"].value(raw[0])
    want = torch.stack([k * partial(u, leaf, 0), c * partial(u, leaf, 1), torch.full_like(u, 1.5)], dim=1)
    assert torch.allclose(got, want.detach(), rtol=1e-12, atol=1e-14)
    other = quantities_at(case.problem, network, theta, x, quantities, known={"known": 7.0})
    assert other[:, 2].tolist() == [7.0] * 9
    assert not got.requires_grad


def test_a_quantity_of_another_shape_is_refused() -> None:
    case = problem()
    network = build_network(case, MLP((4,)), 0)
    for quantity, found in ((lambda u, p: [u.value.sum()], r"\(\)"), (lambda u, p: [math.pi], "float")):
        with pytest.raises(ValueError, match=f"one number per point, shape .* got {found}"):
            quantities_at(case, network, network.initial, POINTS, quantity)
