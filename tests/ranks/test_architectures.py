"""Networks with layers without inputs on R ranks: sketch, landmarks and kernel take the steps of one rank."""

from functools import cache

import numpy as np
import pytest
import torch

from sngd import ENGDW, MLP, SNGD, Gabor, PirateNet, RunConfig, Separable
from sngd.collectives import LocalRanks
from sngd.problems import burgers, heat
from sngd.training import train
from tests.ranks.harness import Collect, run_ranks

STEPS = 4
SMALL = {"max_steps": STEPS, "evaluate_points": 100, "device": "cpu", "memory_gb": 0.5}


def _runs() -> dict[str, RunConfig]:
    few, periodic = heat(101, 13, 18), burgers(0.05, 121, 31)
    landmarks = SNGD(rank=9, adaptive_rank=False, subspace="landmarks")
    return {
        "pirate": RunConfig(few, PirateNet(8, weight_factorization=True), SNGD(rank=20), **SMALL),
        "gabor": RunConfig(periodic, Gabor(8), SNGD(rank=20, basis="sharded"), **SMALL),
        "landmarks": RunConfig(periodic, PirateNet(8, blocks=1), landmarks, **SMALL),
        "kernel": RunConfig(
            few, Separable((6,), 4, weight_factorization=True), ENGDW(fixed_damping=3e-3), **SMALL
        ),
        "float32": RunConfig(
            few, MLP((8, 8), weight_factorization=True), SNGD(rank=20), precision="mixed", **SMALL
        ),
    }


def _follow(ranks, name):
    hook = Collect()
    trained = train(_runs()[name], ranks, torch.device("cpu"), hooks=[hook])
    return [record["loss"] for record in hook.records], trained.theta


@cache
def _followed(name, size):
    return [_follow(LocalRanks(), name)] if size == 1 else run_ranks(size, _follow, name)


@pytest.mark.parametrize("name", ["pirate", "gabor", "landmarks", "kernel", "float32"])
def test_losses_do_not_depend_on_the_number_of_ranks(name: str) -> None:
    (alone, _), *_ = _followed(name, 1)
    (together, first), (_, second) = _followed(name, 2)
    assert len(alone) == STEPS
    assert alone[-1] < 0.95 * alone[0]
    # what is summed in float32 keeps its digits
    np.testing.assert_allclose(together, alone, rtol=1e-3 if name == "float32" else 1e-10)
    assert torch.equal(first, second)
