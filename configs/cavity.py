"""Lid-driven cavity: steady Navier–Stokes equations at Re = 100 on [0,1]², u = 1 on the lid, for u, v, p.

Reference: spectral solution. Source: Ghia, Ghia and Shin 1982; Botella and Peyret 1998 for the flow of the
lid's two corners, where velocities jump and the pressure is infinite: it is known in closed form to two
terms, and the network is the rest. 2,048 + 512 fixed points, tanh 2-24-24-24-3, P = 1,347.
"""

from sngd import MLP, RunConfig
from sngd.problems import cavity

run = RunConfig(
    problem=cavity(interior=2048, boundary=512, gauge=4, subtract_corners=True),
    network=MLP(hidden=(24, 24, 24)),
    max_seconds=60,
    target_error=2e-3,
)
