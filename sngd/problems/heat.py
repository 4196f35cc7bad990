"""The heat equation on a rod.

    u_t = u_xx / 4            0 < x < 1, 0 < t < 1
    u(x, 0) = sin πx,  u(0, t) = u(1, t) = 0
    u = exp(−π² t / 4) sin πx

Source: the 1+1-dimensional heat problem of the natural-gradient literature (Müller and Zeinhofer, "Achieving
High Accuracy with PINNs via Energy Natural Gradient Descent", ICML 2023), whose ENGD figures are a yardstick.
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch

from sngd.domain import Box
from sngd.jet import Jet, d
from sngd.problem import Condition, Points, Problem

__all__ = ["heat"]


def heat(interior: int = 1200, initial: int = 80, walls: int = 160) -> Problem:
    """The heat equation with so many collocation points for equation, initial and wall conditions."""
    domain = Box(x=(0, 1), t=(0, 1))
    X, T = domain.axes

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T) - d(u, X, X) / 4

    def start(u: Jet, p: Points) -> Jet:
        return u - torch.sin(pi * p[X])

    def wall(u: Jet, p: Points) -> Jet:
        return u

    def solution(p: Points) -> Any:
        return torch.exp(-(pi**2) / 4 * p[T]) * torch.sin(pi * p[X])

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("initial", start, domain.face(t=0), initial),
        Condition("walls", wall, domain.boundary("x"), walls),
    ]
    return Problem(domain, conditions, solution=solution, name="heat")
