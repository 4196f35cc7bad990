"""Burgers' equation: u_t + u u_x = 0.01 u_xx on [−1,1]×[0,1], periodic, u(x,0) = −sin πx.

Solution: Cole–Hopf transformation. Source: Basdevant et al. 1986. 8,192 + 2,048 fixed points, balanced
losses, equation weighted by 0.01, tanh 3-20-20-20-20-1 on the embedding (t, cos πx, sin πx), P = 1,361.
"""

from sngd import MLP, RunConfig
from sngd.problems import burgers

run = RunConfig(
    problem=burgers(viscosity=0.01, interior=8192, initial=2048, weight=0.01),
    network=MLP(hidden=(20, 20, 20, 20)),
    balance=True,
    max_seconds=80,
    target_error=1e-8,
)
