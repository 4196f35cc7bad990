"""Training in the span of landmarks on R ranks: the same losses and parameters, and what travels."""

from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
import torch

from sngd import MLP, SNGD, RunConfig
from sngd.collectives import LocalRanks
from sngd.landmarks import draw_landmarks
from sngd.memory import Plan, make_plan
from sngd.problems import burgers, heat, transport
from sngd.training import train
from tests.problems import CASES
from tests.ranks.harness import Collect, run_ranks

STEPS, RANK, FLOAT64 = 5, 9, 8
SMALL = {"max_steps": STEPS, "evaluate_points": 200, "device": "cpu", "memory_gb": 0.5}


def _runs() -> dict[str, RunConfig]:
    # Rounding grows with the condition number of the landmarks' rows, squared: few of them keep ten digits.
    landmarks = SNGD(rank=RANK, adaptive_rank=False, subspace="landmarks")
    return {
        "heat": RunConfig(heat(101, 13, 18), MLP((10, 10)), landmarks, **SMALL),
        "burgers": RunConfig(burgers(0.05, 151, 31), MLP((8, 8)), landmarks, balance=True, **SMALL),
        "transport": RunConfig(transport(3.0, 127, 29), MLP((9, 9)), landmarks, resample_every=1, **SMALL),
        "system": RunConfig(CASES["system"]().problem, MLP((7, 6), "gelu"), landmarks, **SMALL),
        "few": RunConfig(heat(60, 3, 2), MLP((8, 8)), landmarks, **SMALL),
        "chunks": RunConfig(heat(101, 13, 18), MLP((10, 10)), landmarks, **SMALL),
    }


def _follow(ranks, name: str):
    hook, make = Collect(), make_plan
    if name == "chunks":  # what a budget would do that leaves the rank as it is
        make = lambda sizes, budget: Plan("nothing", 7, budget, sizes)  # noqa: E731
    with patch.dict(train.__globals__, make_plan=make):
        trained = train(_runs()[name], ranks, torch.device("cpu"), hooks=[hook])
    return hook.records, trained.theta, list(getattr(ranks, "payloads", ()))


@cache
def _followed(name: str, size: int):
    return [_follow(LocalRanks(), name)] if size == 1 else run_ranks(size, _follow, name)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", ["heat", "burgers", "transport", "system", "few", "chunks"])
def test_losses_do_not_depend_on_the_number_of_ranks(name: str, size: int) -> None:
    alone, together = ([record["loss"] for record in _followed(name, n)[0][0]] for n in (1, size))
    assert len(alone) == STEPS
    assert alone[-1] < 0.95 * alone[0]
    np.testing.assert_allclose(together, alone, rtol=1e-10)


@pytest.mark.parametrize("name", ["heat", "burgers", "transport", "system", "few"])
def test_parameters_are_equal_bit_for_bit_on_all_ranks(name: str) -> None:
    (_, first, _), *others = _followed(name, 4)
    for _, theta, _ in others:
        assert torch.equal(first, theta)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", ["heat", "system"])
def test_points_and_a_gradient_travel_and_nothing_of_the_size_of_a_sketch(name: str, size: int) -> None:
    run = _runs()[name]
    for records, theta, payloads in _followed(name, size):
        parameters = theta.numel()
        for record in records:
            given = 1 if record["step"] == 1 else 2  # gradient, and a displacement from the second step on
            chosen = draw_landmarks(run.problem, RANK - given, run.seed, record["step"])
            numbers = sum(len(indices) for indices in chosen) * run.problem.domain.dim
            traffic = {what: (t["calls"], t["bytes"]) for what, t in record["traffic"].items()}
            assert traffic["landmarks"] == (1, numbers * FLOAT64)
            assert traffic["gradient"] == (1, parameters * FLOAT64)
            assert traffic["triangles"][0] == 1
            assert set(traffic) - {"check", "holdout"} == {
                "losses",
                "landmarks",
                "gradient",
                "triangles",
                "projections",
                "control",
            }
        assert max(numbers for _, numbers, _ in payloads) <= max(parameters, size * (RANK + 1) ** 2)
