"""Any torch module as a network: Taylor channels by nested forward mode, rows of J by reverse mode over it.

    ∂²u/∂x_a∂x_b  =  jvp(jvp(u, e_a), e_b)          a nest gives the lower derivatives along with it
    J_(i,j)       =  ∇_θ Σ_{c,f} D[c,i,j,f] z[c,f](θ, x_i)

The rows have no factors. To the rest of the package the module is one layer without inputs: its "biases" are
all parameters, their cotangents the rows themselves, so that every product with J works as it does for
dense networks.

Letters
    P        trainable parameters, one flat vector θ: those of two axes and more first, then the others
    C, n     Taylor channels and points of a batch; q residual components per point; f outputs
    m, K     order of a nest, and number of nests of that order
    z        (C, n, f) channels of the outputs
    D        (C, n, q, f) ∂(residual component)/∂z
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, vjp, vmap

from sngd.device_errors import is_machine_failure
from sngd.embedding import Embedding
from sngd.forward_mode import elementary
from sngd.layers import layout, split_layers, values
from sngd.nests import STEP, Recipe, derivatives, error_of_nests, make_recipe, relative_difference
from sngd.taylor import Channel, TaylorRules

__all__ = ["GeneralNetwork"]

# Numbers that one call of the module may take, and with it the points that go through at once: more of them
# share its overhead until they leave the cache (benchmarks/NOTES.md); a GPU has more room.
_NUMBERS, _NUMBERS_ON_GPU = 1 << 23, 1 << 27
# What a way through the module and back holds, in units of what reverse mode saves of the values.
_COPIES = 2
# Points on which derivatives are compared with differences, and how far they may be from them: truncation of
# the differences is far below, a wrong formula far above.
_TRIED, _TOLERANCE = 5, 1e-3


@dataclass
class RowTape:
    """What one forward pass keeps: the points; the reverse pass evaluates the module anew."""

    points: Tensor
    inputs: list[Tensor]
    output: Tensor


class GeneralNetwork:
    """A torch module as a function of its flat parameter vector.

    Args:
        embedding: coordinates → what the module takes.
        module: (n, features) → (n, outputs), point by point; parameters without requires_grad stay as they
            are, tied ones count once.
        outputs: f.
        initial: flat initial parameters (P,), float64; the module's own when absent.
    """

    def __init__(
        self, embedding: Embedding, module: nn.Module, outputs: int, initial: Tensor | None = None
    ) -> None:
        self.embedding, self.module, self.outputs = embedding, module, outputs
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        trained.sort(key=lambda pair: pair[1].ndim < 2)  # stable; the order of a dense network's θ
        self._names = [name for name, _ in trained]
        self._shapes = [p.shape for _, p in trained]
        if initial is None:
            initial = torch.cat([p.detach().flatten().to("cpu", torch.float64) for _, p in trained])
        self.initial, self.parameters = initial, len(initial)
        self.shapes = [(self.parameters, 0)]
        self.weight_slices, self.bias_slices = layout(self.shapes)
        self._saved: int | None = None
        self._verified: set[tuple[Channel, ...]] = set()

    def __repr__(self) -> str:
        return f"{type(self.module).__name__}(general path, P={self.parameters:,})"

    def to(self, dtype: torch.dtype, device: torch.device | str) -> GeneralNetwork:
        """The same network in another dtype or on another device, with a copy of the module."""
        module = copy.deepcopy(self.module).to(dtype=dtype, device=device)
        other = GeneralNetwork(self.embedding.to(dtype, device), module, self.outputs, self.initial)
        other._verified, other._saved = self._verified, self._saved
        return other

    def split(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """As `AnyNetwork.split`: one matrix without columns, and all parameters as biases."""
        return split_layers(self, theta)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values of the outputs at points x (n, d), (n, f)."""
        return values(self, theta, x)

    def embed(self, x: Tensor, channels: tuple[Channel, ...]) -> Tensor:
        """The points x (n, d) themselves: derivatives go through the embedding with the module.

        Raises:
            ValueError: the module cannot be differentiated so, or torch's derivatives of it are wrong.
        """
        if channels not in self._verified and len(x):
            self.to(torch.float64, x.device)._verify(x[:_TRIED].double(), channels)
            self._verified.add(channels)
        return x

    def forward(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> Tensor:
        """Output channels (C, n, f) at points h (n, d), keeping nothing."""
        recipe, tensors = make_recipe(rules.channels), self._tensors(theta)
        with elementary(), self._named_failures():
            pieces = h.split(self._points_at_once(recipe, h))
            return torch.cat([self._channels(tensors, x, recipe) for x in pieces], dim=1)

    def record(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> RowTape:
        """As `AnyNetwork.record`."""
        return RowTape(h, [h.new_empty(1, len(h), 0)], self.forward(theta, h, rules))

    def pull_back(self, theta: Tensor, tape: RowTape, d_out: Tensor, rules: TaylorRules) -> list[Tensor]:
        """The rows of J, (1, n, q, P), from cotangents of the outputs (C, n, q, f)."""
        recipe, tensors = make_recipe(rules.channels), self._tensors(theta)
        n, q = d_out.shape[1:3]
        rows = theta.new_empty(1, n, q, self.parameters)

        def of_a_point(x: Tensor, dd: Tensor) -> tuple[Tensor, ...]:
            """Gradients (q, …) of a point x (d,) with cotangents (C, q, f)."""

            def channels(*tensors: Tensor) -> Tensor:
                return self._channels(tensors, x.unsqueeze(0), recipe).squeeze(1)

            pull = vjp(channels, *tensors)[1]
            if q == 1:
                return tuple(gradient.unsqueeze(0) for gradient in pull(dd.squeeze(1)))
            return vmap(pull, in_dims=1)(dd)

        with elementary(), self._named_failures():
            step = self._points_at_once(recipe, tape.points, q * self.parameters)
            for first in range(0, n, step):
                some = slice(first, first + step)
                gradients = vmap(of_a_point, in_dims=(0, 1))(tape.points[some], d_out[:, some])
                torch.cat([g.reshape(*g.shape[:2], -1) for g in gradients], dim=2, out=rows[0, some])
        return [rows]

    # -----------------------------------------------------------------------------------------
    # Inside
    # -----------------------------------------------------------------------------------------

    def _tensors(self, theta: Tensor) -> tuple[Tensor, ...]:
        """The module's parameters as views of θ (P,)."""
        parts = theta.split([math.prod(shape) for shape in self._shapes])
        return tuple(part.view(shape) for part, shape in zip(parts, self._shapes, strict=True))

    def _values(self, tensors: Sequence[Tensor], x: Tensor) -> Tensor:
        parameters = dict(zip(self._names, tensors, strict=True))
        return functional_call(self.module, parameters, (self.embedding.values(x),))

    def _channels(self, tensors: Sequence[Tensor], x: Tensor, recipe: Recipe) -> Tensor:
        """Output channels (C, n, f) at points x (n, d)."""
        return derivatives(partial(self._values, tensors), x, recipe)

    def _points_at_once(self, recipe: Recipe, x: Tensor, row: int = 0) -> int:
        """Points that go through the module together.

        Args:
            recipe: of the channels.
            x: (n, d) points.
            row: numbers of a point's rows of J, where they are computed.
        """
        if self._saved is None:
            self._saved = self._saved_of_a_point(x)
        most = _NUMBERS_ON_GPU if x.device.type == "cuda" else _NUMBERS
        return max(1, most // (_COPIES * (self._saved * recipe.evaluations + row)))

    def _saved_of_a_point(self, x: Tensor) -> int:
        """Numbers that reverse mode saves of the values at a point: the difference of two batches."""
        counts = []
        for n in (1, 2):
            count = 0

            def keep(saved: Tensor) -> Tensor:
                nonlocal count
                count += saved.numel()
                return saved

            with torch.enable_grad(), saved_tensors_hooks(keep, lambda saved: saved):
                self.module(self.embedding.values(x.new_zeros(n, x.shape[1])))
            counts.append(count)
        return max(1, counts[1] - counts[0])

    def _verify(self, x: Tensor, channels: tuple[Channel, ...]) -> None:
        """Compare channels and rows at points (n, d) with differences, in float64.

        Raises:
            ValueError: the module cannot be differentiated so often, or torch's formulas are wrong.
        """
        rules, theta = TaylorRules(channels), self.initial.to(x.device)
        order = len(make_recipe(channels).groups[0][0])
        features = self.embedding
        speeds = torch.cat([features.scale, features.waves, features.even], dim=1).norm(dim=1)
        v = torch.linspace(1.0, 0.5, len(speeds), dtype=x.dtype, device=x.device)
        v = v / torch.where(speeds > 0, speeds, 1.0)
        with elementary(), self._named_failures():
            error, m = error_of_nests(partial(self._values, self._tensors(theta)), x, v, order)
        self._refuse(error, f"derivative of order {m}")
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(len(theta), generator=generator, dtype=theta.dtype).to(x.device)
        w *= theta.square().mean().sqrt().clamp_min(STEP)
        tape = self.record(theta, x, rules)
        (rows,) = self.pull_back(theta, tape, torch.ones_like(tape.output).unsqueeze(2), rules)
        sums = [self.forward(theta + shift * w, x, rules).sum(2) for shift in (STEP, -STEP)]
        wanted = (sums[0] - sums[1]).sum(0) / (2 * STEP)
        size = tape.output.abs().sum((0, 2)).unsqueeze(1)
        error = relative_difference(rows[0] @ w, wanted.unsqueeze(1), size)
        self._refuse(error, "gradient with respect to the parameters")

    def _refuse(self, error: float, what: str) -> None:
        if math.isnan(error):
            raise ValueError(
                f"network {self!r}: the {what} that torch.func gives is not finite at points of the domain"
            )
        if error > _TOLERANCE:
            raise ValueError(
                f"network {self!r}: the {what} that torch.func gives is off by a part {error:.1g} from what "
                "differences give: torch has a wrong formula for a function in its forward(), as it has for "
                "derivatives of torch.linalg.solve and det; write it in elementary functions"
            )

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        """What torch.func says is told as a mistake of the module's.

        Raises:
            ValueError: the module fails.
        """
        try:
            yield
        except (RuntimeError, NotImplementedError, TypeError, IndexError) as error:
            if is_machine_failure(error):
                raise
            first = str(error).strip().split("\n")[0]
            raise ValueError(
                f"network {self!r} cannot be differentiated by torch.func: {type(error).__name__}: {first}; "
                "write its forward() with differentiable operations of torch, out of place, without .item(), "
                ".numpy() or branches on values"
            ) from error
