"""The flow in the two corners where a uniform lid meets the walls of a cavity.

In polar coordinates of a corner, θ = 0 on the lid, the stream function starts as

    ψ = r f(θ) ± Re r² F(θ) + …

with + in the corner that the lid moves away from and − in the one that it moves towards. The first term is
the flow without inertia, the second its correction by inertia:

    f = B sin θ + C θ cos θ + D θ sin θ                     f = 0, f′ = −1 on the lid; f = f′ = 0 on the wall
    F‴ + 4 F′ = f g + c,   g = f″ + f                       F = F′ = 0 on both
    p = ∓ 2 (C cos θ + D sin θ)/(Re r) − c log r + ∫ g f′ dθ − (f² + f′²)/2

Sources: Taylor, "On scraping viscous fluid from a plane surface", 1962, for f; Botella and Peyret, "Benchmark
spectral results on the lid-driven cavity flow", Computers & Fluids 27, 1998, who subtract both terms.

Letters
    X, Y     distances from a corner along the lid and down the wall
    r, θ     polar coordinates there
    ψ        stream function, u = ψ_y, v = −ψ_x
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch

__all__ = ["INERTIA", "STOKES", "corner_flow"]

# B, C, D of r f = B Y + θ (C X + D Y).
STOKES = (-(pi**2) / (pi**2 - 4), 4 / (pi**2 - 4), 2 * pi / (pi**2 - 4))


def _inertia() -> tuple[tuple[float, ...], float]:
    """α and c: r² F = (α₀ + α₁ θ) r² + (α₂ + α₃ θ + α₄ θ²) (X² − Y²) + (α₅ + α₆ θ + α₇ θ²) 2XY.

    F′ = k₀ (1 − cos 2θ) + b sin 2θ + θ (k₁ sin 2θ + k₂ cos 2θ) + θ² (k₃ sin 2θ + k₄ cos 2θ).
    """
    b, c, d = STOKES
    k1, k2 = b * c / 4 + (d * d - c * c) / 16, -b * d / 4 + c * d / 8
    k3, k4 = c * d / 4, -(d * d - c * c) / 8
    k0 = pi / 4 * k2 + pi**2 / 8 * k4
    a3, a4 = (k4 - k1) / 2, -k3 / 2
    a2 = (k0 * pi / 2 - a3 * pi / 2 - a4 * pi**2 / 4) / 2
    alpha = (-a2, k0, a2, a3, a4, -k0 / 2 + (k1 - k4) / 4, (k2 + k3) / 2, k4 / 2)
    return alpha, 4 * k0 + b * c


INERTIA, _LOGARITHM = _inertia()


def corner_flow(x: Any, y: Any, reynolds: float) -> tuple[Any, Any, Any]:
    """u, v, p of both corners of [0, 1]², (n,) each; on the walls together they are what u and v have to be.

    ψ and p of each corner are multiplied by s(X) s(Y), s(X) = 1 − 10 X³ + 15 X⁴ − 6 X⁵, which fades them out
    towards the other walls; s(x) + s(1 − x) = 1.

    Args:
        x: tensor (n,), or a jet of its values; so is what is returned.
        y: the same.
        reynolds: Re > 0.
    """
    left, right = _corner(x, 1 - y, reynolds), _corner(1 - x, 1 - y, -reynolds)
    return left[0] + right[0], left[1] - right[1], left[2] + right[2]


def _corner(x: Any, y: Any, reynolds: float) -> tuple[Any, Any, Any]:
    """u, v, p of one corner in its coordinates X, Y; reynolds < 0 where the lid moves towards it."""
    b, c, d = STOKES
    a = INERTIA
    square = x * x + y * y + 1e-300
    theta, line = 2 * torch.atan(y / (torch.sqrt(square) + x)), c * x + d * y
    theta_x, theta_y = -y / square, x / square
    minus, cross = x * x - y * y, 2 * x * y
    even, odd = a[2] + theta * (a[3] + theta * a[4]), a[5] + theta * (a[6] + theta * a[7])
    turn = a[1] * square + (a[3] + 2 * a[4] * theta) * minus + (a[6] + 2 * a[7] * theta) * cross
    plain = a[0] + a[1] * theta
    psi = b * y + theta * line + reynolds * (plain * square + even * minus + odd * cross)
    psi_x = c * theta + line * theta_x + reynolds * (turn * theta_x + 2 * (plain + even) * x + 2 * odd * y)
    psi_y = b + d * theta + line * theta_y
    psi_y = psi_y + reynolds * (turn * theta_y + 2 * (plain - even) * y + 2 * odd * x)
    (fx, dfx), (fy, dfy) = _fade(x), _fade(y)
    u = -fx * (fy * psi_y + dfy * psi)
    v = -fy * (fx * psi_x + dfx * psi)
    return u, v, fx * fy * (_inertial_pressure(square, theta) - 2 / reynolds * line / square)


def _inertial_pressure(square: Any, theta: Any) -> Any:
    """−c log r + ∫ g f′ dθ − (f² + f′²)/2, the integral from the lid."""
    b, c, d = STOKES
    sine, cosine = torch.sin(theta), torch.cos(theta)
    sine2, cosine2 = torch.sin(2 * theta), torch.cos(2 * theta)
    f = b * sine + theta * (c * cosine + d * sine)
    slope = (b + c) * cosine + d * sine + theta * (d * cosine - c * sine)
    head = (d * d - c * (b + c)) * (1 - cosine2) / 2 + b * d * theta + d * (b + 2 * c) * sine2 / 2
    head = head + (d * d + c * c) * theta**2 / 2
    head = head + (d * d - c * c) * (theta * sine2 / 2 + (cosine2 - 1) / 4)
    head = head + c * d * (theta * cosine2 - sine2 / 2)
    return head - _LOGARITHM / 2 * torch.log(square) - (f * f + slope * slope) / 2


def _fade(z: Any) -> tuple[Any, Any]:
    """The values and slopes of s."""
    return 1 - z**3 * (10 - 15 * z + 6 * z * z), -30 * (z * (1 - z)) ** 2
