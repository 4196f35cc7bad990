"""Taylor channels and how they go through a pointwise function, forwards and backwards.

Letters
    C        Taylor channels of a point batch (value, derivatives); a downward-closed set
    n        points of the batch; q residual components per point
    w        width of a layer
    α, B     a derivative: sorted tuple of axis indices, () is the value, (0, 0) is ∂²/∂x₀²
    Δ        the collapsed Laplacian, one channel for Σ_i ∂²/∂x_i²; so are ∂^α Δ^m, such as the biharmonic Δ²
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
from torch import Tensor

__all__ = ["Alpha", "Channel", "Laplacian", "TaylorRules", "close", "faa_di_bruno", "leibniz", "parts"]


@dataclass(frozen=True, order=True)
class Laplacian:
    """The channel ∂^along (Σ_{i in axes} ∂²/∂x_i²)^power, carried as one tensor instead of one per term.

    The chain rule is linear in the derivatives of the highest order, so their sum goes through a layer as
    one channel (collapsed Taylor mode, Dangel et al. 2025, arXiv 2505.13644). Sums inside it are collapsed
    too: of the third derivatives, Δ² needs the ∂_i Δ alone.
    """

    axes: tuple[int, ...]
    power: int = 1
    along: tuple[int, ...] = ()


Channel = tuple[int, ...] | Laplacian
Alpha = tuple[int, ...]

# Accumulations over channels are made in about so many operations.
_ROUNDS = 16


def close(requested: set[Channel]) -> tuple[Channel, ...]:
    """What the chain rule needs to give some derivatives, in the order value, firsts, seconds, …, collapsed.

    Faà di Bruno needs every lower derivative of a requested one; a collapsed one needs its blocks, the
    Laplacian the value and the first derivatives along its axes. A collapsed channel whose terms are all
    channels themselves is left out: it is their sum.
    """
    plain: set[Alpha] = {()}
    collapsed: set[Laplacian] = set()
    pending = list(requested)
    while pending:
        channel = pending.pop()
        if not isinstance(channel, Laplacian):
            plain.update(_subsets(channel))
        elif channel not in collapsed:
            collapsed.add(channel)
            pending += {block for _, _, blocks in faa_di_bruno(channel) for block in blocks}
    needed = {channel for channel in collapsed if not plain.issuperset(parts(channel))}
    return (*sorted(plain, key=lambda alpha: (len(alpha), alpha)), *sorted(needed))


def _subsets(alpha: Alpha) -> Iterator[Alpha]:
    for mask in range(1 << len(alpha)):
        yield tuple(axis for bit, axis in enumerate(alpha) if mask >> bit & 1)


# ---------------------------------------------------------------------------------------------
# Derivatives as products of derivatives: symbols, no numbers
# ---------------------------------------------------------------------------------------------
# A channel is written as labels: axes, and −1, −1, −2, −2, … for the pairs that Laplacians sum over.


def _labels(channel: Channel) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Labels of a channel, and the axes that pairs run over."""
    if isinstance(channel, Laplacian):
        pairs = tuple(-1 - number // 2 for number in range(2 * channel.power))
        return (*channel.along, *pairs), channel.axes
    return channel, ()


def _assign(groups: list[tuple[int, ...]], axes: tuple[int, ...]) -> Iterator[tuple[Channel, ...]]:
    """One derivative per group of labels: a pair inside a group is a Laplacian, others take every axis."""
    apart = sorted({label for group in groups for label in group if label < 0 and group.count(label) == 1})
    for chosen in product(axes, repeat=len(apart)):
        at = dict(zip(apart, chosen, strict=True))
        yield tuple(_derivative(group, axes, at) for group in groups)


def _derivative(group: tuple[int, ...], axes: tuple[int, ...], at: dict[int, int]) -> Channel:
    along = tuple(sorted(at.get(label, label) for label in group if label >= 0 or label in at))
    power = (len(group) - len(along)) // 2
    return Laplacian(axes, power, along) if power else along


def _by_kind(channel: Channel) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Sort key of plain and collapsed channels together."""
    if isinstance(channel, Laplacian):
        return channel.power, channel.along, channel.axes
    return 0, channel, ()


def _partitions(items: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """Set partitions of positions, first item first."""
    if not items:
        yield []
        return
    head, rest = items[0], items[1:]
    for mask in range(1 << len(rest)):
        block = (head, *(item for bit, item in enumerate(rest) if mask >> bit & 1))
        other = tuple(item for bit, item in enumerate(rest) if not mask >> bit & 1)
        for partition in _partitions(other):
            yield [block, *partition]


@cache
def faa_di_bruno(channel: Channel) -> tuple[tuple[int, int, tuple[Channel, ...]], ...]:
    """(multiplicity, number of blocks, blocks) of every distinct term of a derivative of f∘z.

    (f∘z)_α = Σ_{partitions π of α} f^{(|π|)}(z) Π_{B∈π} z_B; of Δ they are f' z_Δ and f'' z_i².
    """
    labels, axes = _labels(channel)
    count: Counter[tuple[Channel, ...]] = Counter()
    for partition in _partitions(tuple(range(len(labels)))):
        groups = [tuple(labels[i] for i in block) for block in partition]
        count.update(tuple(sorted(blocks, key=_by_kind)) for blocks in _assign(groups, axes))
    terms = sorted(count.items(), key=lambda term: [_by_kind(block) for block in term[0]])
    return tuple((many, len(blocks), blocks) for blocks, many in terms)


@cache
def leibniz(channel: Channel) -> tuple[tuple[int, Channel, Channel], ...]:
    """(multiplicity, B, A) of every distinct term of a derivative of a product: Σ ∂^B f · ∂^A g."""
    labels, axes = _labels(channel)
    count: Counter[tuple[Channel, ...]] = Counter()
    for mask in range(1 << len(labels)):
        left = tuple(label for bit, label in enumerate(labels) if mask >> bit & 1)
        right = tuple(label for bit, label in enumerate(labels) if not mask >> bit & 1)
        count.update(_assign([left, right], axes))
    return tuple((many, left, right) for (left, right), many in count.items())


@cache
def parts(channel: Laplacian) -> dict[Alpha, int]:
    """Multiplicities of the plain derivatives that a collapsed channel is the sum of."""
    count: Counter[Alpha] = Counter()
    for chosen in product(channel.axes, repeat=channel.power):
        count[tuple(sorted((*channel.along, *chosen, *chosen)))] += 1
    return dict(count)


# ---------------------------------------------------------------------------------------------
# Channels as numbers
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """coefficient · f^{(order)}(z) · Π z_B over `factors` (channel numbers, repeats allowed)."""

    coefficient: float
    order: int
    factors: tuple[int, ...]


class TaylorRules:
    """Chain rule of a pointwise function on the channels of a batch, for any derivative order.

    (f∘z)_α = Σ_{partitions π of α} f^{(|π|)}(z) Π_{B∈π} z_B   (Faà di Bruno), and for the collapsed
    Laplacian (f∘z)_Δ = f'(z) z_Δ + f''(z) Σ_i z_i².  `order` is the highest f^{(m)} that appears.

    Args:
        channels: of `close`.

    Raises:
        ValueError: they do not start with the value.
    """

    def __init__(self, channels: tuple[Channel, ...]) -> None:
        self.channels = channels
        index = {channel: number for number, channel in enumerate(channels)}
        if not channels or channels[0] != ():
            raise ValueError(f"channels must start with the value (), got {channels}")
        # Terms of order 2 and more: the one of order 1 is f'(z) z_α for every channel.
        self.terms: list[tuple[int, list[Term]]] = []
        # Laplacians have one term of order 2, the squares of all first derivatives along their axes.
        self.squares: list[tuple[int, list[slice]]] = []
        for number, channel in enumerate(channels[1:], start=1):
            if isinstance(channel, Laplacian) and channel == Laplacian(channel.axes):
                self.squares.append((number, _runs(sorted(index[(i,)] for i in channel.axes))))
            else:
                self.terms.append((number, _terms(channel, index)))
        highest = max((t.order for _, terms in self.terms for t in terms), default=1)
        self.order = max(highest, 2 if self.squares else 1) if len(channels) > 1 else 0

    def forward(self, z: Tensor, derivatives: Sequence[Tensor]) -> Tensor:
        """Channels of f∘z.

        Args:
            z: (C, n, w) channels before the activation.
            derivatives: f, f', … f^{(order)} at z[0], each (n, w).

        Returns:
            (C, n, w).
        """
        h = torch.empty_like(z)
        h[0].copy_(derivatives[0])
        if len(z) > 1:  # every channel but the value has the term f'(z) z_α
            torch.mul(z[1:], derivatives[1], out=h[1:])
        for number, terms in self.terms:
            for group in _by_order(terms):
                h[number].addcmul_(derivatives[group[0].order], _sum_of_products(group, z))
        for number, runs in self.squares:
            h[number].addcmul_(derivatives[2], _sum_of_squares(runs, z))
        return h

    def backward(self, z: Tensor, derivatives: Sequence[Tensor], h_bar: Tensor) -> Tensor:
        """Pull a cotangent of f∘z back to z.

        Args:
            z: (C, n, w).
            derivatives: f, f', … f^{(order+1)} at z[0], each (n, w).
            h_bar: (C, n, q, w), one cotangent per residual component.

        Returns:
            (C, n, q, w), the cotangent of z.
        """
        slopes = [f.unsqueeze(1) for f in derivatives]
        zq = z.unsqueeze(2)
        z_bar = h_bar * slopes[1]
        if len(z) > 1:
            z_bar[0].addcmul_(_contract(h_bar[1:], zq[1:]), slopes[2])
        for number, terms in self.terms:
            for group in _by_order(terms):
                m = group[0].order
                z_bar[0].addcmul_(h_bar[number], slopes[m + 1] * _sum_of_products(group, zq))
                weighted = h_bar[number] * slopes[m]
                for term in group:
                    for factor, times in Counter(term.factors).items():
                        others = list(term.factors)
                        others.remove(factor)
                        scale = term.coefficient * times
                        z_bar[factor].addcmul_(weighted, _product(others, zq), value=scale)
        for number, runs in self.squares:
            z_bar[0].addcmul_(h_bar[number], slopes[3] * _sum_of_squares(runs, zq))
            weighted = h_bar[number] * slopes[2]
            for run in runs:
                z_bar[run].addcmul_(zq[run], weighted, value=2.0)
        return z_bar


def _terms(channel: Channel, index: dict[Channel, int]) -> list[Term]:
    """Terms of order 2 and more; a block that has no channel of its own is the sum of its parts."""
    count: Counter[tuple[int, ...]] = Counter()
    for many, order, blocks in faa_di_bruno(channel):
        if order == 1:
            continue
        choices = [_numbers(block, index) for block in blocks]
        for factors in product(*choices):
            times = math.prod((times for _, times in factors), start=many)
            count[tuple(sorted(number for number, _ in factors))] += times
    return [Term(float(many), len(factors), factors) for factors, many in count.items()]


def _numbers(block: Channel, index: dict[Channel, int]) -> list[tuple[int, int]]:
    """(channel number, multiplicity) of the channels that a derivative is the sum of."""
    if isinstance(block, Laplacian) and block not in index:
        return [(index[alpha], times) for alpha, times in parts(block).items()]
    return [(index[block], 1)]


def _runs(numbers: list[int]) -> list[slice]:
    """Ascending numbers as slices of neighbours."""
    runs: list[slice] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = slice(runs[-1].start, number + 1)
        else:
            runs.append(slice(number, number + 1))
    return runs


def _contract(a: Tensor, b: Tensor) -> Tensor:
    """Σ_c a_c b_c over the leading axis, without the products of all channels in memory.

    Products are accumulated in a block of at most C / _ROUNDS channels, then the block is summed: a few
    operations however many channels there are, and the block stays in the processor's cache.
    """
    block = max(1, len(a) // _ROUNDS)
    total = a[:block] * b[:block]
    for start in range(block, len(a), block):
        part = a[start : start + block]
        total[: len(part)].addcmul_(part, b[start : start + block])
    return total[0] if block == 1 else total.sum(0)


def _sum_of_squares(runs: list[slice], z: Tensor) -> Tensor:
    """Σ_i z_i² over runs of channels."""
    first, *others = (_contract(z[run], z[run]) for run in runs)
    for other in others:
        first += other
    return first


def _by_order(terms: list[Term]) -> list[list[Term]]:
    """Terms that share f^{(m)}: their products are summed before one multiplication."""
    orders = sorted({term.order for term in terms})
    return [[term for term in terms if term.order == m] for m in orders]


def _product(factors: Sequence[int], z: Tensor) -> Tensor:
    result = z[factors[0]]
    for factor in factors[1:]:
        result = result * z[factor]
    return result


def _sum_of_products(terms: list[Term], z: Tensor) -> Tensor:
    """Σ coefficient · Π z_B over terms of two factors and more."""
    total: Tensor | None = None
    for term in terms:
        left, right = _product(term.factors[:-1], z), z[term.factors[-1]]
        if total is None:
            total = left * right
            if term.coefficient != 1.0:
                total *= term.coefficient
        else:
            total.addcmul_(left, right, value=term.coefficient)
    assert total is not None
    return total
