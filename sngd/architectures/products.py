"""Networks that multiply: filters of all coordinates, functions of one coordinate each.

Letters
    h        features of the coordinates, mapped to [−1, 1] each
    W, b     weights and biases of dense layers; σ the activation; ⊙ product entry by entry
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sngd.activations import ACTIVATIONS, NETWORK_ACTIVATIONS
from sngd.architectures.building import ActivationName, Dense, Layers, check, layers_of, stack
from sngd.channels import product
from sngd.checks import require, whole_numbers, within
from sngd.embedding import embed
from sngd.geometry.shape import Shape
from sngd.graph import GraphNetwork, Pass

__all__ = ["Gabor", "Separable"]


@dataclass(frozen=True)
class Gabor:
    """A multiplicative filter network with Gabor filters: a sum of wave packets, without activations.

        g_l(h) = exp(−e^{γ_l} ‖h − μ_l‖²/2) ⊙ sin(Ω_l h + φ_l)
        z_1 = g_1(h),  z_{l+1} = (W_l z_l + b_l) ⊙ g_{l+1}(h),  u = W z_L + b

    Centres μ, log-precisions γ, frequencies Ω and phases φ are trained along. The paper trains the precision
    itself; its logarithm keeps every filter bounded. As ‖h − μ‖² = ‖h‖² − 2 μ·h + ‖μ‖²,
    centres act elementwise.

    A step costs 1.9 times that of a multilayer perceptron with as many parameters; on Helmholtz's equation
    it was the most accurate at equal time, on Burgers' it fitted the points and not the solution between them
    (benchmarks/NOTES.md).

    Source: Fathony, Sahu, Willmott, Kolter 2021 (ICLR, Multiplicative filter networks, section 3.2), with the
    initial values of its appendix: precisions from a gamma distribution, frequencies in proportion to their
    roots.

    Args:
        hidden: filters of every layer.
        layers: number of filter layers.
        frequency: bound of the initial frequencies, times the root of the precision, all layers together, in
            units of the mapped axes.
        precision: mean of the initial precisions e^γ, all layers together.
        modes: harmonics of every periodic axis.
        axes: names of the axes that the network reads; all when empty.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: int = 32
    layers: int = 3
    frequency: float = 4.0
    precision: float = 2.0
    modes: int = 1
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self, "hidden", "layers", "modes")
        names = ("frequency", "precision")
        finite = [(name, within(getattr(self, name), 0, math.inf), "finite and > 0") for name in names]
        require(self, finite)

    def build(self, domain: Shape, fields: int, seed: int) -> GraphNetwork:
        """The network for a domain and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, axes=self.axes)
        made, w = layers_of(seed, False), self.hidden
        filters = [self._filter(made, embedding.features) for _ in range(self.layers)]
        bound = 1 / math.sqrt(w)
        mixing = [made.dense(made.draw(w, w) * bound, made.draw(w) * bound) for _ in filters[1:]]
        last = made.uniform(fields, w, bound)

        def body(run: Pass, h: Tensor) -> Tensor:
            z = filters[0](run, h)
            for mix, g in zip(mixing, filters[1:], strict=True):
                z = run.product(mix(run, z), g(run, h))
            return last(run, z)

        widths = "-".join(map(str, (embedding.features, *[w] * self.layers, fields)))
        return made.network(embedding, body, fields, "Gabor", widths)

    def _filter(self, made: Layers, features: int) -> _GaborFilter:
        """Filters of one layer."""
        w, shape = self.hidden, 3  # precisions from a gamma distribution of this shape: no two alike, none 0
        draws = torch.rand(w, shape, generator=made.generator, dtype=torch.float64)
        gamma = -(1 - draws).log().sum(1) * self.precision / (shape * self.layers)
        frequencies = made.draw(w, features) * gamma.sqrt().unsqueeze(1)
        frequencies *= self.frequency / math.sqrt(self.layers * features)
        centres = made.vector(made.draw(features * w))
        precision = made.vector(gamma.log())
        return _GaborFilter(made.dense(frequencies, math.pi * made.draw(w)), centres, precision, w)


@dataclass(frozen=True)
class _GaborFilter:
    """exp(−e^γ ‖h − μ‖²/2) ⊙ sin(Ω h + φ); μ feature by feature."""

    wave: Dense
    centres: int
    precision: int
    width: int

    def __call__(self, run: Pass, h: Tensor) -> Tensor:
        """(C, n, in) → (C, n, width)."""
        centres, precision = run.vector(self.centres), run.vector(self.precision).exp()
        # ‖h‖² − 2 μ·h + ‖μ‖²: of the first nothing depends on parameters, the last has a value alone
        distance = product(h, h, run.rules).sum(2, keepdim=True)
        norms: Tensor | float = 0.0
        for feature, centre in enumerate(centres.split(self.width, dim=1)):
            distance = distance - 2 * (h[..., feature : feature + 1] * centre)
            norms = norms + centre * centre
        distance[0] += norms
        exponent = distance * (-0.5 * precision)
        envelope = run.pointwise(exponent, ACTIVATIONS["exp"])
        return run.product(envelope, run.pointwise(self.wave(run, h), ACTIVATIONS["sin"]))


@dataclass(frozen=True)
class Separable:
    """A sum of products of functions of one coordinate each: u(x) = Σ_r Π_i f_{i,r}(x_i).

    The f_i are multilayer perceptrons that read one axis each. On scattered points, as here, it costs no less
    than one network on all axes: the savings of the paper come from product grids, where the f_i are
    evaluated on each axis alone. It pays where the solution is a short sum of products.

    Source: Cho, Nam, Yang, Yun, Hong, Park 2023 (NeurIPS, Separable PINN, arXiv 2306.15969).

    Args:
        hidden: widths of the hidden layers of every f_i.
        rank: number of products of every field.
        activation: tanh, sin, gelu, silu or softplus.
        modes: harmonics of every periodic axis.
        weight_factorization: weights W = diag(e^s) V with s and V trained (arXiv 2210.01274).
        axes: names of the axes that the network reads; all when empty.

    Raises:
        ValueError: an argument is out of range.
    """

    hidden: tuple[int, ...] = (24, 24)
    rank: int = 16
    activation: ActivationName = "tanh"
    modes: int = 1
    weight_factorization: bool = False
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(
            self, [("hidden", whole_numbers(self.hidden), "one or more whole numbers ≥ 1, e.g. (24, 24)")]
        )
        check(self, "rank", "modes")

    def build(self, domain: Shape, fields: int, seed: int) -> GraphNetwork:
        """The network for a domain and a number of fields, initialised from seed."""
        embedding = embed(domain, self.modes, axes=self.axes)
        made, derivatives = layers_of(seed, self.weight_factorization), NETWORK_ACTIVATIONS[self.activation]
        columns = [c for c in map(embedding.features_of, range(domain.dim)) if c]
        factors = []
        for own in columns:
            widths = (len(own), *self.hidden, self.rank * fields)
            # outputs near 1 in size, so that a product of many does not vanish
            dense = [made.glorot(o, i) for i, o in pairwise(widths[:-1])]
            spread = torch.randn(widths[-1], widths[-2], generator=made.generator, dtype=torch.float64)
            dense.append(made.dense(spread / math.sqrt(widths[-2])))
            factors.append(stack(dense, derivatives))

        def body(run: Pass, h: Tensor) -> Tensor:
            total: Tensor | None = None
            for own, factor in zip(columns, factors, strict=True):
                one = factor(run, h[..., own])
                total = one if total is None else run.product(total, one)
            assert total is not None
            return total.unflatten(2, (fields, self.rank)).sum(3) / math.sqrt(self.rank)

        each = "-".join(map(str, self.hidden))
        details = f"{len(columns)} axes × {each}, rank={self.rank}, {self.activation}"
        return made.network(embedding, body, fields, "Separable", details)
