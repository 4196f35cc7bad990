"""What architectures are built of: layers with their initial parameters, and stacks of them.

Letters
    W, b     weights (out, in) and biases (out,) of a dense layer
    s        log-scale of a factorised weight W = diag(e^s) V
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sngd.activations import NETWORK_ACTIVATIONS, Derivatives
from sngd.checks import one_of, require, whole, words
from sngd.embedding import Embedding
from sngd.graph import Body, GraphNetwork, Pass

__all__ = ["ActivationName", "Dense", "Layers", "check", "glorot", "layers_of", "stack"]

ActivationName = Literal["tanh", "sin", "gelu", "silu", "softplus"]

# Log-scales s ~ N(1, 0.1²) of factorised weights, as in Wang, Wang, Seidman, Perdikaris 2022, section 4.
_SCALE_MEAN, _SCALE_DEVIATION = 1.0, 0.1


def glorot(out: int, width: int, generator: torch.Generator) -> Tensor:
    """Normal weights (out, in) of variance 2/(in + out)."""
    drawn = torch.randn(out, width, generator=generator, dtype=torch.float64)
    return drawn * math.sqrt(2 / (width + out))


@dataclass(frozen=True)
class Dense:
    """W h + b; with a factorised weight, e^s ⊙ (V h + b).

    Args:
        layer: number of the layer with weights.
        scale: number of the layer that s is; None without one.
    """

    layer: int
    scale: int | None = None

    def __call__(self, run: Pass, h: Tensor) -> Tensor:
        """(C, n, in) → (C, n, out)."""
        z = run.dense(self.layer, h)
        return z if self.scale is None else z * run.vector(self.scale).exp()


@dataclass
class Layers:
    """Collects the layers of a network.

    Args:
        generator: of initial parameters.
        factorized: dense layers get factorised weights, W = diag(e^s) V with s and V trained (random weight
            factorisation, Wang, Wang, Seidman, Perdikaris 2022, arXiv 2210.01274). A unit's bias shares its
            scale.
        shapes: (out, in) of the layers so far.
        weights: their weights, (out, in) each.
        biases: their biases, (out,) each.
    """

    generator: torch.Generator
    factorized: bool = False
    shapes: list[tuple[int, int]] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    biases: list[Tensor] = field(default_factory=list)

    def dense(self, weight: Tensor, bias: Tensor | None = None) -> Dense:
        """A dense layer.

        Args:
            weight: (out, in) to begin with.
            bias: (out,); zeros when absent.
        """
        scale, start = None, torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias
        if self.factorized:
            drawn = torch.randn(len(weight), generator=self.generator, dtype=torch.float64)
            s = _SCALE_MEAN + _SCALE_DEVIATION * drawn
            scale = self.vector(s)
            weight, start = weight / s.exp().unsqueeze(1), start / s.exp()
        return Dense(self._add(weight, start), scale)

    def glorot(self, out: int, width: int) -> Dense:
        """A dense layer with normal weights of variance 2/(in + out), without biases to begin with."""
        return self.dense(glorot(out, width, self.generator))

    def uniform(self, out: int, width: int, bound: float) -> Dense:
        """A dense layer with weights uniform in ±bound, without biases to begin with."""
        return self.dense(self.draw(out, width) * bound)

    def draw(self, *shape: int) -> Tensor:
        """Numbers uniform in ±1, of a shape."""
        return 2 * torch.rand(*shape, generator=self.generator, dtype=torch.float64) - 1

    def vector(self, start: Tensor) -> int:
        """The number of a layer without inputs, whose parameters start at (m,)."""
        return self._add(torch.zeros(len(start), 0, dtype=torch.float64), start)

    def _add(self, weight: Tensor, bias: Tensor) -> int:
        self.shapes.append((weight.shape[0], weight.shape[1]))
        self.weights.append(weight.flatten())
        self.biases.append(bias)
        return len(self.shapes) - 1

    def network(
        self, embedding: Embedding, body: Body, outputs: int, name: str, details: str
    ) -> GraphNetwork:
        """The network of a body that takes each of the layers once."""
        initial = torch.cat([*self.weights, *self.biases])
        if self.factorized:
            details += ", factorised weights"
        return GraphNetwork(embedding, self.shapes, body, outputs, initial, name, details)


def layers_of(seed: int, factorized: bool) -> Layers:
    """No layers yet."""
    return Layers(torch.Generator().manual_seed(seed), factorized)


def stack(layers: list[Dense], derivatives: Derivatives) -> Callable[[Pass, Tensor], Tensor]:
    """Dense layers with a pointwise function between them: (C, n, in) → (C, n, out)."""

    def body(run: Pass, h: Tensor) -> Tensor:
        for number, layer in enumerate(layers):
            h = layer(run, run.pointwise(h, derivatives) if number else h)
        return h

    return body


def check(config: Any, *fields: str) -> None:
    """Refuse whole numbers below 1, activations that there are not, and axes that are no names.

    Args:
        config: of an architecture.
        fields: those that are whole numbers.
    """
    checks = [(field, whole(getattr(config, field), 1), "a whole number ≥ 1") for field in fields]
    if hasattr(config, "activation"):
        known = sorted(NETWORK_ACTIVATIONS)
        checks.append(("activation", one_of(config.activation, known), f"one of {known}"))
    if hasattr(config, "weight_factorization"):
        switch = isinstance(config.weight_factorization, bool)
        checks.append(("weight_factorization", switch, "True or False"))
    checks.append(("axes", words(config.axes), 'a tuple of names of axes, e.g. ("x",)'))
    require(config, checks)
