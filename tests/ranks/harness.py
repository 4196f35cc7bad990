"""R processes that run the same function on a gloo group, with a limit on how long they may take.

    results = run_ranks(4, work, argument)        # work(ranks, argument) on every rank, results in order

`work` and its arguments must be picklable, so that the harness also works where processes cannot be forked.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sngd.collectives import TorchRanks
from sngd.tracking import Values, Writer

HANG_SECONDS = 60.0
# CUDA and autograd's device threads do not survive a fork.
_START = "spawn" if torch.cuda.is_available() else "fork"


class HangError(AssertionError):
    """Ranks that did not end in time."""


class RanksError(AssertionError):
    """At least one rank raised; the text holds every rank's traceback."""


@dataclass(frozen=True)
class Failure:
    """What a rank raised."""

    kind: str
    message: str
    trace: str


class RecordingRanks(TorchRanks):
    """Ranks that note every payload: (label, numbers, bytes), a broadcast under its own name."""

    def __init__(self) -> None:
        super().__init__()
        self.payloads: list[tuple[str, int, int]] = []

    def _count(self, what: str, larger: torch.Tensor) -> None:
        self.payloads.append((what, larger.numel(), larger.numel() * larger.element_size()))
        super()._count(what, larger)

    def broadcast(self, x: Any) -> Any:
        self.payloads.append(("broadcast", 0, len(pickle.dumps(x))))
        return super().broadcast(x)


class Collect(Writer):
    """A hook that keeps the records of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Values] = []

    def step(self, record: Values) -> None:
        self.records.append(record)


def _rank(rank: int, size: int, folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=HANG_SECONDS),
    )
    dist.barrier()  # a rank that fails at once would otherwise leave while others still connect
    ranks = RecordingRanks()
    try:
        outcome: Any = work(ranks, *arguments)
    except Exception as error:
        outcome = Failure(type(error).__name__, str(error), traceback.format_exc())
    with open(f"{folder}/{rank}.pickle", "wb") as stream:
        pickle.dump(outcome, stream)
    # A rank that leaves early would break the others' connections before they have said what they think.
    if not isinstance(outcome, Failure):
        ranks.close()


def run_ranks(
    size: int, work: Callable[..., Any], *arguments: Any, fail: bool = True, seconds: float = HANG_SECONDS
) -> list[Any]:
    """work(ranks, *arguments) on every one of `size` ranks.

    Args:
        size: R.
        work: a function of a module.
        arguments: picklable.
        fail: raise `RanksError` when a rank raises; otherwise its result is a `Failure`.
        seconds: after which all ranks are killed.

    Raises:
        HangError: some ranks were still running.
        RanksError: see fail.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = mp.start_processes(
            _rank, (size, folder, work, arguments), nprocs=size, join=False, start_method=_START
        )
        deadline = time.monotonic() + seconds
        while any(process.is_alive() for process in context.processes):
            if time.monotonic() > deadline:
                stuck = [r for r, process in enumerate(context.processes) if process.is_alive()]
                for process in context.processes:
                    process.kill()
                raise HangError(f"ranks {stuck} of {size} still ran after {seconds:g} s and were killed")
            time.sleep(0.005)
        for process in context.processes:
            process.join()
        results: list[Any] = []
        for rank, process in enumerate(context.processes):
            path = Path(folder) / f"{rank}.pickle"
            if path.exists():
                results.append(pickle.loads(path.read_bytes()))
            else:
                results.append(Failure("Died", f"rank {rank} ended with exit code {process.exitcode}", ""))
    failures = [f"rank {r}: {x.message}\n{x.trace}" for r, x in enumerate(results) if isinstance(x, Failure)]
    if failures and fail:
        raise RanksError("\n".join(failures))
    return results
