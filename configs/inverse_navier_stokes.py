"""Inverse Navier–Stokes: λ, ν and the pressure from 1,000 measured velocities of a flow; λ = 1, ν = 0.05.

Source: Raissi, Perdikaris and Karniadakis 2019 (the question; the flow, Taylor–Green vortices on a mean flow,
is our own). 2,000 fixed points, tanh 5-30-30-30-3, P = 2,135 with λ and ν.
"""

from sngd import MLP, RunConfig
from sngd.problems import inverse_navier_stokes

run = RunConfig(
    problem=inverse_navier_stokes(measurements=1000, interior=2000),
    network=MLP(hidden=(30, 30, 30)),
    max_seconds=120,
    target_error=1e-5,
)
