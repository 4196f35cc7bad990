"""How much of the Jacobian is kept and how many points go through the network at once.

Letters
    P        parameters; n rows on this rank; C Taylor channels
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from sngd.jacobian import Keep
from sngd.residual import Collocation

__all__ = ["Plan", "available_bytes", "make_plan"]

# Shares of the budget: rows or factors that are kept, and one chunk in flight.
_KEPT_SHARE = 0.5
_CHUNK_SHARE = 0.125
# What one chunk holds beside its rows, in units of its factors: derivatives, cotangents, temporaries.
_TEMPORARIES = 4


@dataclass(frozen=True)
class Plan:
    """A memory plan.

    Args:
        keep: what a step keeps of the Jacobian between its two passes.
        chunk: points per network evaluation, None for whole batches.
        budget: bytes it was made for.
    """

    keep: Keep
    chunk: int | None
    budget: int


def make_plan(collocation: Collocation, itemsize: int, budget: int) -> Plan:
    """Choose what to keep so that rows, factors and temporaries stay within the budget.

    Args:
        collocation: this rank's points.
        itemsize: bytes of a number.
        budget: bytes.

    Raises:
        ValueError: not even the rows of one point fit.
    """
    network = collocation.network
    widths = sum(o + i for o, i in network.shapes)
    row = max(b.components for b in collocation.batches) * network.parameters * itemsize
    factors = max(len(b.rules.channels) * b.components for b in collocation.batches) * widths * itemsize
    per_point = row + _TEMPORARIES * factors
    points = sum(len(b.points) for b in collocation.batches)
    if per_point > budget:
        raise ValueError(
            f"a memory budget of {budget:,} bytes is below the {per_point:,} bytes that one point "
            f"needs with P={network.parameters:,}; raise memory_gb"
        )
    if points * per_point <= _KEPT_SHARE * budget:
        return Plan("factors", None, budget)
    chunk = max(1, int(_CHUNK_SHARE * budget / per_point))
    keep: Keep = "factors" if points * 2 * factors <= _KEPT_SHARE * budget else "nothing"
    return Plan(keep, chunk, budget)


def available_bytes(device: torch.device) -> int:
    """Free memory of the device, or of the machine within the limit of its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return max(free, 0)
