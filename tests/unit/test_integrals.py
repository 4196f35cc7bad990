"""Integrals over space against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sngd.domain import Box
from sngd.integrals import integrals_over_time, space_rule
from sngd.networks import Network
from sngd.problem import Condition, Problem

THETA = torch.zeros(1, dtype=torch.float64)


def problem_on(domain: Box, fields: tuple[str, ...] = ("u",)) -> Problem:
    first = lambda w, p: w if len(fields) == 1 else w[0]  # noqa: E731
    return Problem(domain, [Condition("c", first, domain.interior, points=4)], fields=fields)


def wave(theta: Tensor, x: Tensor) -> Tensor:
    """A travelling wave u and what decays, v; time is the first coordinate."""
    t, y = x.T
    return torch.stack([2 + torch.sin(y - 3 * t), torch.exp(-t) * torch.cos(y)], dim=1)


@pytest.mark.parametrize("periodic", [("x",), ()])
def test_integrals_of_a_wave_are_exact(periodic: tuple[str, ...]) -> None:
    problem = problem_on(Box(t=(0, 2), x=(0, 2 * math.pi), periodic=periodic), ("u", "v"))
    network: Network = wave  # type: ignore[assignment]
    told = integrals_over_time(problem, network, THETA, times=5)
    assert told is not None
    assert told["axis"] == "t"
    assert told["times"] == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert told["fields"]["u"] == pytest.approx([4 * math.pi] * 5, rel=1e-13)
    assert told["fields"]["v"] == pytest.approx([0] * 5, abs=1e-13)
    expected = [9 * math.pi + math.pi * math.exp(-2 * t) for t in told["times"]]
    assert told["square"] == pytest.approx(expected, rel=1e-13)
    assert told["drift"]["u"] < 1e-14
    assert told["drift"]["square"] == pytest.approx((1 - math.exp(-4)) / 10)


def test_drift_of_a_field_is_measured_by_the_size_of_all() -> None:
    problem = problem_on(Box(x=(0, 3), t=(0, 1)))
    network: Network = lambda theta, x: 1 + x[:, 1:]  # type: ignore[assignment] # noqa: E731
    told = integrals_over_time(problem, network, THETA)
    assert told is not None
    assert told["fields"]["u"] == pytest.approx([3 + 3 * t for t in told["times"]])
    assert told["drift"]["u"] == pytest.approx(3 / math.sqrt(3 * 12))


@pytest.mark.parametrize("names", ["xy", "xyz"])
def test_several_coordinates_of_space(names: str) -> None:
    domain = Box(periodic=(), **{name: (0, 2) for name in names}, t=(0, 1))
    network: Network = lambda theta, x: x[:, :-1].prod(1, keepdim=True)  # type: ignore[assignment] # noqa: E731
    told = integrals_over_time(problem_on(domain), network, THETA, times=2)
    assert told is not None
    assert told["fields"]["u"] == pytest.approx([2.0 ** len(names)] * 2)


class Disc(Box):
    """The unit disc over time."""

    def contains(self, x: Tensor) -> Tensor:
        return super().contains(x) & (x[:, :2].norm(dim=1) <= 1)


def test_points_outside_of_the_domain_do_not_count() -> None:
    domain = Disc(x=(-1, 1), y=(-1, 1), t=(0, 1))
    network: Network = lambda theta, x: torch.ones_like(x[:, :1])  # type: ignore[assignment] # noqa: E731
    told = integrals_over_time(problem_on(domain), network, THETA, times=2)
    assert told is not None
    assert told["fields"]["u"] == pytest.approx([math.pi] * 2, rel=1e-2)


@pytest.mark.parametrize(
    "domain", [Box(x=(0, 1), y=(0, 1)), Box(t=(0, 1)), Box(a=(0, 1), b=(0, 1), c=(0, 1), d=(0, 1), t=(0, 1))]
)
def test_no_integrals_without_time_or_in_many_dimensions(domain: Box) -> None:
    problem = problem_on(domain)
    assert space_rule(problem) is None
    assert integrals_over_time(problem, wave, THETA) is None  # type: ignore[arg-type]
