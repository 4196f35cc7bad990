"""Burgers' equation, whose sine wave steepens into a shock layer.

    u_t + u u_x = ν u_xx,   x periodic on [−1, 1], 0 < t < 1,   u(x, 0) = −sin πx

The solution follows from the Cole–Hopf transformation u = −2ν φ_x/φ with φ a solution of the heat equation:

    u(x, t) = −∫ sin(πη) f(η) e^{−s²} ds / ∫ f(η) e^{−s²} ds
    f(η) = exp(−cos(πη)/(2πν)),   η = x − √(4νt) s

Any two functions with residuals r₁, r₂ approach one another in L¹ but for these: d/dt ∫ |u₁ − u₂| dx ≤ ∫ |r₁
− r₂| dx, whatever ν, shocks or not (Kružkov, "First order quasilinear equations in several independent
variables", Math. USSR Sbornik 10, 1970). So ∫∫ |e| dx dt ≤ ∫ |initial residual| dx + ∫∫ |equation's| dx dt
for 0 < t < 1. In the largest error they differ by a factor exp(∫ max(−u_x) dt), which says nothing here.

evaluated by Gauss–Hermite quadrature in s (Basdevant et al., "Spectral and finite difference solutions of the
Burgers equation", Computers & Fluids 14, 1986).
"""

from __future__ import annotations

from math import pi

import numpy as np
import torch
from torch import Tensor

from sngd.calculus import d
from sngd.condition import Condition
from sngd.conserved import Conserved
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem
from sngd.stability import Stability

__all__ = ["burgers", "cole_hopf"]

# Agrees with other quadratures to rounding for ν ≥ 0.002, 0.01/π among them (tests/unit/test_problems.py);
# at ν = 0.001 it is wrong by 6e-6, at 0.0005 by 0.1.
_NODES = 128
_LEAST = 0.002


def cole_hopf(x: Tensor, t: Tensor, viscosity: float, nodes: int = _NODES) -> Tensor:
    """The solution at points x, t (n,) for u(x, 0) = −sin πx, (n,)."""
    abscissae, weights = np.polynomial.hermite.hermgauss(nodes)
    s = torch.as_tensor(abscissae, dtype=x.dtype, device=x.device)
    w = torch.as_tensor(weights, dtype=x.dtype, device=x.device)
    eta = x[:, None] - torch.sqrt(4 * viscosity * t)[:, None] * s
    exponent = -torch.cos(pi * eta) / (2 * pi * viscosity)
    f = torch.exp(exponent - exponent.amax(1, keepdim=True)) * w
    return -(torch.sin(pi * eta) * f).sum(1) / f.sum(1)


def burgers(
    viscosity: float = 0.01, interior: int = 8192, initial: int = 2048, weight: float = 0.01
) -> Problem:
    """Burgers' equation with so many collocation points; the equation's residual is weighted down.

    Args:
        viscosity: ν > 0. Below 0.002 there is no solution to compare with: the quadrature is too coarse.
        interior: points of the equation.
        initial: points at t = 0.
        weight: w of the equation, against 1 of the start.

    Raises:
        ValueError: viscosity is not positive.
    """
    if not viscosity > 0:
        raise ValueError(f"burgers: viscosity={viscosity!r} must be positive")
    domain = Box(x=(-1, 1), t=(0, 1), periodic="x")
    X, T = domain.axes

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T) + u * d(u, X) - viscosity * d(u, X, X)

    def start(u: Jet, p: Points) -> Jet:
        return u + torch.sin(pi * p[X])

    def solution(p: Points) -> Tensor:
        return cole_hopf(p[X].value, p[T].value, viscosity)

    conditions = [
        Condition("equation", equation, domain.interior, interior, weight=weight),
        Condition("initial", start, domain.face(t=0), initial),
    ]
    return Problem(
        domain,
        conditions,
        solution=solution if viscosity >= _LEAST else None,
        conserved=[Conserved("mass", lambda u, p: u)],
        stability=Stability({"equation": 1.0, "initial": 1.0}, "l1", "L1 contraction"),
        name="burgers",
    )
