"""Heat equation, P = 1,048,431: u_t = u_xx/4 on [0,1]², as heat.py with a Gramian that would take 8.8 TB.

Source: as heat.py, with 1,024 + 256 fixed points and tanh 2-590-590-590-590-1. The subspace is spanned by
rows of J at random points; `--optimizer.subspace range_finder` sketches the Gramian, in twice the time.
"""

from sngd import MLP, SNGD, RunConfig
from sngd.problems import heat

run = RunConfig(
    problem=heat(interior=1024, initial=86, walls=170),
    network=MLP(hidden=(590, 590, 590, 590)),
    optimizer=SNGD(rank=32, max_rank=64, subspace="landmarks"),
    precision="mixed",
    max_steps=100,
    max_seconds=200,
    target_error=1e-3,
    evaluate_points=2000,
)
