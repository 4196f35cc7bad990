"""Fokker–Planck equation for q = log p: q_t = 9/2 + x·∇q/2 + ‖∇q‖² + Δq on [−5,5]^9 × [0,1].

The density starts as the standard normal one; q = log N(0, (2 − exp(−t)) I). Source: Dangel, Müller and
Zeinhofer, NeurIPS 2024 (arXiv 2405.15603). 3,000 + 1,000 points drawn anew before every step, softplus
10-64-64-1, P = 4,929; published runs have tanh 10-256-256-128-128-1, P = 118,145. A tanh network of a few
thousand parameters takes far longer to follow a logarithm that reaches −121.
"""

from sngd import MLP, RunConfig
from sngd.problems import log_fokker_planck

run = RunConfig(
    problem=log_fokker_planck(interior=3000, initial=1000),
    network=MLP(hidden=(64, 64), activation="softplus"),
    resample_every=1,
    max_seconds=300,
    target_error=1e-4,
)
