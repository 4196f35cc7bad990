"""The Kuramoto–Sivashinsky equation, of fourth order, on its way to chaos.

    u_t + α u u_x + β u_xx + γ u_xxxx = 0,   x periodic on [0, 2π], 0 < t < 0.4
    u(x, 0) = cos x (1 + sin x)
    α = 100/16,   β = 100/16²,   γ = 100/16⁴

The mean ∫ u is conserved. Disturbances grow by up to e^{25 t}: errors made early are large later. The
reference is a Fourier–Chebyshev series of the project's own spectral solution; it ends at t = 0.4.

Source: Wang, Sankaran and Perdikaris, "Respecting causality is all you need for training physics-informed
neural networks", 2022 (arXiv 2203.07404).
"""

from __future__ import annotations

from math import tau

import torch
from torch import Tensor

from sngd.calculus import d
from sngd.condition import Condition
from sngd.conserved import Conserved
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem
from sngd.problems.reference import load_reference

__all__ = ["kuramoto_sivashinsky"]

_ALPHA, _BETA, _GAMMA = 100 / 16, 100 / 16**2, 100 / 16**4
_UNTIL = 0.4


def kuramoto_sivashinsky(
    until: float = _UNTIL, interior: int = 8192, initial: int = 1024, weight: float = 1.0
) -> Problem:
    """The equation with so many collocation points inside and at the start.

    Args:
        until: last time, 0 < until ≤ 0.4.
        interior: points of the equation.
        initial: points at t = 0.
        weight: of the equation.

    Raises:
        ValueError: until is out of range.
    """
    if not 0 < until <= _UNTIL:
        raise ValueError(
            f"kuramoto_sivashinsky: until={until!r} must be > 0 and ≤ {_UNTIL}, where the reference ends"
        )
    domain = Box(x=(0, tau), t=(0, until), periodic="x")
    X, T = domain.axes
    stored = load_reference("kuramoto_sivashinsky")

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T) + _ALPHA * u * d(u, X) + _BETA * d(u, X, X) + _GAMMA * d(u, X, X, X, X)

    def start(u: Jet, p: Points) -> Jet:
        return u - torch.cos(p[X]) * (1 + torch.sin(p[X]))

    def solution(p: Points) -> Tensor:
        return stored(p[X].value, p[T].value)[0]

    conditions = [
        Condition("equation", equation, domain.interior, interior, weight=weight),
        Condition("initial", start, domain.face(t=0), initial),
    ]
    return Problem(
        domain,
        conditions,
        solution=solution,
        conserved=[Conserved("mass", lambda u, p: u)],
        name="kuramoto_sivashinsky",
    )
