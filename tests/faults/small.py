"""A small run on unequal shards; environment variables put faults into its residual."""

import os
import time
from pathlib import Path

import torch

from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d

RANK = int(os.environ.get("RANK", "0"))
# "1:nan:PATH": rank 1's residual is NaN once the file exists; "raise" for an error
VICTIM, FAULT, TRIGGER = (os.environ.get("FAULT_IN_RESIDUAL", "-1::") + "::").split(":")[:3]
SLOW = float(os.environ.get("SLOW", "0"))  # seconds

domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes


def faulty() -> bool:
    return int(VICTIM) == RANK and Path(TRIGGER).exists()


def equation(u, p):
    time.sleep(SLOW)
    if faulty() and FAULT == "raise":
        raise ZeroDivisionError("on purpose")
    r = d(u, T) - 0.1 * d(u, X, X)
    return r * float("nan") if faulty() else r


def wave(p):
    return torch.sin(torch.pi * p[X].value) * torch.exp(-0.1 * torch.pi**2 * p[T].value)


problem = Problem(
    domain,
    [
        Condition("equation", equation, domain.interior, points=61),
        Condition("initial", lambda u, p: u - torch.sin(torch.pi * p[X]), domain.face(t=0), points=13),
        Condition("walls", lambda u, p: u, domain.boundary("x"), points=9),
    ],
    solution=wave,
    name="small",
)
run = RunConfig(
    problem,
    MLP((6, 6)),
    SNGD(rank=12, max_rank=12),
    max_steps=30,
    evaluate_points=50,
    evaluate_every=10,
    device="cpu",
    memory_gb=0.2,
    pictures=False,
    checkpoint_seconds=1e-3,
)
