"""Gray–Scott: u_t = u_xx/50 + 4(1−u) − 100uv², v_t = v_xx/100 − 10v + 100uv² on [−1,1]×[0,1], periodic.

Source: Pearson 1993; coefficients of our own. 3,072 + 512 points drawn anew before every tenth step, tanh
7-24-24-24-2, P = 1,442.
"""

from sngd import MLP, RunConfig
from sngd.problems import gray_scott

run = RunConfig(
    problem=gray_scott(interior=3072, initial=512),
    network=MLP(hidden=(24, 24, 24), modes=3),
    resample_every=10,
    balance=True,
    max_seconds=120,
    target_error=1e-6,
)
