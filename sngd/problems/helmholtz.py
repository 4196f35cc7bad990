"""The Helmholtz equation with a source, zero on the boundary of a square.

    −Δu − k² u = f   on [−1, 1]²,   u = 0 on the boundary
    f = (π² (m² + n²) − k²) u,   u = sin mπx sin nπy

with k = 1, m = 1, n = 4.

For k < π/2, where k² is below the first eigenvalue of −d²/dx² on [−1, 1], there is a maximum principle:
comparison with cos kx/cos k and with the solution (cos kx/cos k − 1)/k² of −v″ − k²v = 1 bounds the error by
max|boundary residual|/cos k + (1/cos k − 1)/k² max|equation's|. For larger k resonance forbids any such
constant that does not depend on the distance to the eigenvalues, and there is none here.

Source: Wang, Teng and Perdikaris, "Understanding and mitigating gradient flow pathologies in physics-informed
neural networks", SIAM J. Sci. Comput. 43, 2021 (arXiv 2001.04536), there with the opposite sign of the
equation.
"""

from __future__ import annotations

from math import cos, pi
from typing import Any

import torch

from sngd.calculus import laplacian
from sngd.condition import Condition
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem
from sngd.stability import Stability

__all__ = ["helmholtz"]


def helmholtz(
    wavenumber: float = 1.0,
    waves: tuple[int, int] = (1, 4),
    interior: int = 2048,
    boundary: int = 512,
    boundary_weight: float = 1.0,
) -> Problem:
    """The Helmholtz equation with so many collocation points inside and on the boundary.

    Args:
        wavenumber: k.
        waves: (m, n), half waves of the solution per unit length along x and y.
        interior: points of the equation.
        boundary: points on the four sides.
        boundary_weight: w of the condition there, against 1 of the equation.

    Raises:
        ValueError: waves are not two whole numbers ≥ 1.
    """
    if len(waves) != 2 or not all(isinstance(m, int) and m >= 1 for m in waves):
        raise ValueError(f"helmholtz: waves={waves!r} must be two whole numbers ≥ 1, e.g. (1, 4)")
    domain = Box(x=(-1, 1), y=(-1, 1))
    X, Y = domain.axes
    eigenvalue = pi**2 * (waves[0] ** 2 + waves[1] ** 2) - wavenumber**2

    def solution(p: Points) -> Any:
        return torch.sin(waves[0] * pi * p[X]) * torch.sin(waves[1] * pi * p[Y])

    def equation(u: Jet, p: Points) -> Jet:
        return -laplacian(u) - wavenumber**2 * u - eigenvalue * solution(p)

    def zero(u: Jet, p: Points) -> Jet:
        return u

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("boundary", zero, domain.boundary(), boundary, weight=boundary_weight),
    ]
    stability = None
    if 0 < wavenumber < pi / 2:
        inverse = 1 / cos(wavenumber)
        constants = {"equation": (inverse - 1) / wavenumber**2, "boundary": inverse}
        stability = Stability(constants, source="maximum principle below the first eigenvalue")
    return Problem(domain, conditions, solution=solution, stability=stability, name="helmholtz")
