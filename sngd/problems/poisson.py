"""Poisson's equation on unit cubes, Δu = f inside and u given on the boundary.

    poisson2d      u = sin πx sin πy             Δu = −2π² u
    poisson5d      u = Σ_i cos πx_i              Δu = −π² u
    poisson10d     u = Σ_i x_{2i−1} x_{2i}       Δu = 0
    poisson100d    u = ‖x‖²                      Δu = 2d = 200

The maximum principle bounds the error by max|boundary residual| + max|equation's|/8 (`sngd.stability`). Up
to five dimensions runs tell that; in ten and more, sampled maxima lie far below those over cube and faces.

Sources: 2-d Müller and Zeinhofer, ICML 2023; 5-d Dangel, Müller and Zeinhofer, "Kronecker-Factored
Approximate Curvature for Physics-Informed Neural Networks", NeurIPS 2024 (arXiv 2405.15603); 10-d and 100-d
E and Yu, "The Deep Ritz Method", 2018 (arXiv 1710.00211). Published natural-gradient runs (arXiv 2405.15603,
2505.12149) divide the last two solutions by 1.34 and 33.47, which makes their root mean square 1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any

import torch

from sngd.calculus import laplacian
from sngd.condition import Condition
from sngd.domain import Box, Sampling
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem
from sngd.stability import Stability

__all__ = ["poisson2d", "poisson5d", "poisson10d", "poisson100d"]

_SAMPLED = 5  # dimensions in which a maximum can be sampled


def poisson2d(interior: int = 1200, boundary: int = 240, sampling: Sampling = "kronecker") -> Problem:
    """Poisson's equation on the unit square with so many collocation points inside and on the boundary."""
    domain = Box(x=(0, 1), y=(0, 1))
    X, Y = domain.axes

    def solution(p: Points) -> Any:
        return torch.sin(pi * p[X]) * torch.sin(pi * p[Y])

    def source(p: Points) -> Any:
        return -2 * pi**2 * solution(p)

    return _dirichlet("poisson2d", domain, solution, source, (interior, boundary), sampling)


def poisson5d(interior: int = 3000, boundary: int = 500, sampling: Sampling = "uniform") -> Problem:
    """A sum of cosines on [0, 1]^5; 7 Taylor channels."""
    domain = _cube(5)

    def solution(p: Points) -> Any:
        return sum(torch.cos(pi * p[axis]) for axis in domain.axes)

    def source(p: Points) -> Any:
        return -(pi**2) * solution(p)

    return _dirichlet("poisson5d", domain, solution, source, (interior, boundary), sampling)


def poisson10d(interior: int = 3000, boundary: int = 500, sampling: Sampling = "uniform") -> Problem:
    """A harmonic polynomial on [0, 1]^10: the boundary alone says what it is; 12 Taylor channels."""
    domain = _cube(10)
    pairs = list(zip(domain.axes[::2], domain.axes[1::2], strict=True))

    def solution(p: Points) -> Any:
        return sum(p[first] * p[second] for first, second in pairs)

    def source(p: Points) -> Any:
        return 0.0

    return _dirichlet("poisson10d", domain, solution, source, (interior, boundary), sampling)


def poisson100d(interior: int = 3000, boundary: int = 500, sampling: Sampling = "uniform") -> Problem:
    """The squared norm on [0, 1]^100; 102 Taylor channels."""
    domain = _cube(100)

    def solution(p: Points) -> Any:
        return sum(p[axis] ** 2 for axis in domain.axes)

    def source(p: Points) -> Any:
        return 2.0 * domain.dim

    return _dirichlet("poisson100d", domain, solution, source, (interior, boundary), sampling)


def _cube(dim: int) -> Box:
    """[0, 1]^d with axes x1 … xd."""
    return Box(periodic=(), even=(), **{f"x{i}": (0, 1) for i in range(1, dim + 1)})


def _dirichlet(
    name: str,
    domain: Box,
    solution: Callable[[Points], Any],
    source: Callable[[Points], Any],
    points: tuple[int, int],
    sampling: Sampling,
) -> Problem:
    """Δu = source inside, u = solution on the boundary; so many points of each."""

    def equation(u: Jet, p: Points) -> Jet:
        return laplacian(u) - source(p)

    def edge(u: Jet, p: Points) -> Jet:
        return u - solution(p)

    interior, boundary = points
    conditions = [
        Condition("equation", equation, domain.interior, interior, sampling=sampling),
        Condition("boundary", edge, domain.boundary(), boundary, sampling=sampling),
    ]
    stability = Stability({"equation": 1 / 8, "boundary": 1.0}, source="maximum principle")
    return Problem(
        domain,
        conditions,
        solution=solution,
        stability=stability if domain.dim <= _SAMPLED else None,
        name=name,
    )
