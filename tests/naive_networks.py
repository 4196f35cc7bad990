"""The architectures once more, by their definitions: u(θ, x) in functions that autograd can differentiate."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sngd import MLP, Gabor, GatedMLP, PirateNet, ResidualMLP, Separable
from sngd.domain import Box
from tests.reference import PLAIN_FUNCTIONS

Field = Callable[[Tensor, Tensor], Tensor]
# W or v, and b: as (out, in) pairs stand in θ, all W before all b; in = 0 for vectors
Shape = tuple[int, int]


def parts_of(theta: Tensor, shapes: list[Shape]) -> list[tuple[Tensor, Tensor]]:
    sizes = [o * i for o, i in shapes] + [o for o, _ in shapes]
    assert sum(sizes) == len(theta), (sum(sizes), len(theta))
    pieces = theta.split(sizes)
    weights = [w.reshape(o, i) for w, (o, i) in zip(pieces, shapes, strict=False)]
    return list(zip(weights, pieces[len(shapes) :], strict=True))


class Reader:
    """Linear maps one after the other, factorised ones with their scales before them."""

    def __init__(self, theta: Tensor, shapes: list[Shape], factorized: bool) -> None:
        self.factorized = factorized
        if factorized:
            shapes = [s for o, i in shapes for s in ([(o, 0), (o, i)] if i else [(o, 0)])]
        self.parts = iter(parts_of(theta, shapes))

    def linear(self, factorized: bool | None = None) -> Callable[[Tensor], Tensor]:
        scale = None
        if self.factorized if factorized is None else factorized:
            _, scale = next(self.parts)
        weight, bias = next(self.parts)
        if scale is not None:
            weight, bias = torch.diag(torch.exp(scale)) @ weight, torch.exp(scale) * bias
        return lambda h: h @ weight.T + bias

    def vector(self) -> Tensor:
        return next(self.parts)[1]


def features(domain: Box, x: Tensor, modes: int = 1) -> Tensor:
    """Affine features of the axes that do not repeat, then cosines and sines of those that do."""
    h, cosines, sines = [], [], []
    for i, (low, high) in enumerate(domain.bounds):
        if i not in domain.periodic:
            h.append((2 * x[:, i] - low - high) / (high - low))
            continue
        for mode in range(1, modes + 1):
            phase = 2 * math.pi * mode * x[:, i] / (high - low)
            cosines.append(torch.cos(phase))
            sines.append(torch.sin(phase))
    return torch.stack([*h, *cosines, *sines], dim=1)


def mlp(c: MLP, theta: Tensor, h: Tensor, fields: int) -> Tensor:
    f = PLAIN_FUNCTIONS[c.activation]
    shapes = [(o, i) for i, o in pairwise((h.shape[1], *c.hidden, fields))]
    read = Reader(theta, shapes, c.weight_factorization)
    for number in range(len(shapes)):
        h = read.linear()(f(h) if number else h)
    return h


def gated(c: GatedMLP, theta: Tensor, h: Tensor, fields: int) -> Tensor:
    f, w, into = PLAIN_FUNCTIONS[c.activation], c.hidden, h.shape[1]
    shapes = [(w, into), (w, into), (w, into), *[(w, w)] * (c.layers - 1), (fields, w)]
    read = Reader(theta, shapes, c.weight_factorization)
    u, v = f(read.linear()(h)), f(read.linear()(h))
    for _ in range(c.layers):
        z = f(read.linear()(h))
        h = z * u + (1 - z) * v
    return read.linear()(h)


def pirate(c: PirateNet, theta: Tensor, h: Tensor, fields: int) -> Tensor:
    f, w = PLAIN_FUNCTIONS[c.activation], c.hidden
    linear = [(w, w)] * (2 + 3 * c.blocks)
    if c.weight_factorization:
        linear = [s for shape in linear for s in ((w, 0), shape)]
    last = [(fields, 0), (fields, w)] if c.weight_factorization else [(fields, w)]
    read = Reader(theta, [(w // 2, h.shape[1]), *linear, *[(1, 0)] * c.blocks, *last], False)
    read.factorized = c.weight_factorization
    z = read.linear(False)(h)
    x = torch.cat([torch.cos(z), torch.sin(z)], dim=1)
    u, v = f(read.linear()(x)), f(read.linear()(x))
    blocks = [[read.linear() for _ in range(3)] for _ in range(c.blocks)]
    for first, second, third in blocks:
        z = f(first(x))
        z = z * u + (1 - z) * v
        z = f(second(z))
        z = z * u + (1 - z) * v
        share = read.vector()
        x = share * f(third(z)) + (1 - share) * x
    return read.linear()(x)


def residual(c: ResidualMLP, theta: Tensor, h: Tensor, fields: int) -> Tensor:
    f, w, into = PLAIN_FUNCTIONS[c.activation], c.hidden, h.shape[1]
    shapes = [(w // 2 if c.fourier else w, into), *[(w, w)] * (c.layers - 1), (fields, w)]
    read = Reader(theta, shapes, False)
    z = read.linear()(h)
    h = torch.cat([torch.cos(z), torch.sin(z)], dim=1) if c.fourier else f(z)
    for _ in range(c.layers - 1):
        h = h + f(read.linear()(h))
    return read.linear()(h)


def gabor(c: Gabor, theta: Tensor, h: Tensor, fields: int) -> Tensor:
    w, into = c.hidden, h.shape[1]
    filters: list[Shape] = [(w * into, 0), (w, 0), (w, into)] * c.layers
    read = Reader(theta, [*filters, *[(w, w)] * (c.layers - 1), (fields, w)], False)
    g = []
    for _ in range(c.layers):
        centres, precision = read.vector().reshape(into, w), torch.exp(read.vector())
        distance = ((h.unsqueeze(2) - centres) ** 2).sum(1)
        g.append(torch.exp(-precision / 2 * distance) * torch.sin(read.linear()(h)))
    z = g[0]
    for other in g[1:]:
        z = read.linear()(z) * other
    return read.linear()(z)


def separable(c: Separable, theta: Tensor, groups: list[Tensor], fields: int) -> Tensor:
    f, total = PLAIN_FUNCTIONS[c.activation], 1.0
    widths = [(h.shape[1], *c.hidden, c.rank * fields) for h in groups]
    shapes = [(o, i) for one in widths for i, o in pairwise(one)]
    read = Reader(theta, shapes, c.weight_factorization)
    for h in groups:
        for number in range(len(c.hidden) + 1):
            h = read.linear()(f(h) if number else h)
        total = total * h.reshape(-1, fields, c.rank)
    return total.sum(2) / math.sqrt(c.rank)


_BY_KIND: dict[type, Callable[..., Tensor]] = {
    MLP: mlp,
    GatedMLP: gated,
    PirateNet: pirate,
    ResidualMLP: residual,
    Gabor: gabor,
}


def naive_network(config: Any, domain: Box, fields: int) -> Field:
    """u(θ, x): θ (P,), x (n, d) → (n, fields)."""

    def u(theta: Tensor, x: Tensor) -> Tensor:
        if isinstance(config, Separable):
            alone = [
                Box(z=b, periodic="z" if i in domain.periodic else ()) for i, b in enumerate(domain.bounds)
            ]
            groups = [features(one, x[:, i : i + 1], config.modes) for i, one in enumerate(alone)]
            return separable(config, theta, groups, fields)
        return _BY_KIND[type(config)](config, theta, features(domain, x, config.modes), fields)

    return u
