"""How long collectives take by themselves: what the model of the network is fitted to.

`python -m sngd.bench.probe RATE LINES`, started on every rank, appends to LINES one JSON line for each kind
and size: {"kind", "ranks", "bytes", "seconds"}. Seconds are the slowest rank's, in the median of repetitions;
RATE is what the link carries, bytes per second.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from sngd.collectives import connect
from sngd.interconnect import Kind
from sngd.launcher import detect
from sngd.ranks import Ranks

__all__ = ["main", "sizes"]

SMALL, LARGEST = 64, 64 * 2**20
# Sizes whose bytes take longer than this on the link are left out; a kind and size is repeated for so long.
_LONGEST_SECONDS, _SECONDS = 0.5, 0.25
_LEAST, _MOST = 3, 30
_WARM_UP = 2


def sizes(bytes_per_second: float) -> list[int]:
    """Bytes of the larger buffer: 64 B, then 1 MB to 64 MB by fours as far as the link is fast enough."""
    found = [SMALL]
    size = 2**20
    while size <= LARGEST and size / bytes_per_second <= _LONGEST_SECONDS:
        found.append(size)
        size *= 4
    return found


def _calls(ranks: Ranks, size: int) -> dict[Kind, Callable[[], Any]]:
    whole = torch.zeros(size // 8 // ranks.size * ranks.size, dtype=torch.float64)
    share = whole[: len(whole) // ranks.size].clone()
    return {
        "all-reduce": lambda: ranks.sum(whole, "probe"),
        "reduce-scatter": lambda: ranks.start_scatter_sum(whole, "probe").wait(),
        "all-gather": lambda: ranks.start_gather(share, "probe").wait(),
    }


def _measure(ranks: Ranks, call: Callable[[], Any]) -> float:
    """Median over repetitions of the slowest rank's seconds."""
    for _ in range(_WARM_UP):
        call()
    once = _slowest(ranks, [_timed(ranks, call)])[0]
    count = max(_LEAST, min(_MOST, int(_SECONDS / once)))
    return statistics.median(_slowest(ranks, [_timed(ranks, call) for _ in range(count)]))


def _timed(ranks: Ranks, call: Callable[[], Any]) -> float:
    ranks.sum(torch.zeros(1), "probe")  # everyone is here
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _slowest(ranks: Ranks, seconds: Sequence[float]) -> list[float]:
    return ranks.gather(torch.tensor(seconds, dtype=torch.float64), "probe").amax(0).tolist()


def main(arguments: Sequence[str]) -> int:
    """Measure every kind at every size."""
    rate, path = float(arguments[0]), Path(arguments[1])
    torch.set_num_threads(1)
    ranks = connect(torch.device("cpu"), detect(os.environ))
    try:
        for size in sizes(rate):
            for kind, call in _calls(ranks, size).items():
                seconds = _measure(ranks, call)
                if ranks.rank == 0:
                    line = {"kind": kind, "ranks": ranks.size, "bytes": size, "seconds": seconds}
                    with path.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(line) + "\n")
    finally:
        ranks.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
