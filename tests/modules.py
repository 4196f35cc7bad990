"""Small torch modules that are no stacks of linear layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sngd.domain import Box

SQUARE = Box(x=(0, 1), y=(0, 3))
STRIP = Box(x=(-1, 1), t=(0, 2), periodic="x")


class Normed(nn.Module):
    """A residual block with LayerNorm, a gate, and parameters that are no matrices."""

    def __init__(self, inputs: int, outputs: int, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width, bias=False)
        self.gate = nn.Parameter(torch.tensor(0.7))
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h + self.gate * nn.functional.gelu(self.inner(self.norm(h))))


class Attention(nn.Module):
    """Coordinates as tokens: a linear layer each, attention among them, and their mean."""

    def __init__(self, inputs: int, outputs: int, width: int = 4) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(inputs + 1, width))
        self.slope = nn.Parameter(torch.randn(inputs, width))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.last = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        read = self.place[-1:].expand(len(x), 1, -1)
        tokens = torch.cat([x.unsqueeze(2) * self.slope + self.place[:-1], read], dim=1)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.last((tokens + mixed).mean(1))


class Convolution(nn.Module):
    """A linear layer whose features are a signal, convolved twice."""

    def __init__(self, inputs: int, outputs: int, length: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, length)
        self.signal = nn.Sequential(
            nn.Conv1d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv1d(3, 2, 3, stride=2), nn.Softplus()
        )
        self.last = nn.LazyLinear(outputs)
        self.last(torch.zeros(1, 2 * ((length - 3) // 2 + 1)))

    def forward(self, x: Tensor) -> Tensor:
        signal = self.signal(torch.sin(self.first(x)).unsqueeze(1))
        return self.last(signal.flatten(1))


MODULES: dict[str, Callable[[int, int], nn.Module]] = {
    "normed": Normed,
    "attention": Attention,
    "convolution": Convolution,
}


def dense(inputs: int, outputs: int) -> nn.Module:
    """An nn.Sequential that both paths can take."""
    return nn.Sequential(
        nn.Linear(inputs, 8), nn.Tanh(), nn.Sequential(nn.Linear(8, 7), nn.Tanh()), nn.Linear(7, outputs)
    )


class Of(nn.Module):
    """Linear, a function, linear."""

    def __init__(self, function, inputs=2, outputs=1, width=4):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.function = function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


def stack(*activations, bias=True):
    """nn.Sequential of linear layers with these between them."""
    parts = [nn.Linear(2, 3)]
    for activation in activations:
        parts += [activation, nn.Linear(3, 3, bias=bias)]
    return nn.Sequential(*parts, nn.Identity())
