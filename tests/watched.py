"""Short runs with looks at fresh points."""

from types import SimpleNamespace

import torch

from sngd import (
    MLP,
    SNGD,
    Box,
    Condition,
    Problem,
    RunConfig,
)
from sngd.assembly import build_objective
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.problems import heat, poisson2d
from sngd.training import train

CPU = torch.device("cpu")
SMALL = {"evaluate_points": 50, "device": "cpu", "memory_gb": 0.5}


def run_of(problem=None, **changes) -> RunConfig:
    fields = {"max_steps": 7, "holdout_every": 3, "holdout_points": 150, **SMALL}
    run = {"problem": problem or heat(80, 12, 16), "network": MLP((8, 8)), "optimizer": SNGD(rank=24)}
    return RunConfig(**{**run, **fields, **changes})


def few_points(**changes) -> RunConfig:
    """A network with far more parameters than the points that it is trained on."""
    fields = {"network": MLP((20, 20)), "max_steps": 12, "holdout_every": 4}
    return run_of(poisson2d(12, 8), **{**fields, **changes})


def records_of(run, ranks=None):
    records, results = [], []
    hook = SimpleNamespace(
        start=lambda info: None, step=records.append, saved=lambda path, step: None, end=results.append
    )
    trained = train(run, ranks or LocalRanks(), CPU, hooks=[hook])
    return trained, records, (results or [None])[0]


def objective_of(run, ranks=None):
    network = build_network(run.problem, run.network, run.seed)
    return build_objective(run, network, ranks or LocalRanks(), CPU), network.initial


def on_a_line(residual, region=None, points=20, **more) -> Problem:
    """One condition on x in (0, 1)."""
    domain = Box(x=(0, 1))
    where = domain.interior if region is None else region(domain)
    return Problem(
        domain, [Condition("equation", lambda u, p: residual(u, p, domain.axes[0]), where, points)], **more
    )
