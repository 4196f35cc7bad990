"""Several networks side by side, and parameters that belong to none, as one network.

    θ = [θ_1, …, θ_m], and outputs [u_1, …, u_m] one after the other

Letters
    P        parameters of all parts
    C, n     Taylor channels and points of a batch; q residual components per point
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sngd.layers import AnyNetwork, join_layouts, layout, split_layers, values
from sngd.modules import AnyConfig, wrapped
from sngd.problem import Problem
from sngd.taylor import Channel, TaylorRules

__all__ = ["Composite", "Constants", "build_network"]


@dataclass
class ConstantTape:
    """Of `Constants`: nothing but what is read from it."""

    inputs: list[Tensor]
    output: Tensor


class Constants:
    """Parameters that are outputs themselves, the same at every point: a layer without inputs.

    Args:
        initial: their first values (P,).
    """

    def __init__(self, initial: Tensor) -> None:
        self.initial, self.parameters, self.outputs = initial, len(initial), len(initial)
        self.shapes = [(len(initial), 0)]
        self.weight_slices, self.bias_slices = layout(self.shapes)

    def __repr__(self) -> str:
        return f"Constants({self.parameters})"

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Constants:
        """The same: there is nothing but parameters."""
        return self

    def split(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """As `AnyNetwork.split`."""
        return split_layers(self, theta)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """The parameters at points x (n, d), (n, P)."""
        return values(self, theta, x)

    def embed(self, x: Tensor, channels: tuple[Channel, ...]) -> Tensor:
        """The layer's inputs, of which there are none: (1, n, 0)."""
        return x.new_empty(1, len(x), 0)

    def forward(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> Tensor:
        """The parameters in the value channel, (C, n, P)."""
        z = theta.new_zeros(len(rules.channels), h.shape[1], self.parameters)
        z[0] = theta
        return z

    def record(self, theta: Tensor, h: Tensor, rules: TaylorRules) -> ConstantTape:
        """As `AnyNetwork.record`."""
        return ConstantTape([h], self.forward(theta, h, rules))

    def pull_back(self, theta: Tensor, tape: ConstantTape, d_out: Tensor, rules: TaylorRules) -> list[Tensor]:
        """The value channel's cotangents, (1, n, q, P)."""
        return [d_out[:1]]


@dataclass
class CompositeTape:
    """Of `Composite`: the parts' tapes."""

    parts: list[Any]

    @property
    def inputs(self) -> list[Tensor]:
        """Factors H_l of all parts' layers."""
        return [h for part in self.parts for h in part.inputs]

    @property
    def output(self) -> Tensor:
        """Channels of all parts' outputs, (C, n, outputs)."""
        return torch.cat([part.output for part in self.parts], dim=2)


class Composite:
    """Networks side by side as one.

    Args:
        parts: two or more.
    """

    def __init__(self, parts: Sequence[AnyNetwork]) -> None:
        self.parts = list(parts)
        self.outputs = sum(part.outputs for part in parts)
        self.shapes = [shape for part in parts for shape in part.shapes]
        self.initial = torch.cat([part.initial for part in parts])
        self.parameters = len(self.initial)
        self.weight_slices, self.bias_slices, self._thetas = join_layouts(parts)

    def __repr__(self) -> str:
        return f"Composite({', '.join(map(repr, self.parts))}, P={self.parameters:,})"

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Composite:
        """The same networks in another dtype or on another device."""
        return Composite([part.to(dtype, device) for part in self.parts])

    def split(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """As `AnyNetwork.split`."""
        return split_layers(self, theta)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values of all outputs at points x (n, d), (n, outputs)."""
        return values(self, theta, x)

    def embed(self, x: Tensor, channels: tuple[Channel, ...]) -> list[Any]:
        """What each part makes of points x (n, d)."""
        return [part.embed(x, channels) for part in self.parts]

    def forward(self, theta: Tensor, h: list[Any], rules: TaylorRules) -> Tensor:
        """Output channels (C, n, outputs)."""
        own = zip(self.parts, self._thetas, h, strict=True)
        return torch.cat([part.forward(theta[where], x, rules) for part, where, x in own], dim=2)

    def record(self, theta: Tensor, h: list[Any], rules: TaylorRules) -> CompositeTape:
        """As `AnyNetwork.record`."""
        own = zip(self.parts, self._thetas, h, strict=True)
        return CompositeTape([part.record(theta[where], x, rules) for part, where, x in own])

    def pull_back(
        self, theta: Tensor, tape: CompositeTape, d_out: Tensor, rules: TaylorRules
    ) -> list[Tensor]:
        """Cotangents D_l of all parts' layers."""
        pieces = d_out.split([part.outputs for part in self.parts], dim=3)
        own = zip(self.parts, self._thetas, tape.parts, pieces, strict=True)
        return [
            dd
            for part, where, own_tape, piece in own
            for dd in part.pull_back(theta[where], own_tape, piece.contiguous(), rules)
        ]


def build_network(problem: Problem, config: AnyConfig, seed: int) -> AnyNetwork:
    """The network of a problem: one for all outputs or several, and the unknown coefficients after them.

    Args:
        problem: its domain, outputs and coefficients.
        config: of one network, or {"u, v": …, "k": …} for several, each with the outputs it gives; a
            torch.nn.Module stands for Module(it).
        seed: of the initial parameters; network number i of several takes seed + i.

    Raises:
        ValueError: several networks do not give each output once, in order.
    """
    parts, one = list[AnyNetwork](), wrapped(config)
    if isinstance(one, Mapping):
        for number, (names, part) in enumerate(_by_output(problem, one)):
            parts.append(part.build(problem.domain, names, seed + number))
    else:
        parts.append(one.build(problem.domain, len(problem.outputs), seed))
    if problem.unknowns:
        start = [c.start for c in problem.unknowns.values()]
        parts.append(Constants(torch.tensor(start, dtype=torch.float64)))
    return parts[0] if len(parts) == 1 else Composite(parts)


def _by_output(problem: Problem, config: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """Number of outputs and config of every network."""
    given = [(tuple(name.strip() for name in names.split(",")), one) for names, one in config.items()]
    flat = tuple(name for names, _ in given for name in names)
    if flat != problem.outputs:
        raise ValueError(
            f"network={{{', '.join(map(repr, config))}}} must name the outputs {problem.outputs} of problem "
            f"{problem.name!r}, each once and in this order"
        )
    return [(len(names), one) for names, one in given]
