"""Derivatives of a function of points by nested forward mode: which nests give which Taylor channels.

    ∂²u/∂x_a∂x_b = jvp(jvp(u, e_a), e_b)          a nest of order m gives 2^m derivatives, of all its subsets

Letters
    C, n     Taylor channels and points of a batch; f outputs
    α        a derivative: sorted tuple of axis indices
    m, K     order of a nest, and number of nests of that order
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.func import jvp, vmap

from sngd.taylor import Alpha, Channel, Laplacian, parts

__all__ = ["STEP", "Recipe", "derivatives", "error_of_nests", "make_recipe", "nest", "relative_difference"]

# Length of a difference, which is then known to about 1e-10, and what counts as zero.
STEP, _FLOOR = 1e-5, 1e-6


@dataclass(frozen=True)
class Recipe:
    """How channels come out of nested directional derivatives.

    Args:
        groups: nests of one order after the other; each nest the axes that it goes along, inner first.
        terms: per channel (group, subset of a nest's axes as bits, weight of each nest of the group).
    """

    groups: tuple[tuple[Alpha, ...], ...]
    terms: tuple[tuple[tuple[int, int, tuple[float, ...]], ...], ...]

    @property
    def evaluations(self) -> int:
        """Values and derivatives that are computed, in units of values."""
        return sum(1 + len(group) * ((1 << len(group[0])) - 1) for group in self.groups)


@cache
def make_recipe(channels: tuple[Channel, ...]) -> Recipe:
    """Nests along derivatives that no other one contains; all others are by-products.

    Args:
        channels: downward closed, the value among them.
    """
    needed = [parts(channel) if isinstance(channel, Laplacian) else {channel: 1} for channel in channels]
    nests: list[Alpha] = []
    for alpha in sorted({alpha for terms in needed for alpha in terms}, key=lambda a: (-len(a), a)):
        if not any(_contains(one, alpha) for one in nests):
            nests.append(alpha)
    orders = sorted({len(one) for one in nests}, reverse=True)
    groups = tuple(tuple(one for one in nests if len(one) == m) for m in orders)
    recipes = []
    for terms in needed:
        weights: dict[tuple[int, int], list[float]] = {}
        for alpha, times in terms.items():
            group, number, bits = _find(groups, alpha)
            weights.setdefault((group, bits), [0.0] * len(groups[group]))[number] += times
        recipes.append(tuple((group, bits, tuple(w)) for (group, bits), w in weights.items()))
    return Recipe(groups, tuple(recipes))


def _contains(larger: Alpha, alpha: Alpha) -> bool:
    return not Counter(alpha) - Counter(larger)


def _find(groups: Sequence[Sequence[Alpha]], alpha: Alpha) -> tuple[int, int, int]:
    """(group, number of the nest, bits of its axes) that give a derivative."""
    for group, nests in enumerate(groups):
        for number, one in enumerate(nests):
            if _contains(one, alpha):
                left, bits = Counter(alpha), 0
                for place, axis in enumerate(one):
                    if left[axis]:
                        left[axis] -= 1
                        bits |= 1 << place
                return group, number, bits
    raise AssertionError("every derivative has a nest")


def nest(f: Callable[[Tensor], Tensor], x: Tensor, directions: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Derivatives of f at x (n, d) along all subsets of m directions (d,), numbered by the subset's bits."""

    def values(x: Tensor) -> tuple[Tensor, ...]:
        return (f(x),)

    def along(g: Callable[[Tensor], tuple[Tensor, ...]], v: Tensor) -> Callable[..., tuple[Tensor, ...]]:
        def both(x: Tensor) -> tuple[Tensor, ...]:
            pair = jvp(g, (x,), (v.expand_as(x),))
            return (*pair[0], *pair[1])

        return both

    g: Callable[[Tensor], tuple[Tensor, ...]] = values
    for v in directions:
        g = along(g, v)
    return g(x)


def derivatives(f: Callable[[Tensor], Tensor], x: Tensor, recipe: Recipe) -> Tensor:
    """Taylor channels (C, n, f) of f at points x (n, d), which it takes one by one."""
    axes = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    found: list[tuple[Tensor, ...]] = []  # per group and subset (K, n, f)
    for nests in recipe.groups:
        if len(nests) == 1:
            found.append(tuple(z.unsqueeze(0) for z in nest(f, x, [axes[a] for a in nests[0]])))
        else:  # what does not depend on the direction is computed once
            directions = torch.stack([axes[list(one)] for one in nests])
            found.append(vmap(lambda v: nest(f, x, v.unbind()))(directions))
    return torch.stack([_sum([(found[g][bits], w) for g, bits, w in term]) for term in recipe.terms])


def error_of_nests(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, order: int) -> tuple[float, int]:
    """How far derivatives along a direction are from differences of the ones below, and of which order.

    Args:
        f: (n, d) → (n, f), in float64.
        x: (n, d) points.
        v: (d,) direction in which f changes by as much as it is large.
        order: m, the highest.

    Returns:
        The largest of the `relative_difference`s, with its order; the first that is nan.
    """
    here, ahead, behind = (nest(f, x + shift * v, [v] * order) for shift in (0.0, STEP, -STEP))
    worst = (0.0, 1)
    for m in range(1, order + 1):
        got, below = (1 << m) - 1, (1 << (m - 1)) - 1  # along the first m and m − 1 of the directions
        wanted = (ahead[below] - behind[below]) / (2 * STEP)
        error = relative_difference(here[got], wanted, here[below])
        if math.isnan(error):
            return error, m
        worst = max(worst, (error, m))
    return worst


def relative_difference(got: Tensor, wanted: Tensor, size: Tensor) -> float:
    """|got − wanted| in units of them and of a millionth of a size; the median over points, all (n, f).

    The median, so that a kink between two points of a difference does no harm.
    """
    known = torch.maximum(got.abs(), wanted.abs()).amax(1) + _FLOOR * size.abs().amax(1)
    error = (got - wanted).abs().amax(1) / known.clamp_min(torch.finfo(known.dtype).tiny)
    return float(error.median())


def _sum(terms: Sequence[tuple[Tensor, tuple[float, ...]]]) -> Tensor:
    """Σ over terms of Σ_k w_k z[k], (n, f), for z (K, n, f)."""
    parts = []
    for z, weights in terms:
        if sum(w != 0.0 for w in weights) == 1:
            number = next(k for k, w in enumerate(weights) if w)
            parts.append(z[number] if weights[number] == 1.0 else weights[number] * z[number])
        else:
            column = torch.tensor(weights, dtype=z.dtype, device=z.device).view(-1, 1, 1)
            parts.append((column * z).sum(0))
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
