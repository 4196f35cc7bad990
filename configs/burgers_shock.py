"""Burgers' equation with a shock: u_t + u u_x = (0.01/π) u_xx on [−1,1]×[0,1], periodic, u(x,0) = −sin πx.

Solution: Cole–Hopf transformation. Source: Basdevant et al. 1986; Raissi, Perdikaris and Karniadakis 2019.
16,384 + 1,024 points drawn anew before every step (on fixed ones the layer is fitted at the points alone),
balanced losses, equation weighted by 0.01, tanh 7-24-24-24-24-1 on (t, cos kπx, sin kπx), k = 1, 2, 3,
P = 2,017.
"""

from math import pi

from sngd import MLP, RunConfig
from sngd.problems import burgers

run = RunConfig(
    problem=burgers(viscosity=0.01 / pi, interior=16_384, initial=1024, weight=0.01),
    network=MLP(hidden=(24, 24, 24, 24), modes=3),
    balance=True,
    resample_every=1,
    max_seconds=300,
    target_error=3e-7,
)
