"""Decaying vortices: the unsteady Navier–Stokes equations in the plane, with a solution in closed form.

    u_t + u u_x + v u_y + p_x = ν Δu
    v_t + u v_x + v v_y + p_y = ν Δv
    u_x + v_y = 0                        x, y periodic on [0, 2π], 0 < t < 1

    u = −cos x sin y e^{−2νt},   v = sin x cos y e^{−2νt},   p = −¼ (cos 2x + cos 2y) e^{−4νt}

with ν = 0.1. Velocities are given at t = 0. The equations leave the pressure free up to a function of time;
its value on the line x = y = 0 is given.

Source: Taylor and Green, "Mechanism of the production of small eddies from large ones", Proc. R. Soc. A 158,
1937.
"""

from __future__ import annotations

from math import tau
from typing import Any

import torch

from sngd.calculus import d, laplacian
from sngd.condition import Condition
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem

__all__ = ["taylor_green"]

Flow = tuple[Jet, Jet, Jet]


def taylor_green(
    viscosity: float = 0.1, interior: int = 8192, initial: int = 2048, gauge: int = 128
) -> Problem:
    """The equations for the fields u, v, p with so many collocation points.

    Args:
        viscosity: ν > 0.
        interior: points of the three equations.
        initial: points at t = 0.
        gauge: points on the line where the pressure is given.

    Raises:
        ValueError: viscosity is not positive.
    """
    if not viscosity > 0:
        raise ValueError(f"taylor_green: viscosity={viscosity!r} must be positive")
    domain = Box(x=(0, tau), y=(0, tau), t=(0, 1), periodic=("x", "y"))
    X, Y, T = domain.axes

    def solution(p: Points) -> tuple[Any, Any, Any]:
        x, y, decay = p[X], p[Y], torch.exp(-2 * viscosity * p[T])
        return (
            -torch.cos(x) * torch.sin(y) * decay,
            torch.sin(x) * torch.cos(y) * decay,
            -0.25 * (torch.cos(2 * x) + torch.cos(2 * y)) * decay * decay,
        )

    def equation(flow: Flow, p: Points) -> tuple[Jet, Jet, Jet]:
        u, v, pressure = flow

        def momentum(w: Jet, axis: Any) -> Jet:
            carried = d(w, T) + u * d(w, X) + v * d(w, Y)
            return carried + d(pressure, axis) - viscosity * laplacian(w, (X, Y))

        return momentum(u, X), momentum(v, Y), d(u, X) + d(v, Y)

    def start(flow: Flow, p: Points) -> tuple[Jet, Jet]:
        known = solution(p)
        return flow[0] - known[0], flow[1] - known[1]

    def pressure_on_a_line(flow: Flow, p: Points) -> Jet:
        return flow[2] - solution(p)[2]

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("initial", start, domain.face(t=0), initial),
        Condition("gauge", pressure_on_a_line, domain.face(x=0, y=0), gauge),
    ]
    return Problem(domain, conditions, fields=("u", "v", "p"), solution=solution, name="taylor_green")
