"""The Euler–Bernoulli beam, simply supported at both ends: equations of fourth order.

    beam              u_xxxx = 1            on [0, 1]
                      u = x (1 − 2x² + x³) / 24
    vibrating_beam    u_tt + u_xxxx = f     on [0, π] × [0, 1], u and u_t given at t = 0
                      u = sin x cos 4πt,    f = (1 − 16π²) u

Simply supported: u = u_xx = 0 at the ends. Deflection, load and stiffness are dimensionless.

At rest the error is at most 5/384 max|equation's residual|, the deflection under an even load, + 9/8
max|that of supports|, of deflections at the ends at most 1 and of u_xx there ⅛. Green's function is
positive.

Sources: the deflection under an even load stands in any textbook on beams; the forced vibration is that of
Kapoor, Wang, Núñez and Dollevoet, "Physics-informed neural networks for solving forward and inverse problems
in complex beam systems", IEEE TNNLS 2023.
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

__all__ = ["beam", "vibrating_beam"]


def beam(interior: int = 512, boundary: int = 64) -> Problem:
    """The beam at rest under an even load, with so many collocation points inside and at the two ends."""
    domain = Box(x=(0, 1))
    (X,) = domain.axes

    def solution(p: Points) -> Any:
        x = p[X]
        return x * (1 - 2 * x**2 + x**3) / 24

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, X, X, X, X) - 1.0

    def supports(u: Jet, p: Points) -> tuple[Jet, Jet]:
        return u, d(u, X, X)

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("supports", supports, domain.boundary(), boundary),
    ]
    stability = Stability({"equation": 5 / 384, "supports": 9 / 8}, source="Green's function")
    return Problem(domain, conditions, solution=solution, stability=stability, name="beam")


def vibrating_beam(interior: int = 2048, initial: int = 512, walls: int = 512) -> Problem:
    """The forced vibration, with so many collocation points inside, at the start and at the two ends."""
    domain = Box(x=(0, pi), t=(0, 1))
    X, T = domain.axes

    def solution(p: Points) -> Any:
        return torch.sin(p[X]) * torch.cos(4 * pi * p[T])

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T, T) + d(u, X, X, X, X) - (1 - 16 * pi**2) * solution(p)

    def start(u: Jet, p: Points) -> tuple[Jet, Jet]:
        return u - torch.sin(p[X]), d(u, T)

    def supports(u: Jet, p: Points) -> tuple[Jet, Jet]:
        return u, d(u, X, X)

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("initial", start, domain.face(t=0), initial),
        Condition("supports", supports, domain.boundary("x"), walls),
    ]
    return Problem(domain, conditions, solution=solution, name="vibrating_beam")
