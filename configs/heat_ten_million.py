"""Heat equation, P = 10,004,651: u_t = u_xx/4 on [0,1]², a few steps to show that they fit.

Source: Müller and Zeinhofer, ICML 2023 (equation); widths and points are our own.
"""

from sngd import MLP, SNGD, RunConfig
from sngd.problems import heat

run = RunConfig(
    problem=heat(interior=512, initial=43, walls=85),
    network=MLP(hidden=(1825, 1825, 1825, 1825)),
    optimizer=SNGD(rank=32, max_rank=64),
    precision="mixed",
    max_steps=5,
    target_error=1e-3,
    evaluate_points=2000,
)
