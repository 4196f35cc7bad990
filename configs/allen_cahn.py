"""Allen–Cahn equation: u_t = 1e-4 u_xx + 5 (u − u³) on [−1,1]×[0,1], periodic, u(x,0) = x² cos πx.

Reference: spectral solution. Source: Raissi, Perdikaris and Karniadakis 2019. The start has a kink at x = ±1,
whose evolution under diffusion is known: the network is the rest, even in x. 3,072 + 256 points drawn anew
before every step, balanced losses, equation weighted by 0.01, tanh 4-24-24-24-24-1 on (t, cos kπx),
k = 1, 2, 3, P = 1,945.
"""

from sngd import MLP, RunConfig
from sngd.problems import allen_cahn

run = RunConfig(
    problem=allen_cahn(interior=3072, initial=256, weight=0.01, subtract_kink=True),
    network=MLP(hidden=(24, 24, 24, 24), modes=3),
    balance=True,
    resample_every=1,
    max_seconds=120,
    target_error=3e-6,
)
