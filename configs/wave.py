"""Wave equation: u_tt = 4 u_xx on [0,1]², u = sin πx cos 2πt, held at both ends.

Source: standing waves of a string; wave(modes={1: 1.0, 4: 0.5}) is the pair of modes of arXiv 2007.14527.
2,048 + 256 + 256 fixed points, SIREN 2-30-30-30-1, ω₀ = 4, P = 1,981.
"""

from sngd import SIREN, RunConfig
from sngd.problems import wave

run = RunConfig(
    problem=wave(interior=2048, initial=256, walls=256),
    network=SIREN(hidden=(30, 30, 30), omega=4),
    max_seconds=90,
    target_error=2e-9,
)
