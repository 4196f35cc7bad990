"""Inverse diffusion: κ of u_t = κ u_xx on [0,1]×[0,1] from 200 measurements of u; κ = 0.3.

Source: Raissi, Perdikaris and Karniadakis 2019 (the question). Clean measurements; inverse_diffusion_noisy.py
has errors of 1 %. Zero at the walls by the form of u. 1,200 fixed points, tanh 2-20-20-20-1, P = 922 with κ.
"""

from sngd import MLP, RunConfig
from sngd.problems import inverse_diffusion

run = RunConfig(
    problem=inverse_diffusion(measurements=200, interior=1200),
    network=MLP(hidden=(20, 20, 20)),
    max_seconds=30,
    target_error=1e-9,
)
