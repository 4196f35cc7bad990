"""Schrödinger equation: i h_t + h_xx/2 + |h|² h = 0 on [−5,5]×[0,π/2], periodic, h(x,0) = Σ 2 sech(x − 10 m).

Reference: spectral solution. Source: Raissi, Perdikaris and Karniadakis 2019, whose start has a kink at the
seam. 6,144 + 512 points drawn anew before every step, balanced losses, equation weighted by 0.01, even SIREN
4-24-24-24-2, ω₀ = 4, on (t, cos kπx/5), k = 1, 2, 3, P = 1,370.
"""

from sngd import SIREN, RunConfig
from sngd.problems import schroedinger

run = RunConfig(
    problem=schroedinger(interior=6144, initial=512, weight=0.01),
    network=SIREN(hidden=(24, 24, 24), omega=4, modes=3),
    balance=True,
    resample_every=1,
    max_seconds=400,
    target_error=7e-6,
)
