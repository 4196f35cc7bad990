"""Inverse problems: coefficients of an equation from measurements of its solution.

    inverse_diffusion       u_t = κ u_xx on [0, 1], 0 < t < 1, u = 0 at the walls; κ > 0 unknown
                            u = e^{−κπ²t} sin πx + ½ e^{−4κπ²t} sin 2πx, κ = 0.3

    inverse_conductivity    −(k(x) u_x)_x = f on [0, 1], u = 0 at both ends; k > 0 an unknown function
                            u = sin πx, k = 1 + ½ cos 2πx, known at x = 0

    inverse_navier_stokes   u_t + λ (u·∇) u = −∇p + ν Δu, div u = 0, periodic on [0, 2π]²; λ, ν and the
                            pressure unknown
                            Taylor–Green vortices on a mean flow (a, b):
                            u = a − cos ξ sin η e^{−2νt}, v = b + sin ξ cos η e^{−2νt},
                            p = −¼ (cos 2ξ + cos 2η) e^{−4νt}, ξ = x − a t, η = y − b t, λ = 1, ν = 0.05

The measurements are the solution at points of a low-discrepancy sequence, with independent normal noise where
asked for. Without the mean flow λ could not be told from the pressure: the vortices' (u·∇)u is a gradient.

Sources: Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks", J. Comput. Phys. 378, 2019
(unknown λ and ν from velocities alone); Taylor and Green 1937. Domains and values are our own.
"""

from __future__ import annotations

from math import pi, tau
from typing import Any

import torch
from torch import Tensor

from sngd.calculus import d, laplacian
from sngd.coefficient import Coefficient
from sngd.condition import Condition
from sngd.data import Data
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem

__all__ = ["inverse_conductivity", "inverse_diffusion", "inverse_navier_stokes"]

# Names the points of measurements and their noise, apart from the keys (seed, epoch, condition) of runs.
_KEY = (0x5EED, 0xDA7A)


def inverse_diffusion(
    measurements: int = 200, noise: float = 0.0, interior: int = 1200, weight: float = 1.0
) -> Problem:
    """The diffusion coefficient κ of a rod from measured temperatures.

    Args:
        measurements: number of points inside where u is known.
        noise: standard deviation of their errors, in units of the measured values' own.
        interior: collocation points of the equation.
        weight: of the equation.
    """
    domain = Box(x=(0, 1), t=(0, 1))
    X, T = domain.axes
    kappa = 0.3

    def solution(p: Points) -> Any:
        first = torch.exp(-kappa * pi**2 * p[T]) * torch.sin(pi * p[X])
        return first + torch.exp(-4 * kappa * pi**2 * p[T]) * torch.sin(2 * pi * p[X]) / 2

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T) - p["kappa"] * d(u, X, X)

    def walls(N: Jet, p: Points) -> Jet:
        return p[X] * (1 - p[X]) * N

    x = domain.interior.sample(0, measurements, _KEY)
    data = Data(domain, x, {"u": _measure(solution(Points(x)).value, noise)})
    conditions = [
        Condition("equation", equation, domain.interior, interior, weight=weight),
        Condition("measurements", lambda u, p: u - p.data["u"], data),
    ]
    return Problem(
        domain,
        conditions,
        ansatz=walls,
        coefficients={"kappa": Coefficient(1.0, lower=0.0, exact=kappa)},
        solution=solution,
        name="inverse_diffusion",
    )


