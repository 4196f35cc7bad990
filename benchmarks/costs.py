"""Seconds of a step of each form over sizes, and the speeds of `sngd/costs.py` fitted to them.

Each form takes a few steps from the same start, one thread; the median of all but the first counts.
Non-negative least squares in relative error. The fit is printed to be copied into SPEEDS, which a test holds
against the file.

Run: python -m benchmarks.costs
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.results import write
from sngd import ENGD, ENGDW, MLP, SNGD, RunConfig
from sngd.bench.scaling import size_of
from sngd.collectives import LocalRanks
from sngd.costs import KINDS, Size, Work, exact_work, kernel_work, predict_seconds, sketched_work
from sngd.problem import Problem
from sngd.problems import burgers, poisson2d
from sngd.tracking import Values, Writer
from sngd.training import train

ROWS = (500, 1500, 5000, 20000)
WIDTHS = (14, 26, 48, 98)
RANKS = (32, 128, 400)
STEPS = 4
LONGEST_STEP = 20.0  # seconds; what is predicted to take longer by the speeds of today is left out


class _Steps(Writer):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Values] = []

    def step(self, record: Values) -> None:
        self.records.append(record)


def problems() -> list[tuple[str, Problem, MLP]]:
    """Sizes from small to large, two numbers of channels and depths."""
    found: list[tuple[str, Problem, MLP]] = []
    for n in ROWS:
        for w in WIDTHS:
            found.append((f"poisson2d N={n} width={w}", poisson2d(n - n // 6, n // 6), MLP((w, w, w))))
    for n in ROWS[1:3]:
        for w in WIDTHS[:3]:
            network = MLP((w, w, w, w))
            found.append((f"burgers N={n} width={w}", burgers(0.01, n - n // 6, n // 6), network))
    return found


def work_of(entry: dict[str, Any]) -> Work:
    """The work that the model counts for a measurement."""
    size, evaluations = Size(**entry["size"]), entry["evaluations"]
    if entry["form"] == "sketched":
        return sketched_work(size, entry["rank"], evaluations)
    return {"exact": exact_work, "kernel": kernel_work}[entry["form"]](size, evaluations)


def fit(entries: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds per unit of each kind of work."""
    seconds = np.array([entry["seconds"] for entry in entries])
    counts = np.array([work_of(entry).as_list() for entry in entries])
    scale = counts.max(0)
    solution, _ = nnls(counts / scale / seconds[:, None], np.ones(len(seconds)))
    return dict(zip(KINDS, (solution / scale).tolist(), strict=True))


def measure(problem: Problem, network: MLP) -> list[dict[str, Any]]:
    """Every form at one size."""
    forms: list[tuple[str, int | None, Any]] = [
        ("exact", None, ENGD(globalization="trust_region")),
        ("kernel", None, ENGDW(globalization="trust_region")),
        *[("sketched", k, SNGD(rank=k, adaptive_rank=False)) for k in RANKS],
    ]
    result = []
    for form, rank, optimizer in forms:
        run = RunConfig(problem, network, optimizer, max_steps=STEPS, evaluate_points=100, device="cpu")
        size = size_of(run)
        entry: dict[str, Any] = {"form": form, "rank": rank, "size": vars(size), "evaluations": 4.0}
        if rank is not None and rank > min(size.parameters, size.rows):
            continue
        if predict_seconds(work_of(entry), torch.device("cpu")) > LONGEST_STEP:
            continue
        hook = _Steps()
        train(run, LocalRanks(), torch.device("cpu"), hooks=[hook])
        times = np.diff([record["seconds"] for record in hook.records])
        entry["seconds"] = float(statistics.median(times))
        entry["evaluations"] = float(statistics.median(r["evaluations"] for r in hook.records[1:]))
        result.append(entry)
    return result


def main() -> None:
    """Measure, fit, write."""
    torch.set_num_threads(1)
    entries: list[dict[str, Any]] = []
    for name, problem, network in problems():
        for entry in measure(problem, network):
            entries.append({"problem": name, **entry})
            print(f"{name:32s} {entry['form']:9s} k={entry['rank']} {entry['seconds']:.4f} s", flush=True)
    speeds = fit(entries)
    ratios = [
        sum(a * s for a, s in zip(work_of(e).as_list(), speeds.values(), strict=True)) / e["seconds"]
        for e in entries
    ]
    print({kind: f"{speed:.3g}" for kind, speed in speeds.items()})
    print(f"predicted over measured: quartiles {np.percentile(ratios, [0, 25, 50, 75, 100]).round(2)}")
    print(f"written to {write('costs', {'speeds': speeds, 'measurements': entries})}")


if __name__ == "__main__":
    main()
