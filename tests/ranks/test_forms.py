"""Kernel and exact form on R ranks: the same dynamics as each other and as on one rank."""

from functools import cache

import numpy as np
import pytest
import torch

from sngd import ENGD, ENGDW, MLP, SPRING, RunConfig
from sngd.collectives import LocalRanks
from sngd.problems import burgers, heat
from sngd.training import train
from tests.ranks.harness import Collect, run_ranks

STEPS = 20
SMALL = {"max_steps": STEPS, "evaluate_points": 100, "device": "cpu", "memory_gb": 0.5}
# A solve amplifies rounding by σ_1²/λ; with this λ twenty steps keep ten digits.
FIXED = {"fixed_damping": 3e-3}


def _runs() -> dict[str, RunConfig]:
    small_heat, small_burgers = heat(101, 13, 18), burgers(0.05, 121, 31)
    return {
        "exact": RunConfig(small_heat, MLP((10, 10)), ENGD(**FIXED), **SMALL),
        "kernel": RunConfig(small_heat, MLP((10, 10)), ENGDW(**FIXED), **SMALL),
        "exact-trust": RunConfig(small_burgers, MLP((8, 8)), ENGD(globalization="trust_region"), **SMALL),
        "kernel-trust": RunConfig(small_burgers, MLP((8, 8)), ENGDW("trust_region"), **SMALL),
        "spring": RunConfig(small_heat, MLP((10, 10)), SPRING(momentum=0.5, **FIXED), **SMALL),
        "spring-fixed": RunConfig(
            small_burgers, MLP((8, 8)), SPRING("fixed_rate", **FIXED), resample_every=1, **SMALL
        ),
        "few": RunConfig(heat(60, 3, 2), MLP((8, 8)), ENGDW(**FIXED), **SMALL),
    }


def _follow(ranks, name):
    hook = Collect()
    trained = train(_runs()[name], ranks, torch.device("cpu"), hooks=[hook])
    return hook.records, trained.theta, trained.result


@cache
def _followed(name, size):
    return [_follow(LocalRanks(), name)] if size == 1 else run_ranks(size, _follow, name)


def _losses(name, size):
    return [record["loss"] for record in _followed(name, size)[0][0]]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("exact", "kernel"), [("exact", "kernel"), ("exact-trust", "kernel-trust")])
def test_kernel_and_exact_form_give_the_same_dynamics(exact, kernel, size):
    assert len(_losses(exact, size)) == STEPS
    assert _losses(exact, size)[-1] < 0.1 * _losses(exact, size)[0]
    np.testing.assert_allclose(_losses(kernel, size), _losses(exact, size), rtol=1e-8)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", ["exact", "kernel", "spring", "spring-fixed", "few"])
def test_losses_do_not_depend_on_the_number_of_ranks(name, size):
    np.testing.assert_allclose(_losses(name, size), _losses(name, 1), rtol=1e-10)


@pytest.mark.parametrize("name", ["exact", "kernel", "spring"])
def test_parameters_are_equal_bit_for_bit_on_all_ranks(name):
    (_, first, _), *others = _followed(name, 3)
    for _, other, _ in others:
        assert torch.equal(first, other)


# ---------------------------------------------------------------------------------------------
# What travels
# ---------------------------------------------------------------------------------------------

NUMBER = 8  # bytes
VOTES = 10 * 4  # one float32 for each reason to stop, one for a checkpoint


def _shares(points: int, size: int) -> list[int]:
    return [points * (r + 1) // size - points * r // size for r in range(size)]


def _expected_bytes(name: str, record: dict, parameters: int, size: int) -> int:
    """Of one step with the published line search."""
    conditions = [c.points for c in _runs()[name].problem.conditions]
    numbers = len(conditions) * record["evaluations"] + parameters  # losses, gradient
    if name == "exact":
        return (numbers + parameters**2) * NUMBER + VOTES
    equation, *others = (_shares(points, size) for points in conditions)
    values = [sum(share) for share in zip(*others, strict=True)]  # conditions on values alone: one batch
    widths = 2 + 10 + 10 + 10 + 10 + 1
    factors = widths * (4 * max(equation) + max(values))  # value, slopes and u_xx against the value alone
    longest = max(a + b for a, b in zip(equation, values, strict=True))
    batches = 2  # the numbers of points in each
    gathered = size * (factors + longest + batches)
    return (numbers + sum(conditions) ** 2 + parameters + gathered) * NUMBER + VOTES


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", ["exact", "kernel"])
def test_a_gram_matrix_factors_and_vectors_travel(name, size):
    records, _, result = _followed(name, size)[0]
    per_step = np.diff([record["bytes_moved"] for record in records])
    for record, sent in zip(records[1:], per_step, strict=True):
        sent -= sum(
            record["traffic"][what]["bytes"] for what in {"check", "holdout"} & set(record["traffic"])
        )
        assert sent == _expected_bytes(name, record, result["parameters"], size), record
