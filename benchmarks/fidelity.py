"""Our ENGD-W and SPRING beside the logs of the published ones, step by step, on Poisson's equation in 5-d.

Published: the runs behind arXiv 2505.12149, repository rla-pinns, logs of the best run of each sweep (one seed),
64-64-48-48 tanh, 3,000 + 500 points drawn anew in every step, line search. They hold absolute root mean
squares over the interior, here divided by that of the solution, √(5/2). A step counts from 0 there, from 1 here.

Ours: `sngd bench rivals --only poisson5d`: the same settings, initial values of the same distribution.

Run: python -m benchmarks.fidelity
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import RESULTS, write
from sngd.bench.store import read
from sngd.plot import BLUE, ORANGE, picture

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
GOALS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4)


def ours(path: Path, label: str) -> list[dict[int, float]]:
    """Step → error of every seed."""
    runs = [run for run in read(path)["runs"] if run["task"] == "poisson5d" and run["label"] == label]
    return [{int(row[1]): row[2] for row in run["curve"] if row[2] is not None} for run in runs]


def first_step(curve: dict[int, float], goal: float) -> float | None:
    """The first step at which a curve lies at or below a goal, between logged steps by interpolation of logs."""
    steps = sorted(curve)
    for before, after in zip([None, *steps], steps, strict=False):
        if curve[after] <= goal:
            if before is None or after - before == 1:
                return float(after)
            high, low = np.log(curve[before]), np.log(curve[after])
            return float(before + (after - before) * (high - np.log(goal)) / (high - low))
    return None


def main() -> None:
    """Compare, print, draw, write."""
    (path,) = sorted(RESULTS.glob("*/rivals.json"))[:1]
    content: dict[str, Any] = {}
    with picture(path.parent / "fidelity.png", 9, 3.6) as figure:
        for axes, (label, published) in zip(
            figure.subplots(1, 2, sharey=True), PUBLISHED.items(), strict=True
        ):
            shifted = {step + 1: error for step, error in published.items()}
            curves = ours(path, label)
            last = max((max(curve) for curve in curves), default=0)
            for number, curve in enumerate(curves):
                name = f"here, {len(curves)} seeds" if number == 0 else None
                axes.plot(list(curve), list(curve.values()), color=BLUE, lw=0.9, label=name)
            known = {step: error for step, error in shifted.items() if step <= last}
            axes.plot(list(known), list(known.values()), "o", ms=4, color=ORANGE, label="published, one seed")
            axes.set(title=label, xlabel="step", yscale="log")
            axes.legend()
            rows = []
            for goal in GOALS:
                mine = [first_step(curve, goal) for curve in curves]
                rows.append({"error": goal, "published": first_step(shifted, goal), "here": mine})
                reached = [step for step in mine if step is not None]
                median = f"{statistics.median(reached):.0f}" if reached else "–"
                theirs = rows[-1]["published"]
                print(f"{label:8s} {goal:.0e}: published step {theirs:.0f}, here {median} {mine}")
            content[label] = {"published": shifted, "first_step": rows}
        figure.axes[0].set_ylabel("relative $L^2$ error")
    print(f"written to {write('fidelity', content)}")


if __name__ == "__main__":
    main()
