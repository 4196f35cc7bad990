"""The heat equation on a rod and on a four-dimensional cube.

    u_t = Δu / 4   on [0, 1]^d, 0 < t < 1; u given at t = 0 and on the walls

    heat      d = 1    u = exp(−π² t / 4) sin πx
    heat4d    d = 4    u = e^{−t} Σ_i sin 2x_i

The maximum principle bounds the error by max|initial residual| + max|that of walls| + max|equation's|/2,
half being w²/(8κ) for the width w = 1 and κ = ¼ (`sngd.stability`).

Sources: 1+1-d the heat problem of the natural-gradient literature (Müller and Zeinhofer, "Achieving High
Accuracy with PINNs via Energy Natural Gradient Descent", ICML 2023), whose ENGD figures are a yardstick;
4+1-d Dangel, Müller and Zeinhofer, NeurIPS 2024 (arXiv 2405.15603).
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any

import torch

from sngd.calculus import d, laplacian
from sngd.condition import Condition
from sngd.domain import Box, Sampling
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem
from sngd.stability import Stability

__all__ = ["heat", "heat4d"]


def heat(
    interior: int = 1200, initial: int = 80, walls: int = 160, sampling: Sampling = "kronecker"
) -> Problem:
    """The heat equation with so many collocation points for equation, initial and wall conditions."""
    domain = Box(x=(0, 1), t=(0, 1))
    X, T = domain.axes

    def solution(p: Points) -> Any:
        return torch.exp(-(pi**2) / 4 * p[T]) * torch.sin(pi * p[X])

    return _problem("heat", domain, solution, (interior, initial, walls), sampling)


def heat4d(
    interior: int = 3000, initial: int = 250, walls: int = 250, sampling: Sampling = "uniform"
) -> Problem:
    """The heat equation in 4+1 dimensions: 7 Taylor channels, the Laplacian over space collapsed into one."""
    domain = Box(periodic=(), even=(), **{f"x{i}": (0, 1) for i in range(1, 5)}, t=(0, 1))
    *space, T = domain.axes

    def solution(p: Points) -> Any:
        return torch.exp(-p[T]) * sum(torch.sin(2 * p[axis]) for axis in space)

    return _problem("heat4d", domain, solution, (interior, initial, walls), sampling)


def _problem(
    name: str,
    domain: Box,
    solution: Callable[[Points], Any],
    points: tuple[int, int, int],
    sampling: Sampling,
) -> Problem:
    """u_t = Δu/4 on a box whose last axis is time, with initial and wall values of the solution."""
    *space, T = domain.axes

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T) - laplacian(u, space) / 4

    def given(u: Jet, p: Points) -> Jet:
        return u - solution(p)

    walls = domain.boundary(*(axis.name for axis in space))
    conditions = [
        Condition("equation", equation, domain.interior, points[0], sampling=sampling),
        Condition("initial", given, domain.face(t=0), points[1], sampling=sampling),
        Condition("walls", given, walls, points[2], sampling=sampling),
    ]
    constants = {"equation": 1 / 2, "initial": 1.0, "walls": 1.0}
    stability = Stability(constants, source="maximum principle")
    return Problem(domain, conditions, solution=solution, stability=stability, name=name)
