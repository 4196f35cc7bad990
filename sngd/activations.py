"""Pointwise functions with derivatives of every order.

Each entry of `ACTIVATIONS` maps (z, m) to the list f(z), f'(z), …, f^{(m)}(z), tensors of z's shape.
Higher orders come from recurrences, not from tables: polynomials in tanh or the logistic function,
Hermite polynomials for GELU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS", "KINKED", "NETWORK_ACTIVATIONS", "Derivatives", "reciprocal_derivatives"]

Derivatives = Callable[[Tensor, int], list[Tensor]]


@cache
def _chain_polynomials(slope: tuple[float, ...], order: int) -> tuple[tuple[float, ...], ...]:
    """Coefficients of d^m s/dz^m as polynomials in s, where ds/dz = slope(s)."""
    current: tuple[float, ...] = (0.0, 1.0)
    result = [current]
    for _ in range(order):
        derivative = [i * c for i, c in enumerate(current)][1:] or [0.0]
        product = [0.0] * (len(derivative) + len(slope) - 1)
        for i, a in enumerate(derivative):
            for j, b in enumerate(slope):
                product[i + j] += a * b
        current = tuple(product)
        result.append(current)
    return tuple(result)


def _horner(coefficients: tuple[float, ...], s: Tensor) -> Tensor:
    result = s * coefficients[-1] + coefficients[-2] if len(coefficients) > 1 else s * 0
    for c in reversed(coefficients[:-2]):
        result = result.mul_(s)
        if c:
            result.add_(c)
    return result


_TANH_SLOPE = (1.0, 0.0, -1.0)  # tanh' = 1 − tanh²
_LOGISTIC_SLOPE = (0.0, 1.0, -1.0)  # s' = s − s²
_TAN_SLOPE = (1.0, 0.0, 1.0)  # tan' = 1 + tan²


def _tanh(z: Tensor, order: int) -> list[Tensor]:
    t = torch.tanh(z)
    result = [t]
    if order >= 1:
        s = torch.addcmul(torch.ones_like(t), t, t, value=-1.0)  # 1 − t²
        result.append(s)
    if order >= 2:
        result.append((t * s).mul_(-2.0))
    if order >= 3:  # −2 (1 − t²)(1 − 3t²) = s (4 − 6 s) with s = 1 − t²
        result.append((s * -6.0).add_(4.0).mul_(s))
    for m in range(4, order + 1):
        result.append(_horner(_chain_polynomials(_TANH_SLOPE, m)[m], t))
    return result


def _logistic(z: Tensor, order: int) -> list[Tensor]:
    s = torch.sigmoid(z)
    polynomials = _chain_polynomials(_LOGISTIC_SLOPE, order)
    return [s, *(_horner(polynomials[m], s) for m in range(1, order + 1))]


def _sin(z: Tensor, order: int) -> list[Tensor]:
    s = torch.sin(z)
    c = torch.cos(z) if order >= 1 else s
    cycle = [s, c, -s if order >= 2 else s, -c if order >= 3 else c]
    return [cycle[m % 4] for m in range(order + 1)]


def _cos(z: Tensor, order: int) -> list[Tensor]:
    c = torch.cos(z)
    s = torch.sin(z) if order >= 1 else c
    cycle = [c, -s, -c if order >= 2 else c, s]
    return [cycle[m % 4] for m in range(order + 1)]


def _softplus(z: Tensor, order: int) -> list[Tensor]:
    # threshold: torch returns z itself above it; 40 keeps that switch below rounding
    return [functional.softplus(z, threshold=40.0), *(_logistic(z, order - 1) if order else [])]


def _silu(z: Tensor, order: int) -> list[Tensor]:
    """(z s)^{(m)} = z s^{(m)} + m s^{(m−1)}."""
    s = _logistic(z, order)
    return [z * s[0], *(z * s[m] + m * s[m - 1] for m in range(1, order + 1))]


def _normal_cdf(z: Tensor, order: int) -> list[Tensor]:
    """Φ, φ, and Φ^{(m)} = (−1)^{m−1} He_{m−1} φ."""
    result = [torch.special.ndtr(z)]
    if order:
        density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        result.append(density)
        previous, current = torch.zeros_like(z), torch.ones_like(z)  # He_{−1}, He_0
        for m in range(2, order + 1):
            previous, current = current, z * current - (m - 2) * previous
            result.append((-1) ** (m - 1) * current * density)
    return result


def _gelu(z: Tensor, order: int) -> list[Tensor]:
    """(z Φ)^{(m)} = z Φ^{(m)} + m Φ^{(m−1)}, the exact (erf) GELU."""
    p = _normal_cdf(z, order)
    return [z * p[0], *(z * p[m] + m * p[m - 1] for m in range(1, order + 1))]


def _erf(z: Tensor, order: int) -> list[Tensor]:
    """The error function, erf z = 2 Φ(√2 z) − 1."""
    p = _normal_cdf(math.sqrt(2) * z, order)
    return [torch.erf(z), *(2 * 2 ** (m / 2) * p[m] for m in range(1, order + 1))]


def _tan(z: Tensor, order: int) -> list[Tensor]:
    t = torch.tan(z)
    polynomials = _chain_polynomials(_TAN_SLOPE, order)
    return [t, *(_horner(polynomials[m], t) for m in range(1, order + 1))]


def _atan(z: Tensor, order: int) -> list[Tensor]:
    """With g = atan' = 1/(1 + z²), the m-th derivative of (1 + z²) g = 1 gives g^{(m)} by the two before."""
    g, previous = 1 / (1 + z * z), torch.zeros_like(z)
    result, current = [torch.atan(z)], g
    for m in range(1, order + 1):
        result.append(current)
        current, previous = -m * g * (2 * z * current + (m - 1) * previous), current
    return result


