"""From a run to its objective on one rank: points, memory, network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sngd.config import RunConfig
from sngd.domain import share
from sngd.memory import Plan, make_plan
from sngd.modules import given_as_instance
from sngd.networks import AnyNetwork
from sngd.objective import Objective
from sngd.residual import Collocation
from sngd.sizes import Sizes, available_bytes

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["build_objective", "draw_points", "own_budget", "plan_memory"]

_MEMORY_SHARE = 0.5


def draw_points(
    run: RunConfig, step: int, ranks: Ranks, device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """This rank's collocation points of every condition for the step that begins, (n_c, d) each.

    Of the N_c points of condition c, rank ϱ of R owns indices ⌊N_c ϱ/R⌋ … ⌊N_c (ϱ+1)/R⌋ − 1.
    """
    epoch = (step - 1) // run.resample_every if run.resample_every else 0
    points = []
    for number, condition in enumerate(run.problem.conditions):
        start, stop = share(condition.points, ranks.rank, ranks.size)
        key = (run.seed, epoch, number)
        drawn = condition.region.sample(start, stop, key, condition.sampling, device, total=condition.points)
        points.append(drawn.to(dtype))
    return points


def build_objective(
    run: RunConfig,
    network: AnyNetwork,
    ranks: Ranks,
    device: torch.device,
    step: int = 1,
    planned: int | None = None,
) -> Objective:
    """The loss of a run on this rank's points, with a memory plan made for it.

    Args:
        run: what to do.
        network: the one that is trained.
        ranks: who computes together.
        device: where.
        step: that begins.
        planned: budget in bytes that an earlier start of this run planned with on as many ranks; kept as long
            as that much is free.

    Raises:
        ValueError: ranks start from different parameters, or a step does not fit into memory.
    """
    if ranks.size > 1 and given_as_instance(run.network):
        _check_start(network, ranks, device)
    conditions = run.problem.conditions
    weights = torch.tensor([c.weight for c in conditions], dtype=run.dtype, device=device)
    points = draw_points(run, step, ranks, device, run.dtype)
    collocation = Collocation(run.problem, network.to(run.dtype, device), points, weights)
    budget = own_budget(run, ranks.size, device)
    if run.memory_gb is None:  # the rank that has least decides, so that all make the same plan
        budget = int(ranks.gather(torch.tensor(budget, device=device), "control").min())
        if planned is not None and planned * _MEMORY_SHARE <= budget:
            budget = planned
    plan = plan_memory(run, network, ranks.size, device, budget)
    return Objective(collocation, ranks, plan, run.sketch_dtype)


def _check_start(network: AnyNetwork, ranks: Ranks, device: torch.device) -> None:
    """Refuse initial parameters that are not the same on every rank.

    Raises:
        ValueError: they differ.
    """
    start = network.initial.to(device)
    marks = ranks.gather(torch.stack([start.sum(), start.norm()]), "control")
    if not bool((marks == marks[0]).all()):
        raise ValueError(
            f"network {network!r} starts from other parameters on every rank: call torch.manual_seed before "
            "the config file makes the module, or give a function that makes it, Module(function)"
        )


def plan_memory(run: RunConfig, network: AnyNetwork, size: int, device: torch.device, budget: int) -> Plan:
    """The memory plan of a run on so many ranks, each with a budget in bytes.

    Raises:
        ValueError: it does not fit.
    """
    return make_plan(Sizes.of(run.problem, network, size, run.dtype, run.sketch_dtype, device), budget)


def own_budget(run: RunConfig, size: int, device: torch.device) -> int:
    """Bytes that one of so many ranks on this machine may take."""
    if run.memory_gb is not None:
        return int(run.memory_gb * 1e9)
    return int(_MEMORY_SHARE * available_bytes(device, size))
