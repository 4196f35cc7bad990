"""Linear elasticity in the plane with a manufactured displacement.

    div σ + f = 0 on [0, 1]²,   σ = λ (div w) I + 2μ ε,   ε = (∇w + ∇wᵀ)/2,   w = (u, v) given on the boundary

    u = cos 2πx sin πy,   v = sin πx y⁴
    f_x = (4π² (λ + 2μ) + π² μ) u − 4π (λ + μ) y³ cos πx
    f_y = (π² μ y⁴ − 12 (λ + 2μ) y²) sin πx + 2π² (λ + μ) sin 2πx cos πy

with Lamé's constants λ = 1, μ = ½ (plane strain).

Source: the displacement is that of Haghighat, Raissi, Moure, Gomez and Juanes, "A physics-informed deep
learning framework for inversion and surrogate modeling in solid mechanics", Comput. Methods Appl. Mech. Eng.
379, 2021, who mix conditions on displacement and stress.
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch

from sngd.calculus import d
from sngd.condition import Condition
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem

__all__ = ["elasticity"]


def elasticity(lame: float = 1.0, shear: float = 0.5, interior: int = 2048, boundary: int = 512) -> Problem:
    """The equations for the fields u, v with so many collocation points inside and on the boundary.

    Args:
        lame: λ ≥ 0.
        shear: μ > 0.
        interior: points of the two equations.
        boundary: points on the four sides.

    Raises:
        ValueError: a constant is out of range.
    """
    if not lame >= 0:
        raise ValueError(f"elasticity: lame={lame!r} must be ≥ 0")
    if not shear > 0:
        raise ValueError(f"elasticity: shear={shear!r} must be positive")
    domain = Box(x=(0, 1), y=(0, 1))
    X, Y = domain.axes

    def solution(p: Points) -> tuple[Any, Any]:
        return torch.cos(2 * pi * p[X]) * torch.sin(pi * p[Y]), torch.sin(pi * p[X]) * p[Y] ** 4

    def force(p: Points) -> tuple[Any, Any]:
        x, y = p[X], p[Y]
        u, _ = solution(p)
        stiff = lame + 2 * shear
        along_x = (4 * pi**2 * stiff + pi**2 * shear) * u - 4 * pi * (lame + shear) * y**3 * torch.cos(pi * x)
        along_y = (pi**2 * shear * y**4 - 12 * stiff * y**2) * torch.sin(pi * x)
        return along_x, along_y + 2 * pi**2 * (lame + shear) * torch.sin(2 * pi * x) * torch.cos(pi * y)

    def equation(w: tuple[Jet, Jet], p: Points) -> tuple[Jet, Jet]:
        u, v = w
        f = force(p)
        volume = lame * (d(u, X) + d(v, Y))
        shearing = shear * (d(u, Y) + d(v, X))
        stress_x, stress_y = volume + 2 * shear * d(u, X), volume + 2 * shear * d(v, Y)
        return (
            d(stress_x, X) + d(shearing, Y) + f[0],
            d(shearing, X) + d(stress_y, Y) + f[1],
        )

    def given(w: tuple[Jet, Jet], p: Points) -> tuple[Jet, Jet]:
        known = solution(p)
        return w[0] - known[0], w[1] - known[1]

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("boundary", given, domain.boundary(), boundary),
    ]
    return Problem(domain, conditions, fields=("u", "v"), solution=solution, name="elasticity")