def inverse_conductivity(
    measurements: int = 64, noise: float = 0.0, interior: int = 256, boundary: int = 1
) -> Problem:
    """A conductivity k(x) from a potential: fields u and k, for a network each.

    k u_x is known up to a constant, which its value at the left end fixes.

    Args:
        measurements: number of points inside where u is known.
        noise: standard deviation of their errors, in units of the measured values' own.
        interior: collocation points of the equation.
        boundary: copies of the end where k is known; raises no more than its weight.
    """
    domain = Box(x=(0, 1))
    (X,) = domain.axes

    def solution(p: Points) -> Any:
        return torch.sin(pi * p[X]), 1 + torch.cos(2 * pi * p[X]) / 2

    def flux(u: Any, k: Any) -> Jet:
        return k * d(u, X)

    def equation(w: Any, p: Points) -> Jet:
        u, k = w
        return d(flux(u, k), X) - d(flux(*solution(p)), X)

    def ansatz(outputs: Any, p: Points) -> tuple[Any, Any]:
        u, k = outputs
        return p[X] * (1 - p[X]) * u, torch.exp(k)

    x = domain.interior.sample(0, measurements, _KEY)
    data = Data(domain, x, {"u": _measure(solution(Points(x))[0].value, noise)})
    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("measurements", lambda w, p: w[0] - p.data["u"], data),
        Condition("left end", lambda w, p: w[1] - solution(p)[1], domain.face(x=0), boundary),
    ]
    return Problem(
        domain, conditions, fields=("u", "k"), ansatz=ansatz, solution=solution, name="inverse_conductivity"
    )


def inverse_navier_stokes(
    measurements: int = 1000, noise: float = 0.0, interior: int = 2000, gauge: int = 32
) -> Problem:
    """Advection and viscosity of a flow, and its pressure, from measured velocities.

    Args:
        measurements: number of points in space and time where u and v are known.
        noise: standard deviation of their errors, in units of the measured values' own.
        interior: collocation points of the equations.
        gauge: points on the line where the pressure is given.
    """
    domain = Box(x=(0, tau), y=(0, tau), t=(0, 1), periodic=("x", "y"))
    X, Y, T = domain.axes
    nu, drift = 0.05, (0.5, 0.25)

    def solution(p: Points) -> Any:
        xi, eta, decay = p[X] - drift[0] * p[T], p[Y] - drift[1] * p[T], torch.exp(-2 * nu * p[T])
        u = drift[0] - torch.cos(xi) * torch.sin(eta) * decay
        v = drift[1] + torch.sin(xi) * torch.cos(eta) * decay
        return u, v, -(torch.cos(2 * xi) + torch.cos(2 * eta)) * decay**2 / 4

    def momentum(w: Any, p: Points) -> tuple[Any, Any, Any]:
        u, v, pressure = w

        def balance(c: Jet, axis: Any) -> Any:
            advected = u * d(c, X) + v * d(c, Y)
            viscous = p["nu"] * laplacian(c, (X, Y))
            return d(c, T) + p["lambda"] * advected + d(pressure, axis) - viscous

        return balance(u, X), balance(v, Y), d(u, X) + d(v, Y)

    x = domain.interior.sample(0, measurements, _KEY)
    known = solution(Points(x))
    data = Data(domain, x, {"u": _measure(known[0].value, noise, 1), "v": _measure(known[1].value, noise, 2)})

    def level(w: Any, p: Points) -> Any:
        return w[2] - solution(p)[2]

    conditions = [
        Condition("equations", momentum, domain.interior, interior),
        Condition("measurements", lambda w, p: (w[0] - p.data["u"], w[1] - p.data["v"]), data),
        # the equations fix the pressure up to a function of time
        Condition("pressure", level, domain.face(x=0, y=0), gauge),
    ]
    return Problem(
        domain,
        conditions,
        fields=("u", "v", "p"),
        coefficients={
            "lambda": Coefficient(0.5, exact=1.0),
            "nu": Coefficient(0.2, lower=0.0, exact=nu),
        },
        solution=solution,
        name="inverse_navier_stokes",
    )


def _measure(values: Tensor, noise: float, key: int = 0) -> Tensor:
    """Values with independent normal errors."""
    generator = torch.Generator().manual_seed(key)
    errors = torch.randn(len(values), generator=generator, dtype=values.dtype)
    return values + noise * values.std() * errors
