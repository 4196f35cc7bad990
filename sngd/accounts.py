"""What a run has cost: traffic between ranks by label, memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sngd.traffic import Traffic

__all__ = ["Account", "added_since", "peak_bytes", "total"]

# label → calls, bytes, seconds, as history, result and checkpoint have it
Account = dict[str, dict[str, float]]


def added_since(before: Mapping[str, Traffic], traffic: Mapping[str, Traffic]) -> Account:
    """What was added to the traffic of one rank, as this rank saw it."""
    added = {what: total.since(before.get(what)) for what, total in traffic.items()}
    return {
        what: {"calls": t.calls, "bytes": t.bytes, "seconds": round(t.seconds, 6)}
        for what, t in added.items()
        if t != type(t)()
    }


def total(one: Account, other: Account) -> Account:
    """The sum of two accounts."""
    nothing = {"calls": 0, "bytes": 0, "seconds": 0.0}
    return {
        what: {key: one.get(what, nothing)[key] + other.get(what, nothing)[key] for key in nothing}
        for what in {**one, **other}
    }


def peak_bytes(device: torch.device) -> int:
    """Most memory this process held: on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the process that started this one held
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
