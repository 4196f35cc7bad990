"""Taylor–Green vortices: Navier–Stokes in the plane, ν = 0.1, periodic on [0,2π]², 0 < t < 1.

Source: Taylor and Green 1937. 2,048 + 512 + 64 fixed points, tanh 5-32-32-32-3, P = 2,403.
"""

from sngd import MLP, RunConfig
from sngd.problems import taylor_green

run = RunConfig(
    problem=taylor_green(interior=2048, initial=512, gauge=64),
    network=MLP(hidden=(32, 32, 32)),
    max_seconds=90,
    target_error=1e-6,
)
