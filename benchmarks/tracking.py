"""What following a run costs: on the training thread, in all threads, and as a share of a step.

Two ways, for a shared machine is no quiet one:

- apart: records are handed over 50 times a second, without training. The processor time that this process
  takes for a record in all its threads is what a step pays at most. That of its children (W&B's) is told
  beside it: they run at idle priority, and training does not pay it.
- in pairs: the same step is taken over and over from a copy of one state, and blocks of steps with and
  without the hook take turns. The first third of a block does not count, since trackers work for up to a
  second after a record. Processor time of this process again, and elapsed time.

W&B writes offline.

Run: taskset -c 1 python -m benchmarks.tracking
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import io
import os
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import write
from sngd.assembly import build_objective
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.config import RunConfig, describe
from sngd.config_files import load_source
from sngd.tracking import Console, HistoryFile, SystemFigures, TensorBoard, Tracking, WeightsAndBiases, Writer
from sngd.training import train

CONFIGS = ("heat", "nonlinear")  # the README's; the one with the shortest step
WARM_STEPS = 20
PACE = 0.02  # seconds between two records
DEVICE = torch.device("cpu")
WITHOUT = "nothing"  # pairs of equal blocks: what the measure itself scatters


class _Last(Writer):
    record: dict[str, Any]

    def step(self, record: Any) -> None:
        self.record = dict(record)


class _System(Writer):
    def __init__(self) -> None:
        super().__init__()
        self.figures = SystemFigures(DEVICE)

    def step(self, record: Any) -> None:
        self.figures.sample()


def hooks(folder: Path) -> dict[str, Callable[[], Writer]]:
    """The hooks to be measured, each with a folder of its own."""

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    return {
        WITHOUT: Writer,
        "history": lambda: HistoryFile(place("history") / "history.jsonl"),
        "console": lambda: Console(file=io.StringIO()),
        "system": _System,
        "wandb": lambda: WeightsAndBiases(Tracking(), place("wandb"), "offline", lambda line: None),
        "tensorboard": lambda: TensorBoard(place("tensorboard")),
    }


def repeated_step(run: RunConfig) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A step that always does the same, and the record of one."""
    last = _Last()
    train(run, LocalRanks(), DEVICE, hooks=[last])
    ranks = LocalRanks()
    network = build_network(run.problem, run.network, run.seed)
    objective = build_objective(run, network, ranks, DEVICE)
    state = objective.evaluate_new_points(network.initial.to(run.dtype))
    stepper = run.optimizer.start(objective, state, run.seed, run.problem.rows)
    for number in range(1, WARM_STEPS + 1):
        stepper.step(objective, number)
    return lambda: copy.copy(stepper).step(objective, WARM_STEPS + 1), last.record


def processor_seconds() -> tuple[float, float]:
    """Of this process with all threads, and of its children."""
    return time.process_time(), sum(_seconds_of(child) for child in _below(os.getpid()))


def _below(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_below(child)]
    return found


def _seconds_of(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def apart(hook: Writer, record: dict[str, Any], step: float, count: int) -> dict[str, float]:
    """Microseconds for a record: of the call, of this process, of its children; less those of the pacing."""
    calls, spent = [], {}
    for told in (False, True):
        before = processor_seconds()
        for number in range(1, count + 1):
            if told:
                began = time.perf_counter()
                hook.step({**record, "step": number, "seconds": PACE * number})
                calls.append(time.perf_counter() - began)
            time.sleep(PACE)
        time.sleep(1)  # what waits in the background counts, too
        spent[told] = [after - b for after, b in zip(processor_seconds(), before, strict=True)]
    own, others = ((w - wo) / count for w, wo in zip(spent[True], spent[False], strict=True))
    return {
        "call_us": 1e6 * statistics.median(calls),
        "process_us": 1e6 * own,
        "children_us": 1e6 * others,
        "apart_percent": 100 * own / step,
    }


def in_pairs(
    step: Callable[[], Any], record: dict[str, Any], hook: Writer, pairs: int, length: int, first: int
) -> dict[str, float]:
    """What the hook adds to a step, in processor and in elapsed time: medians over pairs, standard errors."""
    shares: list[Any] = []
    number = first

    def seconds(told: bool) -> Any:
        nonlocal number
        began = None
        for index in range(length):
            if index == length // 3:
                began = np.array([time.process_time(), time.perf_counter()])
            step()
            if told:
                number += 1
                hook.step({**record, "step": number})
        return np.array([time.process_time(), time.perf_counter()]) - began

    for pair in range(pairs):
        order = (False, True) if pair % 2 else (True, False)
        found = {told: seconds(told) for told in order}
        shares.append(100 * (found[True] / found[False] - 1))
    spread = np.subtract(*np.percentile(shares, [75, 25], axis=0)) / 1.35  # of a normal law
    middle, error = np.median(shares, axis=0), 1.25 * spread / len(shares) ** 0.5
    return {
        "paired_percent": float(middle[0]),
        "paired_error_percent": float(error[0]),
        "elapsed_percent": float(middle[1]),
        "elapsed_error_percent": float(error[1]),
        "pairs": pairs,
        "steps_a_block": length,
    }


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12, help="pairs of blocks for each hook")
    parser.add_argument("--records", type=int, default=400, help="records of a hook apart")
    parser.add_argument("--block", type=float, default=1.5, help="seconds of a block")
    parser.add_argument("--only", nargs="*", help="hooks to measure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    for config in CONFIGS:
        run, _ = load_source(Path(__file__).parents[1] / "configs" / f"{config}.py")
        run = dataclasses.replace(run, max_steps=WARM_STEPS, max_seconds=None, target_error=None)
        step, record = repeated_step(run)
        cost = min(timeit.repeat(step, timer=time.process_time, number=1, repeat=10))
        info = {"fields": describe(run), "max_steps": 10**6, "name": run.problem.name}
        found[config] = {"step_ms": 1e3 * cost}
        with tempfile.TemporaryDirectory() as folder:
            for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
                os.environ[name] = folder
            for name, make in hooks(Path(folder)).items():
                if options.only and name not in options.only:
                    continue
                hook = make()
                hook.start(info)
                time.sleep(3)  # a service that starts is no part of a step
                figures = apart(hook, record, cost, options.records)
                length = max(6, round(options.block / cost))
                figures |= in_pairs(step, record, hook, options.pairs, length, options.records)
                hook.close()
                found[config][name] = figures
                print(
                    f"{config:9s} step {1e3 * cost:.1f} ms, {name:11s} call {figures['call_us']:.1f} µs, "
                    f"process {figures['process_us']:.0f} µs, children {figures['children_us']:.0f} µs: "
                    f"{figures['apart_percent']:.2f} %; in pairs {figures['paired_percent']:+.2f} ± "
                    f"{figures['paired_error_percent']:.2f} %, elapsed {figures['elapsed_percent']:+.2f} ± "
                    f"{figures['elapsed_error_percent']:.2f} %",
                    flush=True,
                )
    if not options.only:
        print(f"written to {write('tracking', {'configs': found})}")


if __name__ == "__main__":
    main()
