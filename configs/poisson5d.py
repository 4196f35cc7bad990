"""Poisson's equation in 5 dimensions: −Δu = π² Σ cos πx_i on [0,1]^5, u = Σ cos πx_i, Dirichlet.

Source: Dangel, Müller and Zeinhofer, NeurIPS 2024 (arXiv 2405.15603). 3,000 + 500 points drawn anew before
every step, tanh 5-64-64-48-48-1, P = 10,065, as in arXiv 2505.12149.
"""

from sngd import MLP, RunConfig
from sngd.problems import poisson5d

run = RunConfig(
    problem=poisson5d(interior=3000, boundary=500),
    network=MLP(hidden=(64, 64, 48, 48), initialization="torch"),
    resample_every=1,
    max_seconds=300,
    target_error=1e-7,
)
