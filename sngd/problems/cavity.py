"""The lid-driven cavity: steady flow in a square box whose lid moves.

    u u_x + v u_y + p_x = Δu / Re
    u v_x + v v_y + p_y = Δv / Re
    u_x + v_y = 0                     on [0, 1]², Re = 100
    u = lid(x), v = 0 at y = 1;   u = v = 0 on the other walls;   p = 0 at the corner x = y = 0

    lid(x) = 1                        lid="uniform"
    lid(x) = 16 x² (1 − x)²           lid="regularised"

The uniform lid jumps against the walls in its two corners, where the pressure grows like 1/r: its square has no
finite integral, so that the velocities alone are to be compared. The regularised lid makes the flow smooth.

References: the project's own Chebyshev solutions of the equation of the stream function. That of the uniform lid is
a polynomial on top of the flow of the corners, ψ = r f(θ), which solves the equations without inertia there.

Sources: Ghia, Ghia and Shin, "High-Re solutions for incompressible flow using the Navier–Stokes equations and a
multigrid method", J. Comput. Phys. 48, 1982; Botella and Peyret, "Benchmark spectral results on the lid-driven cavity
flow", Computers & Fluids 27, 1998, for the corners; Shen, "Hopf bifurcation of the unsteady regularized driven
cavity flow", J. Comput. Phys. 95, 1991, for the regularised lid.

Letters
    ψ        stream function, u = ψ_y, v = −ψ_x
    X, Y     distances from a corner of the lid, along the lid and down the wall
    r, θ     polar coordinates there, θ = 0 on the lid
"""

from __future__ import annotations

from math import pi
from typing import Any, Literal

import torch
from torch import Tensor

from sngd.domain import Box
from sngd.jet import Jet, d, laplacian
from sngd.problem import Condition, Points, Problem
from sngd.problems.reference import load_reference

__all__ = ["CORNER", "REYNOLDS", "cavity", "corner_flow"]

REYNOLDS = 100.0

# B, C, D of ψ = B Y + θ (C X + D Y): zero on lid and wall, speed 1 along the lid, 0 along the wall.
CORNER = (-(pi**2) / (pi**2 - 4), 4 / (pi**2 - 4), 2 * pi / (pi**2 - 4))

Flow = tuple[Jet, Jet, Jet]


def corner_flow(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u, v, p of the two corners of a uniform lid, (n,) each; together they meet all conditions on the walls.

    ψ of each corner is multiplied by c(X) c(Y) with c(s) = 1 − 10 s³ + 15 s⁴ − 6 s⁵, which fades it out towards the
    other walls; c(x) + c(1 − x) = 1.
    """
    left, right = _corner(x, 1 - y), _corner(1 - x, 1 - y)
    return left[0] + right[0], left[1] - right[1], left[2] - right[2]


def _corner(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u, v, p of the left corner in its coordinates X, Y; v points up."""
    b, c, e = CORNER
    square = (x * x + y * y).clamp_min(1e-300)
    theta, line = torch.atan2(y, x), c * x + e * y
    psi = b * y + theta * line
    psi_x = c * theta - line * y / square
    psi_y = b + e * theta + line * x / square
    (fx, dfx), (fy, dfy) = _fade(x), _fade(y)
    u = -fx * (fy * psi_y + dfy * psi)
    v = -fy * (fx * psi_x + dfx * psi)
    return u, v, -2 / REYNOLDS * line / square * fx * fy


def _fade(s: Tensor) -> tuple[Tensor, Tensor]:
    """The values and slopes of c."""
    return 1 - s**3 * (10 - 15 * s + 6 * s * s), -30 * (s * (1 - s)) ** 2


def cavity(
    lid: Literal["uniform", "regularised"] = "uniform",
    interior: int = 8192,
    boundary: int = 2048,
    gauge: int = 16,
) -> Problem:
    """The equations for the fields u, v, p with so many collocation points.

    Args:
        lid: "uniform" or "regularised".
        interior: points of the three equations.
        boundary: points on the four walls, a quarter of them on the lid.
        gauge: copies of the one point where the pressure is given; raises no more than its weight.

    Raises:
        ValueError: lid is neither of the two.
    """
    if lid not in ("uniform", "regularised"):
        raise ValueError(f'cavity: lid={lid!r} must be "uniform" or "regularised"')
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
        return tuple(a + b for a, b in zip(smooth, corner_flow(x, y), strict=True))

    conditions = [
        Condition("equation", equation, domain.interior, interior),
        Condition("walls", walls, domain.boundary(), boundary),
        Condition("gauge", pressure_in_a_corner, domain.face(x=0, y=0), gauge),
    ]
    return Problem(domain, conditions, fields=("u", "v", "p"), solution=solution, name="cavity")
