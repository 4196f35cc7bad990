"""A nonlinear boundary-value problem with Neumann conditions.

    −u″ + u³ = f on (−1, 1),   u′(±1) = 0
    f such that u = cos πx

The error has −e″ + c e = r with c = u² + u u* + u*² ≥ ¾ cos² πx. Comparison with v = 8/3 + (1 − cos
2πx)/(4π²), which has −v″ + ¾ cos² πx v ≥ 1 and v′(±1) = 0, and for the slopes with v + x²/2, bounds it by
(8/3 + 1/(2π²)) max|equation's residual| + (½ + 8/3 + 1/(2π²)) max|that of slopes|.

Source: the nonlinear energy of E and Yu, "The Deep Ritz Method", 2018, in one dimension, as taken up by
Müller and Zeinhofer, ICML 2023.
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
from sngd.stability import Stability

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
    most = 8 / 3 + 1 / (2 * pi**2)
    stability = Stability({"equation": most, "slope": 1 / 2 + most}, source="comparison")
    return Problem(domain, conditions, solution=solution, stability=stability, name="nonlinear")
