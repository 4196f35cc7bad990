"""The heat equation in 4+1 dimensions: u_t = Δu/4 on [0,1]^4 × [0,1], u = exp(−t) Σ sin 2x_i.

Source: Dangel, Müller and Zeinhofer, NeurIPS 2024 (arXiv 2405.15603). 3,000 + 250 initial + 250 wall points
drawn anew before every step, tanh 5-64-64-48-48-1, P = 10,065; published runs (arXiv 2505.12149) have
5-256-256-128-128-1, P = 116,865.
"""

from sngd import MLP, RunConfig
from sngd.problems import heat4d

run = RunConfig(
    problem=heat4d(interior=3000, initial=250, walls=250),
    network=MLP(hidden=(64, 64, 48, 48)),
    resample_every=1,
    max_seconds=300,
    target_error=1e-6,
)
