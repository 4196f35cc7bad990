"""Networks as layers of matrices: how Taylor channels travel through them, forwards and backwards.

A network is an embedding of the coordinates (fixed, no parameters) followed by dense layers with a
pointwise activation between them. The forward pass keeps the factors that the Jacobian consists of.

Letters
    P        trainable parameters, one flat vector θ = [W_1, …, W_L, b_1, …, b_L]
    C, n     Taylor channels and points of a batch
    q        residual components per point
    H_l      (C, n, in_l)      channels that enter layer l
    Z_l      (C, n, out_l)     channels that leave it, Z_l[c] = H_l[c] W_lᵀ (+ b_l for the value channel)
    D_l      (C, n, q, out_l)  ∂(residual component)/∂Z_l
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sngd.activations import NETWORK_ACTIVATIONS
from sngd.geometry.shape import Shape
from sngd.taylor import Channel, Laplacian, TaylorRules

__all__ = ["MLP", "SIREN", "AnyNetwork", "Network"]

ActivationName = Literal["tanh", "sin", "gelu", "silu", "softplus"]


# ---------------------------------------------------------------------------------------------
# Embedding: coordinates → features, with all derivatives in closed form
# ---------------------------------------------------------------------------------------------


class Embedding:
    """Features of the coordinates: affine ones and plane waves cos(κ·x), sin(κ·x).

    Args:
        scale: (d, a) matrix of the affine features, x ↦ x scale + offset.
        offset: (a,).
        waves: (d, m) wave vectors κ as columns; gives m cosines, then m sines.
    """

    def __init__(self, scale: Tensor, offset: Tensor, waves: Tensor) -> None:
        self.scale, self.offset, self.waves = scale, offset, waves

    @property
    def features(self) -> int:
        """Number of features a + 2m."""
        return self.scale.shape[1] + 2 * self.waves.shape[1]

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Embedding:
        """A copy in another dtype or on another device."""
        return Embedding(*(t.to(dtype=dtype, device=device) for t in (self.scale, self.offset, self.waves)))

    def channels(self, x: Tensor, channels: tuple[Channel, ...]) -> Tensor:
        """The features' Taylor channels at points x (n, d), (C, n, a + 2m)."""
        a, m = self.scale.shape[1], self.waves.shape[1]
        h = x.new_zeros(len(channels), len(x), a + 2 * m)
        h[0, :, :a] = x @ self.scale + self.offset
        slopes = {i: c[0] for i, c in enumerate(channels) if isinstance(c, tuple) and len(c) == 1}
        if slopes:  # the other derivatives of affine features are zero
            h[list(slopes), :, :a] = self.scale[list(slopes.values())].unsqueeze(1)
        if m:
            phase = x @ self.waves
            c, s = torch.cos(phase), torch.sin(phase)
            for number, channel in enumerate(channels):
                # ∂^α cos(κ·x) = cos^{(|α|)}(κ·x) Π κ_i, and every Δ gives two orders and Σ κ_i²
                order, factor = self._factor(channel)
                cycle = (c, -s, -c, s)
                h[number, :, a : a + m] = cycle[order % 4] * factor
                h[number, :, a + m :] = cycle[(order + 3) % 4] * factor
        return h

    def _factor(self, channel: Channel) -> tuple[int, Tensor]:
        if isinstance(channel, Laplacian):
            squares = self.waves[list(channel.axes)].square().sum(0)
            order, factor = self._factor(channel.along)
            return order + 2 * channel.power, factor * squares**channel.power
        return len(channel), self.waves[list(channel)].prod(0)


def embed(domain: Shape, modes: int, fourier: int, fourier_scale: float, seed: int) -> Embedding:
    """The embedding of a box: every axis mapped to [−1, 1], periodic ones to harmonics.

    Args:
        domain: the box.
        modes: harmonics 1 … modes of every periodic axis.
        fourier: number of random wave vectors over the other axes, 0 for none (Tancik et al. 2020,
            arXiv 2006.10739); they replace the affine features.
        fourier_scale: standard deviation of the wave vectors, in units of the mapped axes.
        seed: of the wave vectors.
    """
    d = domain.dim
    low, high = torch.tensor(domain.bounds, dtype=torch.float64).T
    slope, shift = 2 / (high - low), -(high + low) / (high - low)
    free = [i for i in range(d) if i not in domain.periodic]
    scale = torch.zeros(d, len(free), dtype=torch.float64)
    for column, i in enumerate(free):
        scale[i, column] = slope[i]
    waves = []
    for i in domain.periodic:
        for mode in range(1, modes + 1):
            wave = torch.zeros(d, dtype=torch.float64)
            wave[i] = 2 * math.pi * mode / (high[i] - low[i])
            waves.append(wave)
    offset = shift[free]
    if fourier and free:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(len(free), fourier, generator=generator, dtype=torch.float64)
        waves.extend((scale @ (drawn * fourier_scale)).T)
        scale, offset = scale[:, :0], offset[:0]
    stacked = torch.stack(waves, dim=1) if waves else torch.zeros(d, 0, dtype=torch.float64)
    return Embedding(scale, offset, stacked)


