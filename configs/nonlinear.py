"""Nonlinear boundary-value problem: −u″ + u³ = f on [−1,1], u = cos πx, so that u′(±1) = 0.

Source: E and Yu 2018 (nonlinear energy), Müller and Zeinhofer, ICML 2023.
"""

from sngd import MLP, RunConfig
from sngd.problems import nonlinear

run = RunConfig(
    problem=nonlinear(interior=512, boundary=64),
    network=MLP(hidden=(24, 24, 24)),
    max_seconds=20,
    target_error=1e-10,
)
