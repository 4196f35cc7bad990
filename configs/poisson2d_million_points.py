"""Poisson's equation, N = 1,000,000: −Δu = 2π² u on [0,1]², on a million points with P = 5,081.

With little memory (`--memory-gb 0.3`) nothing of the size of points × rank is kept: products with A = J Q are
recomputed.

Source: Müller and Zeinhofer, ICML 2023 (equation); widths and points are our own.
"""

from sngd import MLP, SNGD, RunConfig
from sngd.problems import poisson2d

run = RunConfig(
    problem=poisson2d(interior=960_000, boundary=40_000),
    network=MLP(hidden=(40, 40, 40, 40)),
    optimizer=SNGD(rank=64, max_rank=256),
    precision="mixed",
    max_steps=20,
    max_seconds=600,
    target_error=1e-4,
)
