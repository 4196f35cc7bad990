"""Helmholtz equation: −Δu − u = f on [−1,1]², u = sin πx sin 4πy, zero on the boundary.

Source: Wang, Teng and Perdikaris 2021 (arXiv 2001.04536). 2,048 + 512 fixed points, boundary weighted by 100,
SIREN 2-30-30-30-1, ω₀ = 4, P = 1,981.
"""

from sngd import SIREN, RunConfig
from sngd.problems import helmholtz

run = RunConfig(
    problem=helmholtz(interior=2048, boundary=512, boundary_weight=100),
    network=SIREN(hidden=(30, 30, 30), omega=4),
    max_seconds=90,
    target_error=2e-9,
)
