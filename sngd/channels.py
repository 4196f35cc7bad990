"""Operations on Taylor channels that autograd differentiates once, by pullbacks written out.

Autograd through the separate products of a chain rule would keep every one of them; these keep their
arguments.

Letters
    C, n     Taylor channels and points of a batch
    w        width; a layer maps in to out
    a, b     (C, n, w) channels of two fields each
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sngd.activations import Derivatives
from sngd.taylor import TaylorRules

__all__ = ["Affine", "Pointwise", "Product", "affine", "pointwise", "product"]


def affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """H Wᵀ on every channel, with the bias b on the value channel: (C, n, in) → (C, n, out)."""
    z = h @ weight.T
    z[0] += bias
    return z


def pointwise(z: Tensor, rules: TaylorRules, derivatives: Derivatives) -> Tensor:
    """f∘z on channels (C, n, w)."""
    return rules.forward(z, derivatives(z[0], rules.order))


def product(a: Tensor, b: Tensor, rules: TaylorRules) -> Tensor:
    """∂^α(ab) = Σ_{B⊆α} ∂^B a ∂^{α∖B} b on all channels (Leibniz), (C, n, w).

    The terms are those of the square, (a²)_α = 2 a a_α + 2 Σ c a_B a_A over the partitions of α into two
    blocks: with two fields each of them stands for c (a_B b_A + a_A b_B). Of Δ they are a Δb + 2 Σ_i a_i b_i
    + b Δa.
    """
    out = a * b[0]
    if len(a) > 1:
        out[1:].addcmul_(a[0], b[1:])
    for number, i, j, scale in _pairs(rules):
        out[number].addcmul_(a[i], b[j], value=scale)
    return out


def _pairs(rules: TaylorRules) -> Iterator[tuple[int, int, int, float]]:
    """(channel α, channel B, channel A, c) of all terms c a_B b_A where both are derivatives."""
    for number, terms in rules.terms:
        for term in terms:
            if term.order == 2:
                i, j = term.factors
                yield number, i, j, term.coefficient
                yield number, j, i, term.coefficient
    for number, runs in rules.squares:
        for run in runs:
            for i in range(run.start, run.stop):
                yield number, i, i, 2.0


class Affine(torch.autograd.Function):
    """`affine` as a function of h alone."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Channels of H Wᵀ + b."""
        ctx.save_for_backward(weight)
        return affine(h, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, z_bar: Tensor) -> tuple[Tensor, None, None]:
        """The cotangent of h."""
        (weight,) = ctx.saved_tensors
        return z_bar @ weight, None, None


class Pointwise(torch.autograd.Function):
    """`pointwise`, with the pullback of `TaylorRules`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, rules: TaylorRules, derivatives: Derivatives) -> Tensor:
        """Channels of f∘z."""
        f = derivatives(z[0], rules.order + 1)
        ctx.rules = rules
        ctx.save_for_backward(z, *f)
        return rules.forward(z, f)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, h_bar: Tensor) -> tuple[Tensor, None, None]:
        """The cotangent of z; the axis of residual components has length 1 here."""
        z, *f = ctx.saved_tensors
        return ctx.rules.backward(z, f, h_bar.unsqueeze(2)).squeeze(2), None, None


class Product(torch.autograd.Function):
    """`product` of two fields' channels."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, rules: TaylorRules) -> Tensor:
        """Channels of a b."""
        ctx.rules = rules
        ctx.save_for_backward(a, b)
        return product(a, b, rules)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, bar: Tensor) -> tuple[Tensor, Tensor, None]:
        """The cotangents of a and b."""
        a, b = ctx.saved_tensors
        a_bar, b_bar = bar * b[0], bar * a[0]
        if len(a) > 1:
            a_bar[0] += (bar[1:] * b[1:]).sum(0)
            b_bar[0] += (bar[1:] * a[1:]).sum(0)
        for number, i, j, scale in _pairs(ctx.rules):
            a_bar[i].addcmul_(bar[number], b[j], value=scale)
            b_bar[j].addcmul_(bar[number], a[i], value=scale)
        return a_bar, b_bar, None
