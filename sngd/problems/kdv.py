"""The Korteweg–de Vries equation: a cosine steepens and breaks up into a train of solitons.

    u_t + u u_x + δ u_xxx = 0,   x periodic on [−1, 1], 0 < t < 1,   u(x, 0) = cos πx

with δ = 0.0025. Mass ∫ u, momentum ∫ u² and energy ∫ u³/6 − δ u_x²/2 are conserved.
The reference is a Fourier–Chebyshev series of the project's own spectral solution.

Source: Zabusky and Kruskal, "Interaction of solitons in a collisionless plasma and the recurrence of initial
states", Phys. Rev. Lett. 15, 1965, with δ = 0.022² = 4.84e-4; Raissi, Perdikaris and Karniadakis, J. Comput.
Phys. 378, 2019, for networks, with δ = 0.0025.
"""

from __future__ import annotations

from math import pi

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

__all__ = ["kdv"]

_STORED = 0.0025


def kdv(
    dispersion: float = _STORED, interior: int = 8192, initial: int = 1024, weight: float = 1.0
) -> Problem:
    """The equation with so many collocation points inside and at the start.

    Args:
        dispersion: δ > 0. There is a reference for 0.0025; other values have no solution to compare with.
        interior: points of the equation.
        initial: points at t = 0.
        weight: w of the equation, against 1 of the start.

    Raises:
        ValueError: dispersion is not positive.
    """
    if not dispersion > 0:
        raise ValueError(f"kdv: dispersion={dispersion!r} must be positive")
    domain = Box(x=(-1, 1), t=(0, 1), periodic="x")
    X, T = domain.axes
    stored = load_reference("kdv") if dispersion == _STORED else None

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T) + u * d(u, X) + dispersion * d(u, X, X, X)

    def start(u: Jet, p: Points) -> Jet:
        return u - torch.cos(pi * p[X])

    def solution(p: Points) -> Tensor:
        assert stored is not None
        return stored(p[X].value, p[T].value)[0]

    conditions = [
        Condition("equation", equation, domain.interior, interior, weight=weight),
        Condition("initial", start, domain.face(t=0), initial),
    ]
    return Problem(
        domain,
        conditions,
        solution=None if stored is None else solution,
        conserved=[
            Conserved("mass", lambda u, p: u),
            Conserved("momentum", lambda u, p: u * u),
            Conserved("energy", lambda u, p: u**3 / 6 - dispersion / 2 * d(u, X) ** 2),
        ],
        name="kdv",
    )
