"""Multilayer perceptrons with gates and with residual connections.

Letters
    h        features of the coordinates, mapped to [−1, 1] each
    W, b     weights and biases of dense layers; σ the activation; ⊙ product entry by entry
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sngd.activations import ACTIVATIONS, NETWORK_ACTIVATIONS, Derivatives
from sngd.architectures.building import ActivationName, Dense, Layers, check, layers_of
from sngd.checks import require, within
from sngd.embedding import embed
from sngd.geometry.shape import Shape
from sngd.graph import GraphNetwork, Pass

__all__ = ["GatedMLP", "PirateNet", "ResidualMLP"]


@dataclass(frozen=True)
class _Gates:
    """U = σ(W_u h + b_u), V = σ(W_v h + b_v), between which hidden layers choose: z ⊙ U + (1 − z) ⊙ V."""

    u: Dense
    v: Dense
    derivatives: Derivatives

    def values(self, run: Pass, h: Tensor) -> tuple[Tensor, Tensor]:
        """V and U − V."""
        u, v = (run.pointwise(layer(run, h), self.derivatives) for layer in (self.u, self.v))
        return v, u - v

    def choose(self, run: Pass, gates: tuple[Tensor, Tensor], z: Tensor) -> Tensor:
        """σ(z) ⊙ U + (1 − σ(z)) ⊙ V, with one product: V + σ(z) ⊙ (U − V)."""
        v, difference = gates
        return v + run.product(run.pointwise(z, self.derivatives), difference)


@dataclass(frozen=True)
class GatedMLP:
    """The modified multilayer perceptron: two gates computed from the coordinates mix every hidden layer.

        U = σ(W_u h + b_u),  V = σ(W_v h + b_v)
        z_l = σ(W_l h_{l−1} + b_l),  h_l = z_l ⊙ U + (1 − z_l) ⊙ V,  u = W h_L + b

    A step costs 1.4 times that of a multilayer perceptron with as many parameters, and with Gauss–Newton
    steps the gates did not pay on the equations tried (benchmarks/NOTES.md).

    Source: Wang, Teng, Perdikaris 2021 (SIAM J. Sci. Comput. 43, arXiv 2001.04536, section 2.5).

    Args:
        hidden: width of the hidden layers and gates.
        layers: number of hidden layers.
        activation: tanh, sin, gelu, silu or softplus.
        modes: harmonics of every periodic axis.
        weight_factorization: weights W = diag(e^s) V with s and V trained (arXiv 2210.01274).
        axes: names of the axes that the network reads; all when empty.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: int = 32
    layers: int = 4
    activation: ActivationName = "tanh"
    modes: int = 1
    weight_factorization: bool = False
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self, "hidden", "layers", "modes")

    def build(self, domain: Shape, fields: int, seed: int) -> GraphNetwork:
        """The network for a domain and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, axes=self.axes)
        made, w, f = layers_of(seed, self.weight_factorization), self.hidden, embedding.features
        derivatives = NETWORK_ACTIVATIONS[self.activation]
        gates = _Gates(made.glorot(w, f), made.glorot(w, f), derivatives)
        hidden = [made.glorot(w, w if number else f) for number in range(self.layers)]
        last = made.glorot(fields, w)

        def body(run: Pass, h: Tensor) -> Tensor:
            both = gates.values(run, h)
            for layer in hidden:
                h = gates.choose(run, both, layer(run, h))
            return last(run, h)

        widths = "-".join(map(str, (f, *[w] * self.layers, fields)))
        return made.network(embedding, body, fields, "GatedMLP", f"{widths}, {self.activation}")


@dataclass(frozen=True)
class PirateNet:
    """A physics-informed residual adaptive network: deep at the end, linear in its features at first.

        φ = [cos(B h + c), sin(B h + c)],  U, V gates of φ as in `GatedMLP`,  x_0 = φ
        f = σ(W_1 x + b_1),  z = f ⊙ U + (1 − f) ⊙ V
        g = σ(W_2 z + b_2),  z' = g ⊙ U + (1 − g) ⊙ V
        x ← α σ(W_3 z' + b_3) + (1 − α) x      for every block, with one α each, trained, 0 at first
        u = W x + b

    The frequencies B and phases c are trained along. With α = 0 the first Gauss–Newton steps solve the linear
    least-squares problem that the paper initialises the last layer with.

    A step costs 1.5 times that of a multilayer perceptron with as many parameters. It paid on Helmholtz's
    equation, for its frequencies, and not on Burgers' (benchmarks/NOTES.md).

    Source: Wang, Li, Chen, Perdikaris 2024 (arXiv 2402.00326, section 4).

    Args:
        hidden: width of all layers, an even number: half of it frequencies.
        blocks: number of residual blocks, three hidden layers each.
        activation: tanh, sin, gelu, silu or softplus.
        fourier_scale: standard deviation of the frequencies to begin with, in units of the mapped axes.
        modes: harmonics of every periodic axis.
        weight_factorization: weights W = diag(e^s) V with s and V trained (arXiv 2210.01274), but for B.
        axes: names of the axes that the network reads; all when empty.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: int = 32
    blocks: int = 2
    activation: ActivationName = "tanh"
    fourier_scale: float = 1.0
    modes: int = 1
    weight_factorization: bool = False
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self, "hidden", "blocks", "modes")
        require(
            self,
            [
                ("hidden", self.hidden % 2 == 0, "even: half of it are frequencies"),
                ("fourier_scale", within(self.fourier_scale, 0, math.inf), "finite and > 0"),
            ],
        )

    def build(self, domain: Shape, fields: int, seed: int) -> GraphNetwork:
        """The network for a domain and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, axes=self.axes)
        made, w = layers_of(seed, self.weight_factorization), self.hidden
        derivatives = NETWORK_ACTIVATIONS[self.activation]
        waves = _Waves.drawn(made, w // 2, embedding.features, self.fourier_scale)
        gates = _Gates(made.glorot(w, w), made.glorot(w, w), derivatives)
        blocks = [[made.glorot(w, w) for _ in range(3)] for _ in range(self.blocks)]
        shares = [made.vector(torch.zeros(1, dtype=torch.float64)) for _ in blocks]
        last = made.glorot(fields, w)

        def body(run: Pass, h: Tensor) -> Tensor:
            x = waves(run, h)
            both = gates.values(run, x)
            for (first, second, third), share in zip(blocks, shares, strict=True):
                z = gates.choose(run, both, first(run, x))
                z = gates.choose(run, both, second(run, z))
                deep = run.pointwise(third(run, z), derivatives)
                x = x + run.vector(share) * (deep - x)
            return last(run, x)

        details = f"{embedding.features}-{w}-{fields}, blocks={self.blocks}, {self.activation}"
        return made.network(embedding, body, fields, "PirateNet", details)


@dataclass(frozen=True)
class _Waves:
    """[cos z, sin z] with z = B h + c trained."""

    phase: Dense

    @classmethod
    def drawn(cls, made: Layers, count: int, features: int, scale: float) -> _Waves:
        """Frequencies of some standard deviation, no phases."""
        drawn = torch.randn(count, features, generator=made.generator, dtype=torch.float64) * scale
        plain = Layers(made.generator, False, made.shapes, made.weights, made.biases)
        return cls(plain.dense(drawn))

    def __call__(self, run: Pass, h: Tensor) -> Tensor:
        """(C, n, in) → (C, n, 2 count)."""
        z = self.phase(run, h)
        both = [run.pointwise(z, ACTIVATIONS["cos"]), run.pointwise(z, ACTIVATIONS["sin"])]
        # torch.cat would fix the number of points where the network is exported
        return torch.stack(both, dim=2).flatten(2)


@dataclass(frozen=True)
class ResidualMLP:
    """A multilayer perceptron whose hidden layers are added to what enters them.

        h_1 = σ(W_1 h + b_1),  h_{l+1} = h_l + σ(W_{l+1} h_l + b_{l+1}),  u = W h_L + b

    With `fourier` the first layer is [cos(B h + c), sin(B h + c)], B and c trained along.

    Source: He, Zhang, Ren, Sun 2016 (residual connections); Tancik et al. 2020 (arXiv 2006.10739, features).

    Args:
        hidden: width of the hidden layers.
        layers: number of hidden layers.
        activation: tanh, sin, gelu, silu or softplus.
        fourier: take trained Fourier features, hidden/2 frequencies, as the first layer.
        fourier_scale: standard deviation of the frequencies to begin with, in units of the mapped axes.
        modes: harmonics of every periodic axis.
        weight_factorization: weights W = diag(e^s) V with s and V trained (arXiv 2210.01274), but for B.
        axes: names of the axes that the network reads; all when empty.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: int = 32
    layers: int = 4
    activation: ActivationName = "tanh"
    fourier: bool = False
    fourier_scale: float = 1.0
    modes: int = 1
    weight_factorization: bool = False
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self, "hidden", "layers", "modes")
        even = self.fourier is not True or self.hidden % 2 == 0
        checks = [
            ("fourier", isinstance(self.fourier, bool), "True or False"),
            ("hidden", even, "even with fourier=True: half of it are frequencies"),
            ("fourier_scale", within(self.fourier_scale, 0, math.inf), "finite and > 0"),
        ]
        require(self, checks)

    def build(self, domain: Shape, fields: int, seed: int) -> GraphNetwork:
        """The network for a domain and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, axes=self.axes)
        made, w, f = layers_of(seed, self.weight_factorization), self.hidden, embedding.features
        derivatives = NETWORK_ACTIVATIONS[self.activation]
        waves = _Waves.drawn(made, w // 2, f, self.fourier_scale) if self.fourier else None
        first = None if waves else made.glorot(w, f)
        hidden = [made.glorot(w, w) for _ in range(self.layers - 1)]
        last = made.glorot(fields, w)

        def body(run: Pass, h: Tensor) -> Tensor:
            if waves is not None:
                h = waves(run, h)
            elif first is not None:
                h = run.pointwise(first(run, h), derivatives)
            for layer in hidden:
                h = h + run.pointwise(layer(run, h), derivatives)
            return last(run, h)

        widths = "-".join(map(str, (f, *[w] * self.layers, fields)))
        kind = ", Fourier features" if self.fourier else ""
        return made.network(embedding, body, fields, "ResidualMLP", f"{widths}, {self.activation}{kind}")
