"""Transport: u_t + 30 u_x = 0, periodic on [0,2π], u(x,0) = sin x, t in [0,1]; u = sin(x − 30 t).

Source: Krishnapriyan et al., NeurIPS 2021. The points are drawn anew before every step: on a fixed set of
this size the loss can fall while the solution stays wrong.
"""

from sngd import MLP, RunConfig
from sngd.problems import transport

run = RunConfig(
    problem=transport(speed=30, interior=2048, initial=512),
    network=MLP(hidden=(24, 24, 24)),
    resample_every=1,
    max_seconds=90,
    target_error=1e-5,
)
