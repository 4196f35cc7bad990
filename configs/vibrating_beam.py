"""Vibrating beam: u_tt + u_xxxx = f on [0,π]×[0,1], simply supported; u = sin x cos 4πt.

Source: Kapoor et al. 2023 (arXiv 2303.01055). 2,048 + 512 + 512 fixed points, SIREN 2-24-24-24-1, P = 1,297.
"""

from sngd import SIREN, RunConfig
from sngd.problems import vibrating_beam

run = RunConfig(
    problem=vibrating_beam(interior=2048, initial=512, walls=512),
    network=SIREN(hidden=(24, 24, 24), omega=4),
    max_seconds=60,
    target_error=1e-8,
)
