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
from typing import Literal

import torch
from torch import Tensor

from sngd.activations import NETWORK_ACTIVATIONS
from sngd.architectures import Gabor, GatedMLP, PirateNet, ResidualMLP, Separable
from sngd.architectures.building import ActivationName, check, glorot, layers_of, stack
from sngd.channels import affine
from sngd.checks import one_of, require, whole, whole_numbers, within
from sngd.embedding import Embedding, embed
from sngd.geometry.shape import Shape
from sngd.layers import AnyNetwork, AnyTape, layout, split_layers, values
from sngd.taylor import Channel, TaylorRules

__all__ = [
    "MLP",
    "SIREN",
    "AnyNetwork",
    "AnyTape",
    "Embedding",
    "Network",
    "NetworkConfig",
    "embed",
    "layout",
    "split_layers",
    "values",
]


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
            z = affine(h, weight, bias)
            if number < len(weights) - 1:
                h = rules.forward(z, self.activation_derivatives(z[0], rules.order))
        return z

    def record(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> Tape:
        """The forward pass with everything that the reverse pass needs."""
        weights, biases = self.split(theta)
        tape = Tape([], [], [])
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            z = affine(h, weight, bias)
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


# ---------------------------------------------------------------------------------------------
# What a user chooses
# ---------------------------------------------------------------------------------------------


_WIDTHS = "one or more whole numbers ≥ 1, e.g. (32, 32)"


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
        weight_factorization: weights W = diag(e^s) V with s and V trained (Wang, Wang, Seidman, Perdikaris
            2022, arXiv 2210.01274): the same functions in other coordinates.
        axes: names of the axes that the network reads, ("x",) for a coefficient k(x); all when empty.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: tuple[int, ...] = (32, 32, 32, 32)
    activation: ActivationName = "tanh"
    modes: int = 1
    fourier: int = 0
    fourier_scale: float = 1.0
    initialization: Literal["glorot", "torch"] = "glorot"
    weight_factorization: bool = False
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = [
            ("hidden", whole_numbers(self.hidden), _WIDTHS),
            ("fourier", whole(self.fourier, 0), "a whole number ≥ 0"),
            ("fourier_scale", within(self.fourier_scale, 0, math.inf), "finite and > 0"),
            ("initialization", one_of(self.initialization, ("glorot", "torch")), '"glorot" or "torch"'),
        ]
        require(self, checks)
        check(self, "modes")

    def build(self, domain: Shape, fields: int, seed: int) -> AnyNetwork:
        """The network for a domain and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, self.fourier, self.fourier_scale, seed, self.axes)
        widths = (embedding.features, *self.hidden, fields)
        generator = torch.Generator().manual_seed(seed)
        initial = (_glorot if self.initialization == "glorot" else _uniform)(widths, generator)
        plain = Network(embedding, widths, self.activation, initial)
        if not self.weight_factorization:
            return plain
        made = layers_of(seed, factorized=True)
        dense = [made.dense(weight, bias) for weight, bias in zip(*plain.split(initial), strict=True)]
        body = stack(dense, NETWORK_ACTIVATIONS[self.activation])
        details = f"{'-'.join(map(str, widths))}, {self.activation}"
        return made.network(embedding, body, fields, "MLP", details)


@dataclass(frozen=True)
class SIREN:
    """A sine network initialised as in Sitzmann et al. 2020 (arXiv 2006.09661).

    Args:
        hidden: widths of the hidden layers.
        omega: frequency ω₀ of the first layer, absorbed into its weights.
        modes: harmonics of every periodic axis.
        axes: names of the axes that the network reads; all when empty.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: tuple[int, ...] = (32, 32, 32, 32)
    omega: float = 4.0
    modes: int = 1
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = [
            ("hidden", whole_numbers(self.hidden), _WIDTHS),
            ("omega", within(self.omega, 0, math.inf), "finite and > 0"),
        ]
        require(self, checks)
        check(self, "modes")

    def build(self, domain: Shape, fields: int, seed: int) -> Network:
        """The network for a domain and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, axes=self.axes)
        widths = (embedding.features, *self.hidden, fields)
        generator = torch.Generator().manual_seed(seed)
        weights = []
        for number, (i, o) in enumerate(pairwise(widths)):
            bound = self.omega / i if number == 0 else math.sqrt(6 / i)
            weights.append((2 * torch.rand(o, i, generator=generator, dtype=torch.float64) - 1) * bound)
        return Network(embedding, widths, "sin", _flatten(weights))


NetworkConfig = MLP | SIREN | GatedMLP | PirateNet | ResidualMLP | Gabor | Separable


def _glorot(widths: Sequence[int], generator: torch.Generator) -> Tensor:
    return _flatten([glorot(o, i, generator) for i, o in pairwise(widths)])


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
