"""Heat equation: u_t = u_xx/4 on [0,1]², u = exp(−π²t/4) sin πx, with initial and wall conditions.

Source: Müller and Zeinhofer, ICML 2023 (equation); 1,200 + 240 fixed points, tanh 2-24-24-24-1.
"""

from sngd import MLP, RunConfig
from sngd.problems import heat

run = RunConfig(
    problem=heat(interior=1200, initial=80, walls=160),
    network=MLP(hidden=(24, 24, 24)),
    max_seconds=20,
    target_error=1e-9,
)
