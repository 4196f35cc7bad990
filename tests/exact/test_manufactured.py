"""Known solutions, trained for a fixed number of steps to a firm accuracy."""

import statistics
from math import pi

import pytest
import torch

from sngd import MLP, SIREN, SNGD, Box, Condition, Problem, RunConfig, d
from sngd.collectives import LocalRanks
from sngd.evaluate import Evaluation
from sngd.problems import (
    burgers,
    heat,
    heat4d,
    log_fokker_planck,
    nonlinear,
    poisson2d,
    poisson5d,
    poisson10d,
    poisson100d,
    transport,
)
from sngd.training import Trained, train

CPU = torch.device("cpu")


def trained(problem: Problem, network=None, *, steps: int, **fields) -> Trained:
    network = network or MLP(hidden=(16, 16))
    run = RunConfig(
        problem, network, max_steps=steps, evaluate_every=steps, evaluate_points=2000, device="cpu", **fields
    )
    return train(run, LocalRanks(), CPU)


def trained_error(problem: Problem, network=None, *, steps: int, **fields) -> float:
    return trained(problem, network, steps=steps, **fields).result["relative_l2"]


def oscillator() -> Problem:
    """u' = π v, v' = −π u with u(0) = 0, v(0) = 1: a system of two fields and two equations."""
    domain = Box(x=(0, 1))
    (X,) = domain.axes

    def equations(w, p):
        u, v = w
        return d(u, X) - pi * v, d(v, X) + pi * u

    def start(w, p):
        u, v = w
        return u, v - 1.0

    return Problem(
        domain,
        [
            Condition("equations", equations, domain.interior, 64),
            Condition("start", start, domain.face(x=0), 1),
        ],
        fields=("u", "v"),
        solution=lambda p: (torch.sin(pi * p[X]), torch.cos(pi * p[X])),
        name="oscillator",
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("problem", "steps", "accuracy", "fields"),
    [
        (heat(400, 40, 80), 30, 1e-5, {}),
        (poisson2d(400, 120), 40, 1e-5, {}),
        (nonlinear(128, 16), 40, 1e-7, {}),
        (transport(2.0, 400, 100), 40, 1e-4, {"resample_every": 1}),
        (burgers(0.1, 600, 150, weight=0.1), 40, 1e-4, {"balance": True}),
        (oscillator(), 40, 1e-8, {}),
    ],
    ids=["heat", "poisson2d", "nonlinear", "transport", "burgers", "system"],
)
def test_problems_are_solved(problem, steps, accuracy, fields, seed):
    assert trained_error(problem, steps=steps, seed=seed, **fields) < accuracy


@pytest.mark.parametrize(
    ("problem", "steps"),
    [
        (poisson5d(300, 100), 12),
        (poisson10d(200, 300), 12),
        (poisson100d(50, 200), 20),
        (heat4d(300, 60, 60), 8),
        (log_fokker_planck(2, 300, 100), 12),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_few_steps_lower_the_error_in_many_dimensions(problem, steps):
    network, shares = MLP(hidden=(16, 16)), []
    for seed in range(3):  # on 10 points in 100 dimensions a start in twenty leads nowhere
        start = network.build(problem.domain, 1, seed)
        before = Evaluation(problem, start, points=2000).relative_l2(start.initial)
        shares.append(trained_error(problem, network, steps=steps, seed=seed, resample_every=1) / before)
    assert statistics.median(shares) < 0.5


@pytest.mark.parametrize(
    "network",
    [
        *(MLP(hidden=(16, 16), activation=name) for name in ("tanh", "sin", "gelu", "silu", "softplus")),
        SIREN(hidden=(16, 16)),
        MLP(hidden=(16, 16), fourier=8, fourier_scale=1.0),
    ],
    ids=["tanh", "sin", "gelu", "silu", "softplus", "siren", "fourier"],
)
def test_every_network_solves_the_heat_equation(network):
    assert trained_error(heat(400, 40, 80), network, steps=40) < 1e-4


def test_a_periodic_embedding_with_harmonics_solves_transport_and_is_periodic():
    end = trained(transport(2.0, 400, 100), MLP(hidden=(16, 16), modes=3), steps=40, resample_every=1)
    assert end.result["relative_l2"] < 1e-4
    x = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([2 * pi, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        end.network(end.theta, x), end.network(end.theta, x + shift), rtol=0, atol=1e-12
    )


def test_the_published_line_search_works_but_is_behind_the_trust_region():
    as_published = SNGD(
        globalization="line_search", adaptive_rank=False, test_matrix="gaussian", recycle=False
    )
    published = trained_error(heat(400, 40, 80), steps=16, optimizer=as_published)
    ours = trained_error(heat(400, 40, 80), steps=16)
    assert published < 0.5
    assert ours < 0.1 * published


def test_float32_reaches_its_own_accuracy():
    assert trained_error(heat(400, 40, 80), steps=25, precision="float32") < 1e-4


@pytest.mark.parametrize("seed", [0, 1])
def test_corrections_are_worth_a_factor_of_ten_at_equal_steps(seed):
    plain, corrected = (
        trained_error(heat(400, 40, 80), steps=25, seed=seed, optimizer=SNGD(corrections=m)) for m in (0, 8)
    )
    assert corrected < 0.1 * plain
