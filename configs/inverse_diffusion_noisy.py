"""Inverse diffusion with noise: κ of u_t = κ u_xx from 200 measurements of u with errors of 1 %; κ = 0.3.

Source: as inverse_diffusion.py. The loss ends at the noise's own size, where no step is left that lowers it.
"""

from sngd import MLP, RunConfig
from sngd.problems import inverse_diffusion

run = RunConfig(
    problem=inverse_diffusion(measurements=200, noise=0.01, interior=1200),
    network=MLP(hidden=(20, 20, 20)),
    max_steps=60,
    max_seconds=30,
    target_error=1e-4,
)
