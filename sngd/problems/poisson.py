"""Poisson's equation on the unit square.

    −Δu = 2π² sin πx sin πy,   u = 0 on the boundary
    u = sin πx sin πy

Source: the 2-dimensional Poisson problem of Müller and Zeinhofer, ICML 2023.
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch

from sngd.domain import Box
from sngd.jet import Jet, laplacian
from sngd.problem import Condition, Points, Problem

__all__ = ["poisson2d"]


def poisson2d(interior: int = 1200, boundary: int = 240) -> Problem:
    """Poisson's equation with so many collocation points inside and on the boundary."""
    domain = Box(x=(0, 1), y=(0, 1))
    X, Y = domain.axes

    def solution(p: Points) -> Any:
        return torch.sin(pi * p[X]) * torch.sin(pi * p[Y])

    def equation(u: Jet, p: Points) -> Jet:
        return laplacian(u) + 2 * pi**2 * solution(p)

    def edge(u: Jet, p: Points) -> Jet:
        return u

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("boundary", edge, domain.boundary(), boundary),
    ]
    return Problem(domain, conditions, solution=solution, name="poisson2d")
