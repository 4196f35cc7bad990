"""Kuramoto–Sivashinsky: u_t + 6.25 u u_x + 0.39 u_xx + 0.0015 u_xxxx = 0 on [0,2π]×[0,0.4], periodic.

Reference: spectral solution. Source: Wang, Sankaran and Perdikaris 2022 (arXiv 2203.07404), u(x,0) =
cos x (1 + sin x). Five slabs of time, each network starting from the one before. 2,048 + 256 points drawn
anew before every step, SIREN 7-24-24-24-1, ω₀ = 4, P = 1,417 a slab.
"""

from sngd import SIREN, Marching, RunConfig
from sngd.problems import kuramoto_sivashinsky

run = RunConfig(
    problem=kuramoto_sivashinsky(interior=2048, initial=256, weight=0.01),
    network=SIREN(hidden=(24, 24, 24), omega=4, modes=3),
    marching=Marching(slabs=5, network="warm"),
    balance=True,
    resample_every=1,
    max_steps=2000,
    max_seconds=150,
    target_error=1e-6,
)
