"""Small runs on any number of ranks, and what each rank saw of them."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

import numpy as np
import torch

from sngd import MLP, SNGD, RunConfig
from sngd.assembly import plan_memory
from sngd.basis import Block, make_blocks
from sngd.collectives import LocalRanks
from sngd.core import Core
from sngd.factors import make_panels, tile_numbers
from sngd.memory import Plan
from sngd.problems import burgers, heat, transport
from sngd.training import train
from sngd.watch import Watch
from tests.ranks.harness import Collect, run_ranks

CPU = torch.device("cpu")
STEPS = 5
SMALL = {"max_steps": STEPS, "evaluate_points": 200, "device": "cpu", "memory_gb": 0.5}
RANK = 24
# Tiles of a few rows, blocks of a few parameters: as many of them as in a large run.
_SMALL_TILES = {"sngd.factors._TILE_BYTES": 1 << 12, "sngd.core._TILE_ROWS": 30}
_SMALL_BLOCKS = {"sngd.memory._LEAST_BLOCK_BYTES": 1, **_SMALL_TILES}
PATCHES = {
    "sharded_blocks": _SMALL_BLOCKS,
    "replicated_blocks": _SMALL_BLOCKS,
    "recomputed": _SMALL_TILES,
    "chunks": _SMALL_TILES,
}


def runs() -> dict[str, RunConfig]:
    """All of them, by name."""
    small, network = heat(101, 13, 18), MLP((10, 10))
    fixed = {"rank": RANK, "max_rank": RANK}

    def of(optimizer: SNGD, **fields) -> RunConfig:
        return RunConfig(small, network, optimizer, **{**SMALL, **fields})

    return {
        "heat": of(SNGD(rank=RANK)),
        "burgers": RunConfig(burgers(0.05, 151, 31), MLP((8, 8)), SNGD(rank=RANK), balance=True, **SMALL),
        "transport": RunConfig(
            transport(3.0, 127, 29), MLP((9, 9)), SNGD(rank=20), resample_every=1, **SMALL
        ),
        "2001": RunConfig(heat(1501, 167, 333), MLP((8, 8)), SNGD(rank=RANK), **SMALL),
        "gaussian": of(SNGD(rank=RANK, test_matrix="gaussian", recycle=False)),
        "sharded": of(SNGD(rank=RANK, basis="sharded")),
        "sharded_blocks": of(SNGD(rank=RANK, basis="sharded")),
        "replicated": of(SNGD(rank=RANK, basis="replicated")),
        "replicated_blocks": of(SNGD(rank=RANK, basis="replicated")),
        "bounded": of(SNGD(**fixed)),
        "recomputed": of(SNGD(**fixed)),
        "chunks": of(SNGD(**fixed)),
        "wide": RunConfig(
            heat(60, 8, 8),
            MLP((90, 90)),
            SNGD(rank=12, adaptive_rank=False, recycle=False, basis="sharded"),
            **SMALL,
        ),
        "few": RunConfig(heat(60, 3, 2), MLP((8, 8)), SNGD(rank=16), **SMALL),
        "line_search": of(SNGD(rank=RANK, globalization="line_search", halvings=6)),
    }


def patched(name: str) -> ExitStack:
    """Sizes of tiles and blocks as the run wants them."""
    stack = ExitStack()
    for target, value in PATCHES.get(name, {}).items():
        stack.enter_context(patch(target, value))
    return stack


def run_of(name: str, size: int) -> RunConfig:
    """A run on so many ranks; with just as much memory as it takes where the name says so."""
    run = runs()[name]
    if name not in ("recomputed", "chunks"):
        return run
    network = run.network.build(run.problem.domain, 1, run.seed)
    budget = 20_000
    with patched(name):
        while True:
            budget = int(1.02 * budget)
            try:
                plan = plan_memory(run, network, size, CPU, budget)
            except ValueError:
                continue
            if plan.largest_rank(RANK) == RANK and (name == "recomputed" or plan.arrange(RANK).stored):
                return dataclasses.replace(run, memory_gb=budget / 1e9)


def plan_of(name: str, size: int) -> Plan:
    """The memory plan of a run on so many ranks."""
    run = run_of(name, size)
    network = run.network.build(run.problem.domain, 1, run.seed)
    assert run.memory_gb is not None
    with patched(name):
        return plan_memory(run, network, size, CPU, int(run.memory_gb * 1e9))


def blocks_of(name: str, rank: int, size: int) -> list[Block]:
    """Blocks of parameters of a step of some rank k."""
    run = runs()[name]
    network = run.network.build(run.problem.domain, 1, run.seed)
    with patched(name):
        panels = make_panels(network, tile_numbers(torch.float64, CPU))
        return make_blocks(panels, plan_of(name, size).arrange(rank, run.optimizer.basis).block, size)


@dataclass
class Followed:
    """One rank's view of a run; records on rank 0 only.

    Args:
        records: lines of the history.
        theta: final parameters.
        projections: calls of Core.project per step.
        payloads: (label, numbers, bytes) per step; what came before the first step stands first.
        result: of the run.
    """

    records: list
    theta: torch.Tensor
    projections: list
    payloads: list
    result: dict


def _follow(ranks, name: str) -> Followed:
    hook, calls, projections, payloads = Collect(), [], [], []
    project, after = Core.project, Watch.after

    def counted(core, *arguments):
        calls.append(1)
        return project(core, *arguments)

    def noted(*arguments):  # the last exchange of a step
        after(*arguments)
        projections.append(len(calls))
        payloads.append(list(getattr(ranks, "payloads", ())))

    with patched(name), patch.object(Core, "project", counted), patch.object(Watch, "after", noted):
        trained = train(run_of(name, ranks.size), ranks, CPU, hooks=[hook])
    per_step = np.diff([0, *projections]).tolist()
    return Followed(hook.records, trained.theta, per_step, payloads, trained.result)


@cache
def followed(name: str, size: int) -> list[Followed]:
    """A run on so many ranks, as each of them saw it."""
    return [_follow(LocalRanks(), name)] if size == 1 else run_ranks(size, _follow, name)


def losses(name: str, size: int) -> list[float]:
    """The loss after every step."""
    return [record["loss"] for record in followed(name, size)[0].records]