def _sinh(z: Tensor, order: int) -> list[Tensor]:
    pair = torch.sinh(z), torch.cosh(z)
    return [pair[m % 2] for m in range(order + 1)]


def _cosh(z: Tensor, order: int) -> list[Tensor]:
    pair = torch.cosh(z), torch.sinh(z)
    return [pair[m % 2] for m in range(order + 1)]


def _expm1(z: Tensor, order: int) -> list[Tensor]:
    return [torch.expm1(z), *([torch.exp(z)] * order)]


def _log1p(z: Tensor, order: int) -> list[Tensor]:
    return [torch.log1p(z), *(reciprocal_derivatives(1 + z, order - 1) if order else [])]


def _exp(z: Tensor, order: int) -> list[Tensor]:
    return [torch.exp(z)] * (order + 1)


def _log(z: Tensor, order: int) -> list[Tensor]:
    return [torch.log(z), *(reciprocal_derivatives(z, order - 1) if order else [])]


def _sqrt(z: Tensor, order: int) -> list[Tensor]:
    return [math.prod(0.5 - j for j in range(m)) * z ** (0.5 - m) for m in range(order + 1)]


def _square(z: Tensor, order: int) -> list[Tensor]:
    return [z * z, 2 * z, torch.full_like(z, 2.0), *([torch.zeros_like(z)] * (order - 2))][: order + 1]


def _neg(z: Tensor, order: int) -> list[Tensor]:
    return [-z, -torch.ones_like(z), *([torch.zeros_like(z)] * (order - 1))][: order + 1]


def reciprocal_derivatives(z: Tensor, order: int) -> list[Tensor]:
    """1/z and its derivatives (−1)^m m! z^{−m−1} up to m = order, each of the shape of z."""
    return [(-1) ** m * math.factorial(m) * z ** (-m - 1) for m in range(order + 1)]


NETWORK_ACTIVATIONS: dict[str, Derivatives] = {
    "tanh": _tanh,
    "sin": _sin,
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
}
# every pointwise torch function that a residual may apply to a field
ACTIVATIONS: dict[str, Derivatives] = NETWORK_ACTIVATIONS | {
    "cos": _cos,
    "exp": _exp,
    "log": _log,
    "neg": _neg,
    "sqrt": _sqrt,
    "square": _square,
    "sigmoid": _logistic,
    "reciprocal": reciprocal_derivatives,
    "atan": _atan,
    "cosh": _cosh,
    "erf": _erf,
    "expm1": _expm1,
    "log1p": _log1p,
    "sinh": _sinh,
    "tan": _tan,
}


def _once(name: str, value: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> Derivatives:
    def derivatives(z: Tensor, order: int) -> list[Tensor]:
        if order > 1:
            raise ValueError(
                f"{name}(u) has no second derivative where u = 0; use a smooth function, e.g. "
                "sqrt(u**2 + 1e-6) for abs, softplus for relu"
            )
        return [value(z), slope(z)][: order + 1]

    return derivatives


# functions with a kink at 0, which have one derivative but not two; that at 0 is 0
KINKED: dict[str, Derivatives] = {
    "abs": _once("abs", torch.abs, torch.sign),
    "relu": _once("relu", torch.relu, lambda z: torch.heaviside(z, torch.zeros_like(z))),
}
