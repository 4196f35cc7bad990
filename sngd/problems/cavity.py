"""The lid-driven cavity: steady flow in a square box whose lid moves.

    u u_x + v u_y + p_x = Δu / Re
    u v_x + v v_y + p_y = Δv / Re
    u_x + v_y = 0                     on [0, 1]², Re = 100
    u = lid(x), v = 0 at y = 1;   u = v = 0 on the other walls;   p = 0 at the corner x = y = 0

    lid(x) = 1                        lid="uniform"
    lid(x) = 16 x² (1 − x)²           lid="regularised"

The uniform lid jumps against the walls in its two corners, where the pressure grows like 1/r: its square has
no finite integral, so that the velocities alone are to be compared. Under the regularised lid velocities and
pressure are bounded and smooth.

References: the project's own spectral solutions for the stream function. That of the uniform lid is a
polynomial on top of the flow of the corners in closed form (`sngd.problems.corner`).

Sources: Ghia, Ghia and Shin, "High-Re solutions for incompressible flow using the Navier–Stokes equations and
a multigrid method", J. Comput. Phys. 48, 1982; Shen, "Hopf bifurcation of the unsteady regularized driven
cavity flow", J. Comput. Phys. 95, 1991, for the regularised lid.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from sngd.calculus import d, laplacian
from sngd.condition import Condition
from sngd.domain import Box
from sngd.jet import Jet
from sngd.points import Points
from sngd.problem import Problem
from sngd.problems.corner import corner_flow
from sngd.problems.reference import load_reference

__all__ = ["REYNOLDS", "cavity"]

REYNOLDS = 100.0

Flow = tuple[Jet, Jet, Jet]


def cavity(
    lid: Literal["uniform", "regularised"] = "uniform",
    interior: int = 8192,
    boundary: int = 2048,
    gauge: int = 16,
    weight: float = 1.0,
    subtract_corners: bool = False,
) -> Problem:
    """The equations for the fields u, v, p with so many collocation points.

    Args:
        lid: "uniform" or "regularised".
        interior: points of the three equations.
        boundary: points on the four walls, a quarter of them on the lid.
        gauge: copies of the one point where the pressure is given.
        weight: w of the equations, against 1 of the walls.
        subtract_corners: let the network be what the flow of the uniform lid's corners leaves, which is
            smooth.

    Raises:
        ValueError: lid is neither of the two, or it has no such corners to subtract.
    """
    if lid not in ("uniform", "regularised"):
        raise ValueError(f'cavity: lid={lid!r} must be "uniform" or "regularised"')
    if subtract_corners and lid != "uniform":
        raise ValueError(f'cavity: subtract_corners=True needs lid="uniform", not {lid!r}')
    domain = Box(x=(0, 1), y=(0, 1))
    X, Y = domain.axes
    stored = load_reference(f"cavity_{lid}")

    def equation(flow: Flow, p: Points) -> tuple[Jet, Jet, Jet]:
        u, v, pressure = flow

        def momentum(w: Jet, axis: Any) -> Jet:
            return u * d(w, X) + v * d(w, Y) + d(pressure, axis) - laplacian(w) / REYNOLDS

        return momentum(u, X), momentum(v, Y), d(u, X) + d(v, Y)

    def walls(flow: Flow, p: Points) -> tuple[Jet, Jet]:
        x, y = p[X].value, p[Y].value
        speed = torch.ones_like(x) if lid == "uniform" else 16 * (x * (1 - x)) ** 2
        return flow[0] - torch.where(y == 1, speed, 0 * x), flow[1]

    def pressure_in_a_corner(flow: Flow, p: Points) -> Jet:
        return flow[2]

    def solution(p: Points) -> tuple[Tensor, ...]:
        x, y = p[X].value, p[Y].value
        smooth = stored(x, y)
        if lid == "regularised":
            return smooth
        return tuple(a + b for a, b in zip(smooth, corner_flow(x, y, REYNOLDS), strict=True))

    def with_corners(rest: Flow, p: Points) -> tuple[Any, ...]:
        return tuple(a + b for a, b in zip(rest, corner_flow(p[X], p[Y], REYNOLDS), strict=True))

    conditions = [
        Condition("equation", equation, domain.interior, interior, weight=weight),
        Condition("walls", walls, domain.boundary(), boundary),
        Condition("gauge", pressure_in_a_corner, domain.face(x=0, y=0), gauge),
    ]
    return Problem(
        domain,
        conditions,
        fields=("u", "v", "p"),
        ansatz=with_corners if subtract_corners else None,
        solution=solution,
        name="cavity",
    )
