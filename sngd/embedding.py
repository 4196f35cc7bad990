"""Embeddings: coordinates → features of a network, with all derivatives in closed form.

An embedding has no parameters. It makes every field periodic or even along the axes where the domain says so,
exactly and to every order, because the network sees nothing but features that are.

Letters
    d        coordinates; C, n Taylor channels and points of a batch
    a, m, e  features: affine ones; wave vectors with cosine and sine; wave vectors with the cosine alone
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sngd.geometry.shape import Shape
from sngd.taylor import Channel, Laplacian

__all__ = ["Embedding", "embed"]


class Embedding:
    """Features of the coordinates: affine ones and plane waves cos(κ·x), sin(κ·x), cos(κ·(x − x₀)).

    Args:
        scale: (d, a) matrix of the affine features, x ↦ x scale + offset.
        offset: (a,).
        waves: (d, m) wave vectors κ as columns; gives m cosines, then m sines.
        even: (d, e) wave vectors of cosines about the middle, after those; none when absent.
        middle: (d,) x₀, which the even features are even about.
    """

    def __init__(
        self,
        scale: Tensor,
        offset: Tensor,
        waves: Tensor,
        even: Tensor | None = None,
        middle: Tensor | None = None,
    ) -> None:
        self.scale, self.offset, self.waves = scale, offset, waves
        self.even = waves[:, :0] if even is None else even
        self.middle = waves.new_zeros(len(waves)) if middle is None else middle

    @property
    def features(self) -> int:
        """Number of features a + 2m + e."""
        return self.scale.shape[1] + 2 * self.waves.shape[1] + self.even.shape[1]

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Embedding:
        """A copy in another dtype or on another device."""
        parts = (self.scale, self.offset, self.waves, self.even, self.middle)
        return Embedding(*(t.to(dtype=dtype, device=device) for t in parts))

    def values(self, x: Tensor) -> Tensor:
        """The features at points x (n, d), (n, a + 2m + e); no operation is in place, for torch.func."""
        phase, even = x @ self.waves, (x - self.middle) @ self.even
        affine = x @ self.scale + self.offset
        return torch.cat([affine, torch.cos(phase), torch.sin(phase), torch.cos(even)], dim=1)

    def channels(self, x: Tensor, channels: tuple[Channel, ...]) -> Tensor:
        """The features' Taylor channels at points x (n, d), (C, n, a + 2m + e)."""
        a, m, e = (t.shape[1] for t in (self.scale, self.waves, self.even))
        h = x.new_zeros(len(channels), len(x), a + 2 * m + e)
        h[0, :, :a] = x @ self.scale + self.offset
        slopes = {i: c[0] for i, c in enumerate(channels) if isinstance(c, tuple) and len(c) == 1}
        if slopes:  # the other derivatives of affine features are zero
            h[list(slopes), :, :a] = self.scale[list(slopes.values())].unsqueeze(1)
        # x − x₀ comes first: at x₀ + s and x₀ − s the phases then differ in sign alone
        for first, waves, points, sines in (
            (a, self.waves, x, True),
            (a + 2 * m, self.even, x - self.middle, False),
        ):
            if not (width := waves.shape[1]):
                continue
            phase = points @ waves
            c, s = torch.cos(phase), torch.sin(phase)
            cycle = (c, -s, -c, s)
            for number, channel in enumerate(channels):
                # ∂^α cos(κ·x) = cos^{(|α|)}(κ·x) Π κ_i, and every Δ gives two orders and Σ κ_i²
                order, factor = _factor(waves, channel)
                h[number, :, first : first + width] = cycle[order % 4] * factor
                if sines:
                    h[number, :, first + width : first + 2 * width] = cycle[(order + 3) % 4] * factor
        return h

    def features_of(self, axis: int) -> list[int]:
        """Numbers of the features that depend on an axis."""
        used = torch.cat([self.scale, self.waves, self.waves, self.even], dim=1)[axis] != 0
        return torch.nonzero(used).flatten().tolist()


def _factor(waves: Tensor, channel: Channel) -> tuple[int, Tensor]:
    """Order of a derivative, and what it multiplies the waves by."""
    if isinstance(channel, Laplacian):
        squares = waves[list(channel.axes)].square().sum(0)
        order, factor = _factor(waves, channel.along)
        return order + 2 * channel.power, factor * squares**channel.power
    return len(channel), waves[list(channel)].prod(0)


def embed(
    domain: Shape,
    modes: int,
    fourier: int = 0,
    fourier_scale: float = 1.0,
    seed: int = 0,
    axes: tuple[str, ...] | str = (),
) -> Embedding:
    """The embedding of a box: every axis mapped to s in [−1, 1], periodic ones to harmonics.

    An even axis gives cosines about its middle x₀: a periodic one the harmonics' cosines, another one
    cos(πs/2), which tells the points of either half apart and leaves the slope at the ends free.

    Args:
        domain: the box.
        modes: harmonics 1 … modes of every periodic axis.
        fourier: number of random wave vectors over the axes that are neither periodic nor even, 0 for none
            (Tancik et al. 2020, arXiv 2006.10739); they replace the affine features.
        fourier_scale: standard deviation of the wave vectors, in units of the mapped axes.
        seed: of the wave vectors.
        axes: names of those that the network reads; all when empty.

    Raises:
        ValueError: one of them is no axis of the domain.
    """
    d, even = domain.dim, domain.even
    axes = (axes,) if isinstance(axes, str) else tuple(axes)
    unknown = [name for name in axes if name not in domain.names]
    if unknown:
        raise ValueError(f"axes={axes!r} of a network must be of the domain's axes {domain.names}")
    read = [i for i in range(d) if not axes or domain.names[i] in axes]
    low, high = torch.tensor(domain.bounds, dtype=torch.float64).T
    slope, shift = 2 / (high - low), -(high + low) / (high - low)
    free = [i for i in read if i not in domain.periodic and i not in even]
    scale = torch.zeros(d, len(free), dtype=torch.float64)
    for column, i in enumerate(free):
        scale[i, column] = slope[i]
    waves: list[Tensor] = []
    cosines: list[Tensor] = []
    for i in read:
        if i in domain.periodic:
            steps = [2 * math.pi * mode / (high[i] - low[i]) for mode in range(1, modes + 1)]
        else:
            steps = [math.pi / (high[i] - low[i])] if i in even else []
        (cosines if i in even else waves).extend(_along(d, i, float(step)) for step in steps)
    offset = shift[free]
    if fourier and free:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(len(free), fourier, generator=generator, dtype=torch.float64)
        waves.extend((scale @ (drawn * fourier_scale)).T)
        scale, offset = scale[:, :0], offset[:0]
    return Embedding(scale, offset, _columns(waves, d), _columns(cosines, d), (low + high) / 2)


def _along(d: int, axis: int, step: float) -> Tensor:
    """A wave vector along one axis, (d,)."""
    wave = torch.zeros(d, dtype=torch.float64)
    wave[axis] = step
    return wave


def _columns(vectors: list[Tensor], d: int) -> Tensor:
    """(d, len(vectors))."""
    return torch.stack(vectors, dim=1) if vectors else torch.zeros(d, 0, dtype=torch.float64)
