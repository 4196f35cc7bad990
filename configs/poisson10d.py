"""A harmonic function in 10 dimensions: Δu = 0 on [0,1]^10, u = Σ x_{2i−1} x_{2i} given on the boundary.

Source: E and Yu 2018. 3,000 + 500 points drawn anew before every step, tanh 10-64-64-48-48-1, P = 10,385;
published runs (arXiv 2505.12149) have 10-256-256-128-128-1, P = 118,145.
"""

from sngd import MLP, RunConfig
from sngd.problems import poisson10d

run = RunConfig(
    problem=poisson10d(interior=3000, boundary=500),
    network=MLP(hidden=(64, 64, 48, 48)),
    resample_every=1,
    max_seconds=300,
    target_error=1e-5,
)
