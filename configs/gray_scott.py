"""Gray–Scott: u_t = u_xx/50 + 4(1−u) − 100uv², v_t = v_xx/100 − 10v + 100uv² on [−1,1]×[0,1], periodic.

Reference: spectral solution. Source: Pearson 1993; coefficients of our own. Six slabs of time, each network
starting from the one before: one network for all times ends at a wrong solution with a small loss. 2,048 +
256 points drawn anew before every step, SIREN 7-20-20-20-2, ω₀ = 4, P = 1,042 a slab.
"""

from sngd import SIREN, Marching, RunConfig
from sngd.problems import gray_scott

run = RunConfig(
    problem=gray_scott(interior=2048, initial=256, weight=0.01),
    network=SIREN(hidden=(20, 20, 20), omega=4, modes=3),
    marching=Marching(slabs=6, network="warm"),
    balance=True,
    resample_every=1,
    max_steps=2000,
    max_seconds=90,
    target_error=1e-6,
)
