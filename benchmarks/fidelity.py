"""Our ENGD-W and SPRING beside the logs of the published ones, step by step, on Poisson's equation in 5-d.

Published: the runs behind arXiv 2505.12149, repository rla-pinns, logs of the best run of each sweep (one
seed), 64-64-48-48 tanh, 3,000 + 500 points drawn anew in every step, line search. They hold absolute errors
(root mean squares over the interior), here divided by that of the solution, √(5/2). Steps count from 0 there,
from 1 here. Ours: the same settings, initial values and points of the same distributions.

Run: python -m benchmarks.fidelity [--only engd-w] [--seeds 0 1] [--steps 70]   (4 s a step on one core)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import write
from sngd import ENGDW, MLP, SPRING, RunConfig
from sngd.collectives import LocalRanks
from sngd.plot import BLUE, ORANGE, picture
from sngd.problems import poisson5d
from sngd.tracking import Values, Writer
from sngd.training import train

# step (from 0): relative L2 error after it
PUBLISHED = {
    "engd-w": {
        **{0: 1.01, 1: 1.02, 2: 1.02, 3: 1.18, 5: 0.914, 8: 0.171, 10: 0.109, 12: 5.24e-2, 15: 2.95e-2},
        **{20: 2.97e-2, 25: 2.20e-2, 30: 1.92e-2, 35: 1.32e-2, 40: 6.24e-3, 50: 2.37e-3, 61: 4.42e-4},
        **{67: 3.11e-4, 81: 2.73e-4, 98: 8.21e-5},
    },
    "spring": {
        **{0: 1.29, 1: 1.21, 2: 1.07, 3: 1.11, 5: 1.16, 8: 0.654, 10: 7.17e-2, 12: 4.62e-2, 15: 2.77e-2},
        **{20: 9.63e-3, 25: 1.86e-3, 30: 5.42e-4, 35: 3.08e-4, 40: 1.62e-4, 50: 1.06e-4, 61: 7.01e-5},
        **{67: 5.15e-5, 81: 3.17e-5, 98: 2.00e-5},
    },
}
OPTIMIZERS = {
    "engd-w": ENGDW(fixed_damping=3.1732122998048178e-12),
    "spring": SPRING(fixed_damping=2.086286730036186e-10, momentum=0.0632666532797279),
}
GOALS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4)


class Curve(Writer):
    """A hook that keeps the error after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[float] = []

    def step(self, record: Values) -> None:
        self.errors.append(record["relative_l2"])


def run(label: str, seed: int, steps: int) -> list[float]:
    """The error after each of our steps."""
    hook = Curve()
    network = MLP((64, 64, 48, 48), initialization="torch")
    changes: dict[str, Any] = {"seed": seed, "max_steps": steps, "resample_every": 1, "device": "cpu"}
    config = RunConfig(poisson5d(), network, OPTIMIZERS[label], evaluate_points=30_000, **changes)
    train(config, LocalRanks(), torch.device("cpu"), hooks=[hook])
    return hook.errors


def first_step(curve: dict[int, float], goal: float) -> float | None:
    """The first step with an error at or below a goal; between logged steps, logs are interpolated."""
    steps = sorted(curve)
    for before, after in zip([None, *steps], steps, strict=False):
        if curve[after] <= goal:
            if before is None or after - before == 1:
                return float(after)
            high, low = np.log(curve[before]), np.log(curve[after])
            return float(before + (after - before) * (high - np.log(goal)) / (high - low))
    return None


def compare(label: str, curves: list[list[float]]) -> list[dict[str, Any]]:
    """First steps to each goal, printed."""
    published = {step + 1: error for step, error in PUBLISHED[label].items()}
    rows = []
    for goal in GOALS:
        mine = [first_step(dict(enumerate(curve, start=1)), goal) for curve in curves]
        rows.append({"error": goal, "published": first_step(published, goal), "here": mine})
        print(f"{label:8s} {goal:.0e}: published step {rows[-1]['published']:.0f}, here {mine}", flush=True)
    return rows


def draw(found: dict[str, list[list[float]]], path: Path) -> None:
    """Errors over steps, ours as lines and the published ones as points."""
    with picture(path, 4.5 * len(found), 3.4) as figure:
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axes, (label, curves) in zip(panels, found.items(), strict=True):
            for number, curve in enumerate(curves):
                name = f"here, {len(curves)} seed{'s' * (len(curves) > 1)}" if number == 0 else None
                axes.plot(range(1, len(curve) + 1), curve, color=BLUE, lw=0.9, label=name)
            last = max(map(len, curves))
            known = {step + 1: error for step, error in PUBLISHED[label].items() if step < last}
            axes.plot(list(known), list(known.values()), "o", ms=4, color=ORANGE, label="published, one seed")
            axes.set(title=label, xlabel="step", yscale="log")
            axes.legend()
        panels[0].set_ylabel("relative $L^2$ error")


def main() -> None:
    """Run, compare, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=70)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[list[float]]] = {}
    for label in options.only:
        found[label] = [run(label, seed, options.steps) for seed in options.seeds]
        content = {
            name: {"errors": curves, "first_step": compare(name, curves)} for name, curves in found.items()
        }
        path = write("fidelity", content)
        draw(found, path.with_suffix(".png"))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
