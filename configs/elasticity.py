"""Linear elasticity: div σ + f = 0 on [0,1]², plane strain, displacement (cos 2πx sin πy, y⁴ sin πx).

Source: Haghighat et al. 2021 (arXiv 2003.02751). 2,048 + 512 fixed points, SIREN 2-24-24-24-2, P = 1,322.
"""

from sngd import SIREN, RunConfig
from sngd.problems import elasticity

run = RunConfig(
    problem=elasticity(interior=2048, boundary=512),
    network=SIREN(hidden=(24, 24, 24), omega=4),
    max_seconds=60,
    target_error=1e-8,
)
