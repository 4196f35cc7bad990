"""First-order and quasi-Newton methods on R ranks: the same losses, equal parameters, and what travels."""

import importlib.util
from functools import cache

import numpy as np
import pytest
import torch

from sngd import LBFGS, MLP, SNGD, SOAP, Adam, RunConfig, SSBroyden
from sngd.collectives import LocalRanks
from sngd.problems import burgers, heat
from sngd.training import train
from tests.ranks.harness import Collect, run_ranks

STEPS = 12
FLOAT64 = 8
SMALL = {"max_steps": STEPS, "evaluate_points": 200, "device": "cpu", "memory_gb": 0.5}


def _runs() -> dict[str, RunConfig]:
    network = MLP((10, 10))
    problem = heat(101, 13, 18)
    return {
        "adam": RunConfig(problem, network, Adam(rate=0.01, schedule="cosine"), **SMALL),
        "lbfgs": RunConfig(problem, network, LBFGS(), **SMALL),
        "ssbroyden": RunConfig(problem, network, SSBroyden(), **SMALL),
        "ssbfgs": RunConfig(problem, network, SSBroyden("ssbfgs"), **{**SMALL, "memory_gb": 2e-3}),
        "moving": RunConfig(
            burgers(0.05, 151, 31), network, SSBroyden(), balance=True, resample_every=4, **SMALL
        ),
        "warmup": RunConfig(problem, network, SNGD(rank=24), warmup=Adam(rate=0.01), warmup_steps=9, **SMALL),
        "soap": RunConfig(problem, network, SOAP(rate=0.01), **SMALL),
    }


def _follow(ranks, name):
    hook = Collect()
    trained = train(_runs()[name], ranks, torch.device("cpu"), hooks=[hook])
    return hook.records, trained.theta, list(getattr(ranks, "payloads", ()))


@cache
def _followed(name, size):
    return [_follow(LocalRanks(), name)] if size == 1 else run_ranks(size, _follow, name)


def _losses(name, size):
    return [record["loss"] for record in _followed(name, size)[0][0]]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", ["adam", "lbfgs", "ssbroyden", "ssbfgs", "moving", "warmup"])
def test_losses_do_not_depend_on_the_number_of_ranks(name, size):
    alone, together = _losses(name, 1), _losses(name, size)
    assert len(alone) == STEPS
    assert alone[-1] < 0.7 * alone[0]
    np.testing.assert_allclose(together, alone, rtol=1e-10)


@pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None, reason="pytorch-optimizer is not installed"
)
def test_soap_takes_the_same_steps_on_all_ranks_and_lowers_the_loss():
    first, *others = _followed("soap", 3)
    for other in others:
        assert torch.equal(first[1], other[1])
    losses = _losses("soap", 3)
    assert losses[0] == pytest.approx(_losses("soap", 1)[0], rel=1e-10)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", ["adam", "lbfgs", "ssbroyden", "moving", "warmup"])
def test_parameters_are_equal_bit_for_bit_on_all_ranks(name):
    first, *others = _followed(name, 3)
    for other in others:
        assert torch.equal(first[1], other[1])


@pytest.mark.parametrize("name", ["adam", "lbfgs", "ssbroyden"])
def test_a_gradient_costs_its_own_length_and_the_losses(name):
    run = _runs()[name]
    records, theta, _ = _followed(name, 2)[0]
    conditions, votes = len(run.problem.conditions), 10 * 4
    per_gradient = (len(theta) + conditions) * FLOAT64
    before = (conditions + 2) * FLOAT64  # losses at the start, and whether a residual failed on either rank
    for sent, record in zip(
        np.diff([before, *(record["bytes_moved"] for record in records)]), records, strict=True
    ):
        looks = conditions * FLOAT64 * (record["holdout"] is not None)
        checks = 2 * FLOAT64 * (record is records[-1] or record["step"] % run.check_every == 0)
        assert sent == record["evaluations"] * per_gradient + votes + looks + checks
