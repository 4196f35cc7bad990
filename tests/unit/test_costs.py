"""The cost model: its counts against what the forms do, its speeds against the measurements behind them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.costs import fit, work_of
from sngd.costs import KINDS, SPEEDS, Size, exact_work, kernel_work, predict_seconds, sketched_work
from tests.problems import CASES

CPU = torch.device("cpu")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SIZE = Size(parameters=1361, rows=10_240, ranks=1, channels=4, components=1, widths=140, layers=5)


@pytest.mark.parametrize("name", CASES)
def test_a_size_holds_the_channels_of_the_mean_row(name):
    collocation = CASES[name]().collocation()
    rows = collocation.row_count
    size = Size.of(collocation, rows, 3)
    batches = [
        (len(b.points) * b.components, len(b.rules.channels), b.components) for b in collocation.batches
    ]
    assert size.channels == pytest.approx(sum(n * c for n, c, _ in batches) / rows)
    assert size.components == pytest.approx(sum(n * q for n, _, q in batches) / rows)
    assert size.parameters == collocation.network.parameters
    assert size.share == pytest.approx(rows / 3)


def test_every_rank_sees_the_same_size():
    case = CASES["heat"](7)
    sizes = {Size.of(case.collocation(rank=r, ranks=5), 99, 5) for r in range(5)}
    assert len(sizes) == 1


def test_work_grows_as_the_sizes_do():
    double = dataclasses.replace(SIZE, rows=2 * SIZE.rows)
    assert kernel_work(double).cholesky == 8 * kernel_work(SIZE).cholesky
    assert exact_work(double).cholesky == exact_work(SIZE).cholesky
    assert exact_work(double).product == pytest.approx(2 * exact_work(SIZE).product, rel=0.05)
    assert sketched_work(double, 64).product == pytest.approx(2 * sketched_work(SIZE, 64).product, rel=0.1)
    assert 4 < sketched_work(SIZE, 128).qr / sketched_work(SIZE, 64).qr < 8
    halved = dataclasses.replace(SIZE, ranks=2)
    assert exact_work(halved).product < 0.6 * exact_work(SIZE).product
    assert exact_work(halved).cholesky == exact_work(SIZE).cholesky  # replicated


def test_predictions_are_sums_of_work_times_speed():
    work = sketched_work(SIZE, 64)
    by_hand = sum(getattr(work, kind) * SPEEDS["cpu"][kind] for kind in KINDS)
    assert predict_seconds(work, CPU) == pytest.approx(by_hand)
    assert predict_seconds(sketched_work(SIZE, 128), CPU) > predict_seconds(work, CPU)


def _measured() -> list[dict]:
    files = sorted(RESULTS.glob("*/costs.json"))
    assert files, "benchmarks/results holds no costs.json"
    return json.loads(files[0].read_text())["measurements"]


def test_the_speeds_are_those_of_the_fit():
    speeds = fit(_measured())
    for kind in KINDS:
        assert SPEEDS["cpu"][kind] == pytest.approx(speeds[kind], rel=0.01, abs=1e-18), kind


def test_the_fit_predicts_the_measurements():
    """Within a factor of two for most, so that the choice is rarely wrong by more than what it costs."""
    measured = _measured()
    ratios = np.array([predict_seconds(work_of(entry), CPU) / entry["seconds"] for entry in measured])
    assert len(measured) > 50
    assert ((ratios > 0.5) & (ratios < 2.0)).mean() > 0.85
