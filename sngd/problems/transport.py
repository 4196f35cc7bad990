"""Linear transport at a high speed on a periodic interval.

    u_t + c u_x = 0,   x periodic on [0, 2π], 0 < t < 1,   u(x, 0) = sin x
    u = sin(x − c t)

Along characteristics the error e has de/dt = r: it is at most max|initial residual| + t max|equation's|.

Source: the convection problem of Krishnapriyan et al., "Characterizing possible failure modes in
physics-informed neural networks", NeurIPS 2021, where plain PINNs fail from c = 20 on; here c = 30.
"""

from __future__ import annotations

from math import tau
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

__all__ = ["transport"]


def transport(speed: float = 30.0, interior: int = 2048, initial: int = 512) -> Problem:
    """Transport at a speed with so many collocation points inside and at the start."""
    domain = Box(x=(0, tau), t=(0, 1), periodic="x")
    X, T = domain.axes

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T) + speed * d(u, X)

    def start(u: Jet, p: Points) -> Jet:
        return u - torch.sin(p[X])

    def solution(p: Points) -> Any:
        return torch.sin(p[X] - speed * p[T])

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("initial", start, domain.face(t=0), initial),
    ]
    return Problem(
        domain,
        conditions,
        solution=solution,
        conserved=[Conserved("mass", lambda u, p: u), Conserved("energy", lambda u, p: u * u)],
        stability=Stability({"equation": 1.0, "initial": 1.0}, source="characteristics"),
        name="transport",
    )
