"""The Allen–Cahn equation, in which a smooth start separates into two phases.

    u_t = 1e-4 u_xx + 5 (u − u³),   x periodic on [−1, 1], 0 < t < 1,   u(x, 0) = x² cos πx

The start is continuous across the seam x = ±1, its slope is not: u_x jumps from −2 to 2. Diffusion rounds
that kink over a width of √(4·10⁻⁴ t), so that the solution is smooth for t > 0 alone. The reference is the
sum of the kink's evolution under diffusion, in closed form, and a Fourier–Chebyshev series for the rest.

The reaction grows by 5 e at most, whatever u: the maximum principle bounds the error by e⁵ max|initial
residual| + (e⁵ − 1)/5 max|equation's|. Near u = 0 small differences do grow so; where the phases have parted
they decay, and the bound is too large by two decades or so.

Source: Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks", J. Comput. Phys. 378, 2019.
"""

from __future__ import annotations

from math import exp, pi
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
from sngd.stability import Stability

__all__ = ["allen_cahn", "kink"]

_DIFFUSION = 1e-4
_REACTION = 5.0
# Added to t, so that no width is zero; it rounds the kink of the start by 2e-10.
_SOON = 1e-16


def kink(x: Any, t: Any) -> Any:
    """The solution of u_t = 1e-4 u_xx − 10 u that starts from 2|y| − y², y the distance to the seam.

    −10 u is the reaction about u = −1, the value at the seam. On [−1, 1] that start has a kink at the seam
    alone. |y| diffuses to y erf(y/ℓ) + ℓ/√π exp(−y²/ℓ²) with ℓ² = 4·10⁻⁴ t; seams of other periods are too
    far to be felt.

    Args:
        x: tensor (n,), or a jet of its values.
        t: the same, ≥ 0.

    Returns:
        The same, (n,).
    """
    values = x.value if isinstance(x, Jet) else x
    y = x + (torch.remainder(values, 2) - 1 - values)  # the shift is constant but for the seam's other side
    width = torch.sqrt(4 * _DIFFUSION * (t + _SOON))
    z = y / width
    modulus = y * torch.erf(z) + width * torch.exp(-z * z) / pi**0.5
    return torch.exp(-2 * _REACTION * t) * (2 * modulus - y * y - 2 * _DIFFUSION * t)


def allen_cahn(
    interior: int = 8192, initial: int = 1024, weight: float = 1.0, subtract_kink: bool = False
) -> Problem:
    """The Allen–Cahn equation with so many collocation points inside and at the start.

    Args:
        interior: points of the equation.
        initial: points at t = 0.
        weight: w of the equation, against 1 of the start.
        subtract_kink: let the network be what `kink` leaves of u, smooth and even in x; else u itself,
            without that symmetry, for sines help to follow the kink.
    """
    domain = Box(x=(-1, 1), t=(0, 1), periodic="x", even="x" if subtract_kink else ())
    X, T = domain.axes
    smooth = load_reference("allen_cahn")

    def equation(u: Jet, p: Points) -> Jet:
        return d(u, T) - _DIFFUSION * d(u, X, X) - _REACTION * (u - u**3)

    def start(u: Jet, p: Points) -> Jet:
        return u - p[X] ** 2 * torch.cos(pi * p[X])

    def solution(p: Points) -> Tensor:
        x, t = p[X].value, p[T].value
        return kink(x, t) + smooth(x, t)[0]

    def with_kink(rest: Jet, p: Points) -> Any:
        return rest + kink(p[X], p[T])

    conditions = [
        Condition("equation", equation, domain.interior, interior, weight=weight),
        Condition("initial", start, domain.face(t=0), initial),
    ]
    ansatz = with_kink if subtract_kink else None
    constants = {"equation": (exp(_REACTION) - 1) / _REACTION, "initial": exp(_REACTION)}
    return Problem(
        domain,
        conditions,
        ansatz=ansatz,
        solution=solution,
        stability=Stability(constants, source="maximum principle"),
        name="allen_cahn",
    )
