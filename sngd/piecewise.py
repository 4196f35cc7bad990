"""A network for every slab of time, as one network.

    θ = [θ_1, …, θ_S], and the outputs at a point are those of the slab's network that it lies in

Letters
    S        slabs
    C, n     Taylor channels and points of a batch; q residual components per point
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sngd.layers import AnyNetwork, join_layouts, split_layers, values
from sngd.taylor import Channel, TaylorRules

__all__ = ["Piecewise"]


@dataclass
class Inside:
    """What networks make of points, and which slab each point lies in.

    Args:
        slab: (n,) numbers of slabs.
        parts: what each network makes of all points.
    """

    slab: Tensor
    parts: list[Any]


@dataclass
class PiecewiseTape:
    """Of `Piecewise`: the tapes of all networks at all points."""

    slab: Tensor
    parts: list[Any]

    @property
    def inputs(self) -> list[Tensor]:
        """Factors H_l of all networks' layers."""
        return [h for part in self.parts for h in part.inputs]

    @property
    def output(self) -> Tensor:
        """Channels of the outputs, (C, n, outputs)."""
        return _chosen(self.slab, [part.output for part in self.parts])


def _chosen(slab: Tensor, outputs: list[Tensor]) -> Tensor:
    """Of outputs (C, n, outputs) of all networks those of the slab that a point lies in."""
    z = outputs[0]
    for number, other in enumerate(outputs[1:], 1):
        z = torch.where((slab == number)[:, None], other, z)
    return z


class Piecewise:
    """Networks that follow one another in time as one.

    Every network is evaluated at every point: this is for looking at a solution, not for training.

    Args:
        parts: one network of a slab after another.
        axis: number of the time axis.
        times: S − 1 times at which one slab ends and the next begins; the later one holds there.
    """

    def __init__(self, parts: Sequence[AnyNetwork], axis: int, times: Sequence[float]) -> None:
        assert len(parts) == len(times) + 1
        self.parts, self.axis, self.times = list(parts), axis, tuple(times)
        self.outputs = parts[0].outputs
        self.shapes = [shape for part in parts for shape in part.shapes]
        self.initial = torch.cat([part.initial for part in parts])
        self.parameters = len(self.initial)
        self.weight_slices, self.bias_slices, self.thetas = join_layouts(parts)

    def __repr__(self) -> str:
        return f"Piecewise({len(self.parts)} × {self.parts[0]!r}, P={self.parameters:,})"

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Piecewise:
        """The same networks in another dtype or on another device."""
        return Piecewise([part.to(dtype, device) for part in self.parts], self.axis, self.times)

    def split(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """As `AnyNetwork.split`."""
        return split_layers(self, theta)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values of the outputs at points x (n, d), (n, outputs)."""
        return values(self, theta, x)

    def embed(self, x: Tensor, channels: tuple[Channel, ...]) -> Inside:
        """What each network makes of points x (n, d)."""
        slab = torch.zeros_like(x[:, self.axis], dtype=torch.int64)
        for time in self.times:
            slab = slab + (x[:, self.axis] >= time)
        return Inside(slab, [part.embed(x, channels) for part in self.parts])

    def forward(self, theta: Tensor, h: Inside, rules: TaylorRules) -> Tensor:
        """Output channels (C, n, outputs)."""
        own = zip(self.parts, self.thetas, h.parts, strict=True)
        return _chosen(h.slab, [part.forward(theta[where], x, rules) for part, where, x in own])

    def record(self, theta: Tensor, h: Inside, rules: TaylorRules) -> PiecewiseTape:
        """As `AnyNetwork.record`."""
        own = zip(self.parts, self.thetas, h.parts, strict=True)
        return PiecewiseTape(h.slab, [part.record(theta[where], x, rules) for part, where, x in own])

    def pull_back(
        self, theta: Tensor, tape: PiecewiseTape, d_out: Tensor, rules: TaylorRules
    ) -> list[Tensor]:
        """Cotangents D_l of all networks' layers: zero for a network at points outside of its slab."""
        result = []
        for number, (part, where) in enumerate(zip(self.parts, self.thetas, strict=True)):
            own = torch.where((tape.slab == number)[:, None, None], d_out, 0.0)
            result += part.pull_back(theta[where], tape.parts[number], own, rules)
        return result
