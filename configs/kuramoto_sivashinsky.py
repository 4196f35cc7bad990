"""Kuramoto–Sivashinsky: u_t + 6.25 u u_x + 0.39 u_xx + 0.0015 u_xxxx = 0 on [0,2π]×[0,0.4], periodic.

Source: Wang, Sankaran and Perdikaris 2022 (arXiv 2203.07404), u(x,0) = cos x (1 + sin x). 6,144 + 1,024
points drawn anew before every tenth step, equation weighted by 0.01, tanh 7-32-32-32-32-1, P = 3,457.
"""

from sngd import MLP, RunConfig
from sngd.problems import kuramoto_sivashinsky

run = RunConfig(
    problem=kuramoto_sivashinsky(interior=6144, initial=1024),
    network=MLP(hidden=(32, 32, 32, 32), modes=3),
    resample_every=10,
    balance=True,
    max_seconds=180,
    target_error=1e-5,
)
