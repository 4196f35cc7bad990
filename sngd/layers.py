"""What every network is to the rest of the package: layers whose factors the Jacobian consists of.

Letters
    P        trainable parameters, one flat vector θ = [W_1, …, W_L, b_1, …, b_L]
    C, n     Taylor channels and points of a batch
    q        residual components per point
    H_l      (C, n, in_l)      channels that enter layer l
    Z_l      (C, n, out_l)     channels that leave it, Z_l[c] = H_l[c] W_lᵀ (+ b_l for the value channel)
    D_l      (C, n, q, out_l)  ∂(residual component)/∂Z_l
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from sngd.taylor import Channel, TaylorRules

__all__ = ["AnyNetwork", "AnyTape", "join_layouts", "layout", "split_layers", "values"]


class AnyTape(Protocol):
    """What one forward pass keeps for the reverse one."""

    inputs: list[Tensor]

    @property
    def output(self) -> Tensor:
        """Channels of the network's outputs, (C, n, outputs)."""


class AnyNetwork(Protocol):
    """Fields as functions of a flat parameter vector θ, whose Jacobian has factors layer by layer.

    A layer of shape (out, in) has a weight matrix and biases, at weight_slices[l] and bias_slices[l] of θ.
    One with in = 0 has biases alone and enters the residuals through values only: H_l is (1, n, 0) and D_l
    (1, n, q, out), the rows of J in its columns.
    """

    parameters: int
    outputs: int
    shapes: list[tuple[int, int]]
    weight_slices: list[slice]
    bias_slices: list[slice]
    initial: Tensor

    def to(self, dtype: torch.dtype, device: torch.device | str) -> AnyNetwork:
        """The same network in another dtype or on another device."""

    def split(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views W_l (out, in) and b_l (out,) of θ (P,)."""

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values of the outputs at points x (n, d), (n, outputs)."""

    def embed(self, x: Tensor, channels: tuple[Channel, ...]) -> Any:
        """What `forward` and `record` take in place of points x (n, d), free of θ."""

    def forward(self, theta: Tensor, h: Any, rules: TaylorRules) -> Tensor:
        """Output channels (C, n, outputs), keeping nothing."""

    def record(self, theta: Tensor, h: Any, rules: TaylorRules) -> Any:
        """The forward pass with what the reverse pass needs, an `AnyTape` of outputs (C, n, outputs)."""

    def pull_back(self, theta: Tensor, tape: Any, d_out: Tensor, rules: TaylorRules) -> list[Tensor]:
        """Cotangents D_l of every layer from those of the outputs (C, n, q, outputs)."""


def layout(shapes: Sequence[tuple[int, int]], start: int = 0) -> tuple[list[slice], list[slice]]:
    """Where weights and biases of layers stand in θ: all weights, then all biases."""
    sizes = [o * i for o, i in shapes] + [o for o, _ in shapes]
    starts = [start + sum(sizes[:number]) for number in range(len(sizes) + 1)]
    slices = [slice(a, b) for a, b in pairwise(starts)]
    return slices[: len(shapes)], slices[len(shapes) :]


def join_layouts(parts: Sequence[AnyNetwork]) -> tuple[list[slice], list[slice], list[slice]]:
    """Where weights, biases and all parameters of networks stand in θ = [θ_1, …, θ_m]."""
    weights, biases, thetas, start = list[slice](), list[slice](), list[slice](), 0
    for part in parts:
        weights += [slice(s.start + start, s.stop + start) for s in part.weight_slices]
        biases += [slice(s.start + start, s.stop + start) for s in part.bias_slices]
        thetas.append(slice(start, start + part.parameters))
        start += part.parameters
    return weights, biases, thetas


def split_layers(network: AnyNetwork, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Views W_l (out, in) and b_l (out,) of θ (P,)."""
    weights = [theta[s].view(shape) for s, shape in zip(network.weight_slices, network.shapes, strict=True)]
    return weights, [theta[s] for s in network.bias_slices]


def values(network: AnyNetwork, theta: Tensor, x: Tensor) -> Tensor:
    """Values of the outputs at points x (n, d), (n, outputs)."""
    rules = TaylorRules(((),))
    return network.forward(theta, network.embed(x, rules.channels), rules)[0]
