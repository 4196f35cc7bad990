"""One job in a process of its own, so that its peak of memory and its threads are its own.

`python -m sngd.bench.worker JOB LINES` reads JOB, a spec and a number of ranks as JSON, and appends to LINES:

    {"start": …}                                   before the first step
    {"row": [seconds, step, error, loss]}          after every step
    {"note": …}                                    what a step wants readers of a log to know
    {"pace": {"seconds", "cpu_seconds", …}}        of a typical step, before the end
    {"end": …}                                     result.json's content
    {"failure": "error" | "out of memory", "message": …}

What stands there when the process is killed is kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sngd.bench.definition import build
from sngd.collectives import connect
from sngd.config import RunConfig
from sngd.devices import pick_device
from sngd.launcher import detect
from sngd.local_ranks import start_local_ranks
from sngd.loop import clock
from sngd.ranks import Ranks
from sngd.training import train

__all__ = ["main"]

FAILED = 3
_SETTLING_STEPS = 2  # the first steps allocate, and try dampings that later ones know


class Lines:
    """A file of JSON lines that several ranks may append to; a hook of the training loop.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self.setup: dict[str, Any] = {}
        self._steps: list[dict[str, Any]] = []
        self._cpu = time.process_time()

    def write(self, kind: str, value: Any, **more: Any) -> None:
        """One line."""
        self._file.write(json.dumps({kind: value, **more}) + "\n")

    def start(self, info: dict[str, Any]) -> None:
        """What runs, and how long it took to get there."""
        kept = ("name", "parameters", "points", "world_size", "device", "dtype")
        self.write("start", {**self.setup, **{key: info[key] for key in kept}})

    def step(self, record: dict[str, Any]) -> None:
        """One row."""
        values = (record[key] for key in ("seconds", "step", "relative_l2", "loss"))
        self.write("row", [_finite(value) for value in values])
        if note := record.get("note"):
            self.write("note", note)
        before, self._cpu = self._cpu, time.process_time()
        if record["step"] > _SETTLING_STEPS:
            kept = {key: record[key] for key in ("step_seconds", "evaluations", "traffic")}
            self._steps.append({**kept, "cpu_seconds": self._cpu - before})

    def saved(self, path: Path, step: int) -> None:
        """Nothing."""

    def end(self, result: dict[str, Any]) -> None:
        """What steps took, and how it ended."""
        if self._steps:
            self.write("pace", _pace(self._steps))
        kept = ("relative_l2", "loss", "steps", "seconds", "peak_memory_bytes", "stop_reason")
        self.write("end", {key: _finite(result[key]) for key in kept})


def _pace(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of steps: median seconds, seconds of a processor and evaluations; traffic by label in the mean."""
    labels = dict.fromkeys(label for step in steps for label in step["traffic"])
    counts = ("calls", "bytes", "seconds")
    traffic = {
        label: {
            count: sum(step["traffic"].get(label, {}).get(count, 0) for step in steps) / len(steps)
            for count in counts
        }
        for label in labels
    }
    typical = {
        key: statistics.median(step[name] for step in steps)
        for key, name in (
            ("seconds", "step_seconds"),
            ("cpu_seconds", "cpu_seconds"),
            ("evaluations", "evaluations"),
        )
    }
    return {**typical, "steps": len(steps), "traffic": traffic}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(arguments: Sequence[str]) -> int:
    """Run a job, or start its ranks; 0 on success, 3 for a failure that LINES tells of."""
    job, path = json.loads(Path(arguments[0]).read_text()), Path(arguments[1])
    if job["ranks"] > 1 and "RANK" not in os.environ:
        where = {key: job[key] for key in ("prefixes", "variables") if key in job}
        return start_local_ranks(job["ranks"], list(arguments), module="sngd.bench.worker", **where)
    lines = Lines(path)
    try:
        launch = detect(os.environ)
        run = build(job["spec"])
        device = pick_device(run.device, launch)
        ranks = connect(device, launch)
        try:
            lines.setup = {"warmup_seconds": _warm_up(run, ranks, device)}
            train(run, ranks, device, hooks=[lines])
        finally:
            ranks.close()
    except Exception as error:  # whatever it is, it is this run's result
        lines.write("failure", _kind(error), message=f"{type(error).__name__}: {error}")
        return FAILED
    return 0


def _kind(error: Exception) -> str:
    full = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
    return "out of memory" if full else "error"


def _warm_up(run: RunConfig, ranks: Ranks, device: torch.device) -> float:
    """Seconds of one step on a GPU that nobody counts: it loads libraries and compiles kernels."""
    if device.type != "cuda":
        return 0.0
    began = time.perf_counter()
    train(dataclasses.replace(run, max_steps=1), ranks, device)
    seconds = clock(device) - began
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
