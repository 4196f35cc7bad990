"""The Fokker–Planck equation of an Ornstein–Uhlenbeck process for the logarithm of the density.

    dX = −X/2 dt + √2 dW in R^d, X(0) standard normal; q = log p on [−5, 5]^d, 0 < t < 1:

    q_t = d/2 + ½ x·∇q + ‖∇q‖² + Δq,   q(x, 0) = −½ d log 2π − ½ ‖x‖²
    q = −½ d log(2π s) − ‖x‖² / (2s),   s(t) = 2 − e^{−t}

The nonlinear term comes from the logarithm. No condition holds on the walls of the box: the initial values
fix the solution.

Source: Dangel, Müller and Zeinhofer, "Kronecker-Factored Approximate Curvature for Physics-Informed Neural
Networks", NeurIPS 2024 (arXiv 2405.15603), with d = 9.
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch

from sngd.calculus import d, laplacian
from sngd.condition import Condition
from sngd.domain import Box, Sampling
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem

__all__ = ["log_fokker_planck"]


def log_fokker_planck(
    dim: int = 9, interior: int = 3000, initial: int = 1000, sampling: Sampling = "uniform"
) -> Problem:
    """The equation in dim + 1 coordinates with so many collocation points; dim + 3 Taylor channels.

    Raises:
        ValueError: dim is no whole number ≥ 1.
    """
    if not isinstance(dim, int) or dim < 1:
        raise ValueError(f"log_fokker_planck: dim={dim!r} must be a whole number ≥ 1")
    domain = Box(periodic=(), even=(), **{f"x{i}": (-5, 5) for i in range(1, dim + 1)}, t=(0, 1))
    *space, T = domain.axes

    def solution(p: Points) -> Any:
        variance = 2 - torch.exp(-p[T])
        squares = sum(p[axis] ** 2 for axis in space)
        return -dim / 2 * torch.log(2 * pi * variance) - squares / (2 * variance)

    def equation(q: Jet, p: Points) -> Jet:
        slopes = [d(q, axis) for axis in space]
        drift = sum(p[axis] * slope for axis, slope in zip(space, slopes, strict=True))
        return d(q, T) - dim / 2 - drift / 2 - sum(slope**2 for slope in slopes) - laplacian(q, space)

    def start(q: Jet, p: Points) -> Jet:
        return q - solution(p)

    conditions = [
        Condition("equation", equation, domain.interior, interior, sampling=sampling),
        Condition("initial", start, domain.face(t=0), initial, sampling=sampling),
    ]
    return Problem(domain, conditions, solution=solution, name="log_fokker_planck")
