"""What a checkpoint costs a run at P = 10⁶: on the training thread, and in elapsed time.

Blocks of steps with a checkpoint after every one, after every tenth and without any take turns in one
process; a block with checkpoints is compared with the blocks without on both its sides. It ends when its last
checkpoint is on the disk, so that nothing is hidden behind its end. Beside it: the copy alone, the write
alone, and torch.save and torch.distributed.checkpoint.save of the same state.

What a run pays with a checkpoint every 300 s (the default) is not timed but computed: the seconds that one
adds to a block, over 300 s.

Run: taskset -c 0,1 python -m benchmarks.checkpoints
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed import checkpoint as dcp  # noqa: TID251

from benchmarks.results import write
from sngd import MLP, SNGD, Adam, RunConfig
from sngd.assembly import build_objective
from sngd.checkpoint import Checkpoint, copied
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.findings import Findings
from sngd.keeping import Keeper
from sngd.objective import Objective
from sngd.optimizers import Stepper
from sngd.problems import heat
from sngd.version import commit

DEVICE = torch.device("cpu")
CADENCES = (1, 10)  # steps between two checkpoints
DEFAULT_SECONDS = 300.0


def runs(width: int, points: int) -> dict[str, RunConfig]:
    """One run for each optimizer, of the same network."""
    problem = heat(points, points // 4, points // 4)
    optimizers = {"sngd": SNGD(rank=16, max_rank=16), "adam": Adam()}
    return {
        name: RunConfig(problem, MLP((width,) * 3), optimizer, checkpoint_seconds=1e9)
        for name, optimizer in optimizers.items()
    }


def begin(run: RunConfig) -> tuple[Objective, Stepper]:
    """A stepper after two steps."""
    network = build_network(run.problem, run.network, run.seed)
    objective = build_objective(run, network, LocalRanks(), DEVICE)
    state = objective.evaluate_new_points(network.initial.to(run.dtype))
    stepper = run.optimizer.start(objective, state, run.seed, run.problem.rows)
    for number in (1, 2):
        stepper.step(objective, number)
    return objective, stepper


def checkpoint_of(stepper: Stepper, step: int) -> Checkpoint:
    """Of a stepper's state, as the loop makes it."""
    state = stepper.state
    return Checkpoint(step, 0.0, 0, state.theta, state.losses, state.losses, stepper.save(), [], {}, 1, 0)


class Blocks:
    """Blocks of steps, with and without checkpoints.

    Args:
        run: says how.
        folder: for the checkpoints.
    """

    def __init__(self, run: RunConfig, folder: Path) -> None:
        self.objective, self.stepper = begin(run)
        self.keeper, self.number = Keeper(run, LocalRanks(), folder, Findings()), 2

    def seconds(self, steps: int, every: int | None) -> tuple[float, float, int]:
        """Elapsed seconds of a block, those of them spent in `keep`, and checkpoints written."""
        spent, written, began = 0.0, 0, time.perf_counter()
        for index in range(1, steps + 1):
            self.number += 1
            self.stepper.step(self.objective, self.number)
            written += len(self.keeper.finished())
            if every is not None and index % every == 0:
                before = time.perf_counter()
                written += len(self.keeper.finished(wait=True))
                self.keeper.keep(checkpoint_of(self.stepper, self.number), None)
                spent += time.perf_counter() - before
        written += len(self.keeper.finished(wait=True))
        self.keeper.check()
        return time.perf_counter() - began, spent, written


def paired(blocks: Blocks, steps: int, repeats: int) -> dict[str, Any]:
    """Medians over repeats of what checkpoints add to a block."""
    added: dict[int, list[dict[str, float]]] = {every: [] for every in CADENCES}
    plain = []
    for every in CADENCES:
        length = max(every, steps)
        plain.append(blocks.seconds(length, None)[0] / length)
        for _ in range(repeats):
            seconds, spent, written = blocks.seconds(length, every)
            plain.append(blocks.seconds(length, None)[0] / length)
            without = length * (plain[-2] + plain[-1]) / 2
            found = {
                "step_ms": 1e3 * seconds / length,
                "added_percent": 100 * (seconds / without - 1),
                "thread_percent": 100 * spent / without,
                "added_s_each": (seconds - without) / written,
            }
            added[every].append(found)
    result: dict[str, Any] = {"step_ms": 1e3 * statistics.median(plain), "repeats": repeats}
    for every, found in added.items():
        result[f"every_{every}"] = {key: statistics.median(one[key] for one in found) for key in found[0]}
    each = result[f"every_{CADENCES[-1]}"]["added_s_each"]
    result["every_300_s_percent"] = 100 * each / DEFAULT_SECONDS
    return result


