"""The wave equation of a string that is held at both ends.

    u_tt = c² u_xx   on [0, 1] × [0, 1]
    u(x, 0) = Σ_k a_k sin kπx,   u_t(x, 0) = 0,   u(0, t) = u(1, t) = 0
    u = Σ_k a_k sin kπx cos kπct

d'Alembert's formula, with the residuals continued oddly over both ends, bounds the error by max|e₀| + t
max|e₁| + t²/2 max|r|, e₀ and e₁ being the residuals of shape and velocity at t = 0. Every end that the two
characteristics of a point pass on their way back to t = 0 adds its residual once: ⌈2ct⌉ times at most.

with c = 2. One mode, sin πx cos 2πt, is the default; modes={1: 1.0, 4: 0.5} is the harder pair sin πx cos 2πt
+ ½ sin 4πx cos 8πt of Wang, Yu and Perdikaris, "When and why PINNs fail to train: a neural tangent kernel
perspective", J. Comput. Phys. 449, 2022 (arXiv 2007.14527).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, pi
from typing import Any

import torch

from sngd.calculus import d
from sngd.condition import Condition
from sngd.conserved import Conserved
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem
from sngd.stability import Stability

__all__ = ["wave"]


def wave(
    speed: float = 2.0,
    modes: Mapping[int, float] | None = None,
    interior: int = 2048,
    initial: int = 512,
    walls: int = 512,
) -> Problem:
    """The wave equation with so many collocation points inside, at the start and at the two ends.

    Args:
        speed: c > 0.
        modes: {k: a_k}, amplitudes of the standing waves; {1: 1.0} when absent.
        interior: points of the equation.
        initial: points at t = 0, where shape and velocity are given.
        walls: points at x = 0 and x = 1.

    Raises:
        ValueError: speed is not positive, or modes is empty or holds a k that is no whole number ≥ 1.
    """
    amplitudes = {1: 1.0} if modes is None else dict(modes)
    if not speed > 0:
        raise ValueError(f"wave: speed={speed!r} must be positive")
    if not amplitudes or not all(isinstance(k, int) and k >= 1 for k in amplitudes):
        raise ValueError(f"wave: modes={modes!r} must map whole numbers k ≥ 1 to amplitudes, e.g. {{1: 1.0}}")
    domain = Box(x=(0, 1), t=(0, 1))
    X, T = domain.axes

    def shape(p: Points) -> Any:
        return sum(a * torch.sin(k * pi * p[X]) for k, a in amplitudes.items())

    def solution(p: Points) -> Any:
        return sum(
            a * torch.sin(k * pi * p[X]) * torch.cos(k * pi * speed * p[T]) for k, a in amplitudes.items()
        )

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T, T) - speed**2 * d(u, X, X)

    def start(u: Jet, p: Points) -> tuple[Jet, Jet]:
        return u - shape(p), d(u, T)

    def held(u: Jet, p: Points) -> Jet:
        return u

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("initial", start, domain.face(t=0), initial),
        Condition("walls", held, domain.boundary("x"), walls),
    ]
    constants = {"equation": 1 / 2, "initial": 2.0, "walls": float(ceil(2 * speed))}
    return Problem(
        domain,
        conditions,
        solution=solution,
        conserved=[Conserved("energy", lambda u, p: d(u, T) ** 2 + speed**2 * d(u, X) ** 2)],
        stability=Stability(constants, source="d'Alembert's formula"),
        name="wave",
    )