# ---------------------------------------------------------------------------------------------
# What every network is to the rest of the package
# ---------------------------------------------------------------------------------------------


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
        """The forward pass with what the reverse pass needs, an `AnyTape`."""

    def pull_back(self, theta: Tensor, tape: Any, d_out: Tensor, rules: TaylorRules) -> list[Tensor]:
        """Cotangents D_l of every layer from those of the outputs (C, n, q, outputs)."""


def layout(shapes: Sequence[tuple[int, int]], start: int = 0) -> tuple[list[slice], list[slice]]:
    """Where weights and biases of layers stand in θ: all weights, then all biases."""
    sizes = [o * i for o, i in shapes] + [o for o, _ in shapes]
    starts = [start + sum(sizes[:number]) for number in range(len(sizes) + 1)]
    slices = [slice(a, b) for a, b in pairwise(starts)]
    return slices[: len(shapes)], slices[len(shapes) :]


def split_layers(network: AnyNetwork, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Views W_l (out, in) and b_l (out,) of θ (P,)."""
    weights = [theta[s].view(shape) for s, shape in zip(network.weight_slices, network.shapes, strict=True)]
    return weights, [theta[s] for s in network.bias_slices]


def values(network: AnyNetwork, theta: Tensor, x: Tensor) -> Tensor:
    """Values of the outputs at points x (n, d), (n, outputs)."""
    rules = TaylorRules(((),))
    return network.forward(theta, network.embed(x, rules.channels), rules)[0]


# ---------------------------------------------------------------------------------------------
# The dense network
# ---------------------------------------------------------------------------------------------


@dataclass
class Tape:
    """What one forward pass keeps: factors H_l, pre-activations Z_l and activation derivatives."""

    inputs: list[Tensor]
    preactivations: list[Tensor]
    derivatives: list[list[Tensor]]

    @property
    def output(self) -> Tensor:
        """Channels of the network's outputs, (C, n, fields)."""
        return self.preactivations[-1]


class Network:
    """Dense layers on an embedding, as functions of a flat parameter vector.

    Args:
        embedding: coordinates → features.
        widths: (in, hidden …, out).
        activation: name of the pointwise function between layers.
        initial: flat initial parameters (P,), float64.
    """

    def __init__(self, embedding: Embedding, widths: Sequence[int], activation: str, initial: Tensor) -> None:
        self.embedding, self.widths, self.activation = embedding, tuple(widths), activation
        self.initial = initial
        self.shapes = [(o, i) for i, o in pairwise(self.widths)]
        self.weight_slices, self.bias_slices = layout(self.shapes)
        self.parameters = self.bias_slices[-1].stop
        self.outputs = self.widths[-1]
        if initial.shape != (self.parameters,):
            raise ValueError(
                f"initial parameters must have shape ({self.parameters},), got {tuple(initial.shape)}"
            )
        self.activation_derivatives = NETWORK_ACTIVATIONS[activation]

    def __repr__(self) -> str:
        return f"Network({'-'.join(map(str, self.widths))}, {self.activation}, P={self.parameters:,})"

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Network:
        """The same network with its embedding in another dtype or on another device."""
        return Network(self.embedding.to(dtype, device), self.widths, self.activation, self.initial)

    def split(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views W_l (out, in) and b_l (out,) of the flat vector θ (P,)."""
        return split_layers(self, theta)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values of the fields at points x (n, d), (n, fields)."""
        return values(self, theta, x)

    def embed(self, x: Tensor, channels: tuple[Channel, ...]) -> Tensor:
        """What `forward` and `record` take: the channels of the embedded points x (n, d), (C, n, in)."""
        return self.embedding.channels(x, channels)

    def forward(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> Tensor:
        """Output channels (C, n, fields) from embedded points h (C, n, in), keeping nothing."""
        weights, biases = self.split(theta)
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            z = _affine(h, weight, bias)
            if number < len(weights) - 1:
                h = rules.forward(z, self.activation_derivatives(z[0], rules.order))
        return z

    def record(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> Tape:
        """The forward pass with everything that the reverse pass needs."""
        weights, biases = self.split(theta)
        tape = Tape([], [], [])
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            z = _affine(h, weight, bias)
            tape.inputs.append(h)
            tape.preactivations.append(z)
            if number < len(weights) - 1:
                f = self.activation_derivatives(z[0], rules.order + 1)
                tape.derivatives.append(f)
                h = rules.forward(z, f)
        return tape

    def pull_back(self, theta: Tensor, tape: Tape, d_out: Tensor, rules: TaylorRules) -> list[Tensor]:
        """Cotangents D_l (C, n, q, out_l) of every layer from those of the output.

        Args:
            theta: (P,), the parameters that the tape was recorded with.
            tape: of `record`.
            d_out: (C, n, q, fields).
            rules: of the batch's channels.
        """
        weights, _ = self.split(theta)
        result = [d_out]
        for number in range(len(weights) - 1, 0, -1):
            h_bar = result[-1] @ weights[number]
            z = tape.preactivations[number - 1]
            result.append(rules.backward(z, tape.derivatives[number - 1], h_bar))
        return result[::-1]


def _affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    z = h @ weight.T
    z[0] += bias
    return z


# ---------------------------------------------------------------------------------------------
# What a user chooses
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron.

    Args:
        hidden: widths of the hidden layers.
        activation: tanh, sin, gelu, silu or softplus.
        modes: harmonics of every periodic axis.
        fourier: random Fourier features over the other axes; 0 feeds the coordinates themselves.
        fourier_scale: standard deviation of their wave vectors.
        initialization: "glorot", normal weights of variance 2/(in + out) without biases, or "torch", weights
            and biases uniform in ±1/√in, the default of torch.nn.Linear.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: tuple[int, ...] = (32, 32, 32, 32)
    activation: ActivationName = "tanh"
    modes: int = 1
    fourier: int = 0
    fourier_scale: float = 1.0
    initialization: Literal["glorot", "torch"] = "glorot"

    def __post_init__(self) -> None:
        _check_widths(self.hidden, self.modes)
        if self.activation not in NETWORK_ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} must be one of {sorted(NETWORK_ACTIVATIONS)}")
        if self.fourier < 0 or not self.fourier_scale > 0:
            raise ValueError(f"fourier={self.fourier} must be ≥ 0 and fourier_scale={self.fourier_scale} > 0")
        if self.initialization not in ("glorot", "torch"):
            raise ValueError(f'initialization={self.initialization!r} must be "glorot" or "torch"')

    def build(self, domain: Shape, fields: int, seed: int) -> Network:
        """The network for a box and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, self.fourier, self.fourier_scale, seed)
        widths = (embedding.features, *self.hidden, fields)
        generator = torch.Generator().manual_seed(seed)
        initial = (_glorot if self.initialization == "glorot" else _uniform)(widths, generator)
        return Network(embedding, widths, self.activation, initial)


@dataclass(frozen=True)
class SIREN:
    """A sine network initialised as in Sitzmann et al. 2020 (arXiv 2006.09661).

    Args:
        hidden: widths of the hidden layers.
        omega: frequency ω₀ of the first layer, absorbed into its weights.
        modes: harmonics of every periodic axis.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: tuple[int, ...] = (32, 32, 32, 32)
    omega: float = 4.0
    modes: int = 1

    def __post_init__(self) -> None:
        _check_widths(self.hidden, self.modes)
        if not (math.isfinite(self.omega) and self.omega > 0):
            raise ValueError(f"omega={self.omega} must be finite and > 0")

    def build(self, domain: Shape, fields: int, seed: int) -> Network:
        """The network for a box and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, 0, 1.0, seed)
        widths = (embedding.features, *self.hidden, fields)
        generator = torch.Generator().manual_seed(seed)
        weights = []
        for number, (i, o) in enumerate(pairwise(widths)):
            bound = self.omega / i if number == 0 else math.sqrt(6 / i)
            weights.append((2 * torch.rand(o, i, generator=generator, dtype=torch.float64) - 1) * bound)
        return Network(embedding, widths, "sin", _flatten(weights))


NetworkConfig = MLP | SIREN


def _check_widths(hidden: tuple[int, ...], modes: int) -> None:
    if not hidden or any(not isinstance(w, int) or w < 1 for w in hidden):
        raise ValueError(f"hidden={hidden!r} must be one or more whole numbers ≥ 1")
    if modes < 1:
        raise ValueError(f"modes={modes} must be ≥ 1")


def _glorot(widths: Sequence[int], generator: torch.Generator) -> Tensor:
    weights = [
        torch.randn(o, i, generator=generator, dtype=torch.float64) * math.sqrt(2 / (i + o))
        for i, o in pairwise(widths)
    ]
    return _flatten(weights)


def _uniform(widths: Sequence[int], generator: torch.Generator) -> Tensor:
    """Weights and biases uniform in ±1/√in, the biases drawn after all weights."""

    def draw(o: int, i: int, width: int) -> Tensor:
        return (2 * torch.rand(o, width, generator=generator, dtype=torch.float64) - 1) / math.sqrt(i)

    weights = [draw(o, i, i).flatten() for i, o in pairwise(widths)]
    biases = [draw(o, i, 1).flatten() for i, o in pairwise(widths)]
    return torch.cat([*weights, *biases])


def _flatten(weights: list[Tensor]) -> Tensor:
    """θ = [W_1 … W_L, 0 … 0]: biases start at zero."""
    biases = sum(w.shape[0] for w in weights)
    return torch.cat([*(w.flatten() for w in weights), torch.zeros(biases, dtype=torch.float64)])