def alone(stepper: Stepper, folder: Path, repeats: int) -> dict[str, float]:
    """Seconds of copy, write and load by themselves, and of torch's two ways; medians."""
    checkpoint = checkpoint_of(stepper, 1)
    plain, tensors = checkpoint.encoded()
    size = sum(x.numel() * x.element_size() for x in tensors.values() if isinstance(x, torch.Tensor))
    file, other = folder / "state.pt", folder / "dcp"

    def saved_synced() -> None:
        with file.open("wb") as stream:
            torch.save({"plain": plain, **tensors}, stream)
            stream.flush()
            os.fsync(stream.fileno())

    empty = {name: torch.empty_like(x) for name, x in tensors.items() if isinstance(x, torch.Tensor)}
    ways: dict[str, Callable[[], Any]] = {
        "copy_s": lambda: copied(tensors),
        "write_s": lambda: checkpoint.save(folder),
        "read_s": lambda: Checkpoint.load(folder),
        "torch_save_s": saved_synced,
        "torch_load_s": lambda: torch.load(file, weights_only=True),
        "dcp_save_s": lambda: dcp.save(dict(tensors), checkpoint_id=other),
        "dcp_load_s": lambda: dcp.load(dict(empty), checkpoint_id=other),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that nothing is distributed, and files overwritten
        for _ in range(repeats + 1):  # the first one loads code
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                found[name].append(time.perf_counter() - began)
    return {"bytes": size, **{name: statistics.median(seconds[1:]) for name, seconds in found.items()}}


def measure(run: RunConfig, budget: float, repeats: int) -> dict[str, Any]:
    """All figures of one run, within about so many seconds."""
    with tempfile.TemporaryDirectory(dir=".") as folder:  # where runs are: a disk, not memory
        blocks = Blocks(run, Path(folder))
        step = statistics.median(blocks.seconds(1, None)[0] for _ in range(3))
        count = 2 * repeats * len(CADENCES)
        steps = max(2, round(budget / count / step))
        found = {"parameters": blocks.stepper.state.theta.numel(), **paired(blocks, steps, repeats)}
        return {**found, **alone(blocks.stepper, Path(folder), repeats)}


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--width", type=int, default=706, help="of three hidden layers (default 706: P = 10⁶)"
    )
    parser.add_argument("--points", type=int, default=100, help="of the equation")
    parser.add_argument("--repeats", type=int, default=5, help="blocks of each kind")
    parser.add_argument("--seconds", type=float, default=40.0, help="of steps, for each optimizer, about")
    options = parser.parse_args()
    found = {}
    for name, run in runs(options.width, options.points).items():
        found[name] = measure(run, options.seconds, options.repeats)
        one = found[name]
        told = ", ".join(
            f"every {every}: {one[f'every_{every}']['added_percent']:+.1f} % "
            f"(keep {one[f'every_{every}']['thread_percent']:.1f} %)"
            for every in CADENCES
        )
        print(
            f"{name}: P={one['parameters']:,}, step {one['step_ms']:.0f} ms; {told}; every 300 s: "
            f"{one['every_300_s_percent']:.3f} %; copy {1e3 * one['copy_s']:.1f} ms, write "
            f"{1e3 * one['write_s']:.0f} ms, read {1e3 * one['read_s']:.0f} ms of "
            f"{one['bytes'] / 1e6:.1f} MB",
            flush=True,
        )
    print(f"written to {write('checkpoints', {'commit': commit(), 'runs': found})}")


if __name__ == "__main__":
    main()
