"""Poisson's equation with a small transformer: −Δu = 2π² sin πx sin πy on [0,1]², u = 0 on the boundary.

Any torch.nn.Module is a network of a run: it takes points (n, inputs) and returns fields (n, outputs). This
one makes a token of each coordinate, and one that reads.

Source: Müller and Zeinhofer, ICML 2023 (equation); 300 + 80 fixed points.
"""

import torch
from torch import Tensor, nn

from sngd import Module, RunConfig
from sngd.problems import poisson2d


class Transformer(nn.Module):
    """Coordinates as tokens, attention among them, and a layer for each token alike."""

    def __init__(self, inputs: int, outputs: int, width: int = 8) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.randn(inputs, width))
        self.place = nn.Parameter(torch.randn(inputs + 1, width))
        self.attention = nn.MultiheadAttention(width, num_heads=2, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, width))
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Points (n, inputs) → (n, outputs)."""
        reader = self.place[-1].expand(len(x), 1, -1)
        tokens = torch.cat([x.unsqueeze(2) * self.slope + self.place[:-1], reader], dim=1)
        tokens = self.norm(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return self.last((tokens + self.inner(tokens)).mean(1))


run = RunConfig(
    problem=poisson2d(interior=300, boundary=80),
    network=Module(Transformer),
    max_seconds=60,
    target_error=1e-4,
)
