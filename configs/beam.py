"""Euler–Bernoulli beam: u_xxxx = 1 on [0,1], u = u_xx = 0 at both ends; u = x (1 − 2x² + x³)/24.

Source: textbooks on beams. 256 + 32 fixed points, tanh 1-16-16-1, P = 321.
"""

from sngd import MLP, RunConfig
from sngd.problems import beam

run = RunConfig(
    problem=beam(interior=256, boundary=32),
    network=MLP(hidden=(16, 16)),
    max_seconds=10,
    target_error=1e-10,
)
