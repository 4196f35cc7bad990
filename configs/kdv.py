"""Korteweg–de Vries equation: u_t + u u_x + 0.0025 u_xxx = 0 on [−1,1]×[0,1], periodic, u(x,0) = cos πx.

Reference: spectral solution. Source: Zabusky and Kruskal 1965; Raissi, Perdikaris and Karniadakis 2019.
4,096 + 512 points drawn anew before every step, balanced losses, equation weighted by 0.01, SIREN
7-24-24-24-24-1, ω₀ = 4, on (t, cos kπx, sin kπx), k = 1, 2, 3, P = 2,017.
"""

from sngd import SIREN, RunConfig
from sngd.problems import kdv

run = RunConfig(
    problem=kdv(interior=4096, initial=512, weight=0.01),
    network=SIREN(hidden=(24, 24, 24, 24), omega=4, modes=3),
    balance=True,
    resample_every=1,
    max_seconds=300,
    target_error=7e-6,
)
