"""Inverse conductivity: k(x) of −(k u_x)_x = f on [0,1] from 64 measurements of u; k = 1 + ½ cos 2πx.

Source: the conductivity problem of Calderón 1980 in one dimension, with the potential known inside. A
network for each of u and k; zero at the ends and k > 0 by the form of the fields. 256 fixed points, tanh
1-16-16-1 twice, P = 642.
"""

from sngd import MLP, RunConfig
from sngd.problems import inverse_conductivity

run = RunConfig(
    problem=inverse_conductivity(measurements=64, interior=256),
    network={"u": MLP(hidden=(16, 16)), "k": MLP(hidden=(16, 16))},
    max_steps=300,
    max_seconds=20,
    target_error=2e-9,
)
