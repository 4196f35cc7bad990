"""A nonlinear boundary-value problem with Neumann conditions.

    −u″ + u³ = f on (−1, 1),   u′(±1) = 0
    f such that u = cos πx

Source: the nonlinear energy of E and Yu, "The Deep Ritz Method", 2018, in one dimension, as taken up by
Müller and Zeinhofer, ICML 2023.
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch

from sngd.domain import Box
from sngd.jet import Jet, d
from sngd.problem import Condition, Points, Problem

__all__ = ["nonlinear"]


def nonlinear(interior: int = 512, boundary: int = 64) -> Problem:
    """The problem with so many collocation points inside and at the two ends."""
    domain = Box(x=(-1, 1))
    (X,) = domain.axes

    def solution(p: Points) -> Any:
        return torch.cos(pi * p[X])

    def equation(u: Jet, p: Points) -> Jet:
        exact = solution(p)
        return -d(u, X, X) + u**3 - (pi**2 * exact + exact**3)

    def slope(u: Jet, p: Points) -> Jet:
        return d(u, X)

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("slope", slope, domain.boundary(), boundary),
    ]
    return Problem(domain, conditions, solution=solution, name="nonlinear")
