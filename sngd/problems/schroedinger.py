"""The cubic Schrödinger equation: a pulse that focuses and widens again.

    i h_t + ½ h_xx + |h|² h = 0,   h = u + i v,   x periodic on [−5, 5], 0 < t < π/2

    u_t + ½ v_xx + (u² + v²) v = 0
    v_t − ½ u_xx − (u² + v²) u = 0

    h(x, 0) = Σ_m 2 sech(x − 10 m)     start="images"
    h(x, 0) = 2 sech x                 start="sech"

Mass ∫ |h|² and energy ∫ |h_x|²/2 − |h|⁴/2 are conserved. "sech" is the benchmark as it was published; its
slope jumps by 0.054 across the seam x = ±5. Nothing smooths that kink: it disperses into ever shorter waves,
which n Fourier modes follow to a relative error of 0.013 n^{−3/2} only. "images" adds the pulses of the
neighbouring periods, which makes the start smooth and periodic and changes it by 0.027 at the seam. There is
a reference for "images", a Fourier–Chebyshev series of the project's own spectral solution.

Source: Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks", J. Comput. Phys. 378, 2019.
"""

from __future__ import annotations

from math import pi
from typing import Any, Literal

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

__all__ = ["schroedinger"]

# 2 sech 55 is below rounding.
_IMAGES = 6


def schroedinger(
    start: Literal["images", "sech"] = "images",
    interior: int = 8192,
    initial: int = 1024,
    weight: float = 1.0,
) -> Problem:
    """The equation for the fields u, v with so many collocation points inside and at the start.

    Args:
        start: "images" or "sech"; the latter has no solution to compare with.
        interior: points of the equation.
        initial: points at t = 0.
        weight: w of the equation, against 1 of the start.

    Raises:
        ValueError: start is neither of the two.
    """
    if start not in ("images", "sech"):
        raise ValueError(f'schroedinger: start={start!r} must be "images" or "sech"')
    domain = Box(x=(-5, 5), t=(0, pi / 2), periodic="x", even="x")
    X, T = domain.axes
    stored = load_reference("schroedinger") if start == "images" else None
    pulses = range(-_IMAGES, _IMAGES + 1) if start == "images" else (0,)

    def equation(h: tuple[Jet, Jet], p: Points) -> tuple[Jet, Jet]:
        u, v = h
        intensity = u * u + v * v
        return (
            d(u, T) + 0.5 * d(v, X, X) + intensity * v,
            d(v, T) - 0.5 * d(u, X, X) - intensity * u,
        )

    def pulse(h: tuple[Jet, Jet], p: Points) -> tuple[Any, Jet]:
        u, v = h
        x = p[X].value
        return u - sum(2 / torch.cosh(x - 10 * m) for m in pulses), v

    def solution(p: Points) -> tuple[Tensor, ...]:
        assert stored is not None
        return stored(p[X].value, p[T].value)

    def energy(h: tuple[Jet, Jet], p: Points) -> Jet:
        u, v = h
        intensity = u * u + v * v
        return (d(u, X) ** 2 + d(v, X) ** 2) / 2 - intensity * intensity / 2

    conditions = [
        Condition("equation", equation, domain.interior, interior, weight=weight),
        Condition("initial", pulse, domain.face(t=0), initial),
    ]
    return Problem(
        domain,
        conditions,
        fields=("u", "v"),
        solution=None if stored is None else solution,
        conserved=[
            Conserved("mass", lambda h, p: h[0] * h[0] + h[1] * h[1]),
            Conserved("energy", energy),
        ],
        name="schroedinger",
    )
