"""Networks composed of layers and of operations without parameters, with exact factors of the Jacobian.

All parameters belong to layers: dense ones, Z = H Wᵀ + b, and vectors that act elementwise, which are layers
without inputs whose one channel is the same at every point. Between layers stand operations on Taylor
channels without parameters: pointwise functions, products, sums. The rows of J in a layer's columns are then
D_l ⊗ H_l, with D_l the derivative of a residual component with respect to what leaves the layer. One reverse
pass of autograd for each component gives it for all layers at once: points do not mix, so that the sum over
points has each point's own derivative.

Letters
    P        parameters; C, n Taylor channels and points of a batch; q residual components per point
    H_l      (C, n, in_l) channels that enter layer l; (1, n, 0) where it has no inputs
    Z_l      (C, n, out_l) channels that leave it; (1, n, out_l) where it has no inputs
    D_l      (C, n, q, out_l) or (1, n, q, out_l), ∂(residual component)/∂Z_l
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sngd.activations import Derivatives
from sngd.channels import Affine, Pointwise, Product, affine, pointwise, product
from sngd.embedding import Embedding
from sngd.layers import layout, split_layers, values
from sngd.taylor import Channel, TaylorRules

__all__ = ["Body", "GraphNetwork", "GraphTape", "Pass"]


@dataclass
class GraphTape:
    """What one forward pass keeps: H_l, Z_l, and the output that autograd goes back from, once."""

    inputs: list[Tensor]
    leaving: list[Tensor]
    output: Tensor


class Pass:
    """One way through the network, forwards: what a body is written with.

    Args:
        network: whose layers they are.
        theta: (P,).
        rules: of the batch's channels.
        points: n.
        recording: keep H_l and Z_l of every layer for autograd.
    """

    def __init__(
        self, network: GraphNetwork, theta: Tensor, rules: TaylorRules, points: int, recording: bool
    ) -> None:
        self.weights, self.biases = network.split(theta.detach() if recording else theta)
        self.rules, self.points, self.recording = rules, points, recording
        self.inputs: dict[int, Tensor] = {}
        self.leaving: dict[int, Tensor] = {}

    def dense(self, layer: int, h: Tensor) -> Tensor:
        """Channels (C, n, in) through a dense layer, (C, n, out); each layer once."""
        if not self.recording:
            return affine(h, self.weights[layer], self.biases[layer])
        z = Affine.apply(h, self.weights[layer], self.biases[layer])
        return self._note(layer, h.detach(), z if z.requires_grad else z.requires_grad_())

    def vector(self, layer: int) -> Tensor:
        """Parameters that act elementwise, values (n, m) to multiply channels or to add to the value channel.

        Without recording (1, m), the same for all points.
        """
        if not self.recording:
            return self.biases[layer].unsqueeze(0)
        z = self.biases[layer].expand(1, self.points, -1).requires_grad_()
        return self._note(layer, z.new_empty(1, self.points, 0), z)[0]

    def _note(self, layer: int, h: Tensor, z: Tensor) -> Tensor:
        assert layer not in self.inputs, f"layer {layer} is passed twice"
        self.inputs[layer], self.leaving[layer] = h, z
        return z

    def pointwise(self, z: Tensor, derivatives: Derivatives) -> Tensor:
        """f∘z, (C, n, w)."""
        if not self.recording:
            return pointwise(z, self.rules, derivatives)
        return Pointwise.apply(z, self.rules, derivatives)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """The product of fields (C, n, w), entry by entry."""
        return Product.apply(a, b, self.rules) if self.recording else product(a, b, self.rules)


Body = Callable[[Pass, Tensor], Tensor]


class GraphNetwork:
    """Layers and what stands between them, as functions of a flat parameter vector.

    Args:
        embedding: coordinates → features.
        shapes: (out, in) of every layer; in = 0 of vectors.
        body: (pass, features (C, n, in)) → output channels (C, n, outputs); takes every layer once.
        outputs: of the network.
        initial: flat initial parameters (P,), float64.
        name: of the architecture.
        details: of it, for people.

    Raises:
        ValueError: the initial parameters are not as many as the layers have.
    """

    def __init__(
        self,
        embedding: Embedding,
        shapes: Sequence[tuple[int, int]],
        body: Body,
        outputs: int,
        initial: Tensor,
        name: str,
        details: str,
    ) -> None:
        self.embedding, self.shapes, self.body = embedding, list(shapes), body
        self.outputs, self.initial = outputs, initial
        self.name, self.details = name, details
        self.weight_slices, self.bias_slices = layout(self.shapes)
        self.parameters = self.bias_slices[-1].stop
        if initial.shape != (self.parameters,):
            raise ValueError(
                f"initial parameters must have shape ({self.parameters},), got {tuple(initial.shape)}"
            )

    def __repr__(self) -> str:
        return f"{self.name}({self.details}, P={self.parameters:,})"

    def to(self, dtype: torch.dtype, device: torch.device | str) -> GraphNetwork:
        """The same network with its embedding in another dtype or on another device."""
        moved, said = self.embedding.to(dtype, device), (self.name, self.details)
        return GraphNetwork(moved, self.shapes, self.body, self.outputs, self.initial, *said)

    def split(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """As `AnyNetwork.split`."""
        return split_layers(self, theta)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values of the outputs at points x (n, d), (n, outputs)."""
        return values(self, theta, x)

    def embed(self, x: Tensor, channels: tuple[Channel, ...]) -> Tensor:
        """The channels of the embedded points x (n, d), (C, n, in)."""
        return self.embedding.channels(x, channels)

    def forward(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> Tensor:
        """Output channels (C, n, outputs) from embedded points h (C, n, in), keeping nothing."""
        return self.body(Pass(self, theta, rules, h.shape[1], recording=False), h)

    def record(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> GraphTape:
        """The forward pass with everything that the reverse pass needs."""
        run = Pass(self, theta, rules, h.shape[1], recording=True)
        with torch.enable_grad():
            output = self.body(run, h)
        layers = range(len(self.shapes))
        return GraphTape([run.inputs[i] for i in layers], [run.leaving[i] for i in layers], output)

    def pull_back(self, theta: Tensor, tape: GraphTape, d_out: Tensor, rules: TaylorRules) -> list[Tensor]:
        """Cotangents D_l of every layer from those of the outputs (C, n, q, outputs).

        A tape is pulled back once: what autograd keeps is let go with the last component.
        """
        q = d_out.shape[2]
        components = [
            torch.autograd.grad(
                tape.output,
                tape.leaving,
                d_out[:, :, j],
                retain_graph=j + 1 < q,
                allow_unused=True,
                materialize_grads=True,
            )
            for j in range(q)
        ]
        if q == 1:
            return [found.unsqueeze(2) for found in components[0]]
        return [torch.stack(found, dim=2) for found in zip(*components, strict=True)]
