"""The Gray–Scott equations: a pulse of a substance v feeds on u, grows, hollows out and spreads.

    u_t = u_xx/50  + 4 (1 − u) − 100 u v²
    v_t = v_xx/100 − 10 v      + 100 u v²      x periodic on [−1, 1], 0 < t < 1
    u(x, 0) = 1 − g/2,   v(x, 0) = g/4,   g = exp(−20 sin² ½πx)

A moderate variant in one dimension of the benchmark in two: the coefficients are a tenth of those of Wang et
al. over half of their time, which makes the reaction less stiff, and the start is smooth across the seam. The
reference is a Fourier–Chebyshev series of the project's own spectral solution; one of this accuracy in two
dimensions would take megabytes.

Sources: Pearson, "Complex patterns in a simple system", Science 261, 1993; Wang, Sankaran, Wang and
Perdikaris, "An expert's guide to training physics-informed neural networks", 2023 (arXiv 2308.08468).
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch
from torch import Tensor

from sngd.calculus import d
from sngd.condition import Condition
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem
from sngd.problems.reference import load_reference

__all__ = ["gray_scott"]


def gray_scott(interior: int = 8192, initial: int = 1024, weight: float = 1.0) -> Problem:
    """The equations for the fields u, v with so many collocation points inside and at the start.

    Args:
        interior: points of the equations.
        initial: points at t = 0.
        weight: of the equations.
    """
    domain = Box(x=(-1, 1), t=(0, 1), periodic="x")
    X, T = domain.axes
    stored = load_reference("gray_scott")

    def equation(w: tuple[Jet, Jet], p: Points) -> tuple[Jet, Jet]:
        u, v = w
        meeting = 100 * u * v * v
        return (
            d(u, T) - d(u, X, X) / 50 - 4 * (1 - u) + meeting,
            d(v, T) - d(v, X, X) / 100 + 10 * v - meeting,
        )

    def start(w: tuple[Jet, Jet], p: Points) -> tuple[Any, Any]:
        pulse = torch.exp(-20 * torch.sin(pi / 2 * p[X]) ** 2)
        return w[0] - 1 + pulse / 2, w[1] - pulse / 4

    def solution(p: Points) -> tuple[Tensor, ...]:
        return stored(p[X].value, p[T].value)

    conditions = [
        Condition("equation", equation, domain.interior, interior, weight=weight),
        Condition("initial", start, domain.face(t=0), initial),
    ]
    return Problem(domain, conditions, fields=("u", "v"), solution=solution, name="gray_scott")
