"""Time to accuracy of the configs, several seeds each: median and range.

Every run starts from its config, its target error included, and differs only in seed and budget.
Seconds are those of history.jsonl: from before the first residual evaluation, error evaluation included,
imports and set-up excluded.

Run: python -m benchmarks.targets [--seeds 5] [--only heat poisson2d …]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import write
from sngd import MLP, RunConfig
from sngd.collectives import LocalRanks
from sngd.config import load_source
from sngd.problems import poisson2d
from sngd.train import train

CONFIGS = Path(__file__).parent.parent / "configs"
MILESTONES = sorted([1.5e-7, *(10.0**-k for k in range(1, 13))], reverse=True)


def suites() -> dict[str, tuple[RunConfig, float]]:
    """Name → run and seconds."""
    loaded = {
        name: load_source(CONFIGS / f"{name}.py")[0]
        for name in ("heat", "poisson2d", "burgers", "transport", "nonlinear")
    }
    wide = dataclasses.replace(
        loaded["poisson2d"],
        network=MLP(hidden=(40, 40, 40, 40)),
        problem=poisson2d(interior=2000, boundary=400),
    )
    return {
        "heat": (loaded["heat"], 20.0),
        "poisson2d": (loaded["poisson2d"], 25.0),
        "poisson2d-5081": (wide, 25.0),
        "burgers": (loaded["burgers"], 80.0),
        "transport": (loaded["transport"], 90.0),
        "nonlinear": (loaded["nonlinear"], 20.0),
    }


class Recorder:
    """A hook that keeps (seconds, step, error)."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, int, float]] = []

    def start(self, info: dict[str, Any]) -> None:
        pass

    def step(self, record: dict[str, Any]) -> None:
        self.rows.append((record["seconds"], record["step"], record["relative_l2"]))

    def end(self, result: dict[str, Any]) -> None:
        pass


def measure(run: RunConfig, seconds: float, seed: int) -> dict[str, Any]:
    """One seed: first times to each milestone, and where it ended."""
    recorder = Recorder()
    limited = dataclasses.replace(run, seed=seed, max_seconds=seconds, max_steps=100_000)
    trained = train(limited, LocalRanks(), torch.device("cpu"), hooks=[recorder])
    reached = {}
    for goal in MILESTONES:
        hit = next((row for row in recorder.rows if row[2] <= goal), None)
        reached[f"{goal:.2g}"] = None if hit is None else {"seconds": hit[0], "step": hit[1]}
    kept = ("relative_l2", "loss", "steps", "seconds", "parameters", "points", "peak_memory_bytes")
    return {"seed": seed, **{key: trained.result[key] for key in kept}, "reached": reached}


def summarise(runs: list[dict[str, Any]]) -> str:
    """Final error and the milestones that all seeds reached, median (range)."""
    errors = [r["relative_l2"] for r in runs]
    spread = f"{statistics.median(errors):.1e} ({min(errors):.1e}–{max(errors):.1e})"
    text = f"error {spread} after {statistics.median(r['seconds'] for r in runs):.1f} s;"
    for goal in MILESTONES:
        times = [r["reached"][f"{goal:.2g}"] for r in runs]
        if goal <= 1e-4 and all(times):
            seconds = [t["seconds"] for t in times]
            text += (
                f"  {goal:.2g} at {statistics.median(seconds):.1f} s ({min(seconds):.1f}–{max(seconds):.1f})"
            )
    return text


def main() -> None:
    """Run the suites and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name, (run, seconds) in suites().items():
        if options.only and name not in options.only:
            continue
        runs = [measure(run, seconds, seed) for seed in range(options.seeds)]
        results[name] = {"parameters": runs[0]["parameters"], "points": runs[0]["points"], "runs": runs}
        print(f"{name} (P={runs[0]['parameters']:,}): {summarise(runs)}", flush=True)
    if not options.only:
        print(f"written to {write('targets', {'problems': results})}")


if __name__ == "__main__":
    main()
