"""Poisson's equation: −Δu = 2π² u on [0,1]², u = sin πx sin πy, zero on the boundary.

Source: Müller and Zeinhofer, ICML 2023 (equation); 1,200 + 240 fixed points, tanh 2-24-24-24-1.
"""

from sngd import MLP, RunConfig
from sngd.problems import poisson2d

run = RunConfig(
    problem=poisson2d(interior=1200, boundary=240),
    network=MLP(hidden=(24, 24, 24)),
    max_seconds=25,
    target_error=1e-9,
)
