"""Poisson's equation in 100 dimensions: −Δu = −200 on [0,1]^100, u = ‖x‖², Dirichlet.

Source: E and Yu 2018. 150 + 150 points drawn anew before every step, tanh 100-64-64-1, P = 10,689; published
runs (arXiv 2505.12149) have 100-768-768-512-512-1, P = 1,325,057, and 100 + 50 points.
"""

from sngd import MLP, RunConfig
from sngd.problems import poisson100d

run = RunConfig(
    problem=poisson100d(interior=150, boundary=150),
    network=MLP(hidden=(64, 64)),
    resample_every=1,
    max_seconds=300,
    target_error=1e-3,
)
