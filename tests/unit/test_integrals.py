"""Integrals over space against closed forms, of fields that an ansatz gives whatever the network does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sngd.domain import Box
from sngd.integrals import integrals_over_time, space_rule
from sngd.networks import MLP
from sngd.problem import Condition, Points, Problem


def told(
    domain: Box, given: Callable[[Points], Any], times: int, fields: tuple[str, ...] = ("u",)
) -> dict[str, Any] | None:
    """The integrals of given fields."""

    def ansatz(n: Any, p: Points) -> Any:
        parts, outputs = given(p), n if len(fields) > 1 else (n,)
        return tuple(part + 0 * output for part, output in zip(parts, outputs, strict=True))

    first = lambda w, p: w if len(fields) == 1 else w[0]  # noqa: E731
    conditions = [Condition("c", first, domain.interior, points=4)]
    problem = Problem(domain, conditions, fields=fields, ansatz=ansatz)
    network = MLP((3,)).build(domain, len(fields), seed=0)
    return integrals_over_time(problem, network, network.initial, times)


@pytest.mark.parametrize("periodic", [("x",), ()])
def test_integrals_of_a_wave_are_exact(periodic: tuple[str, ...]) -> None:
    domain = Box(t=(0, 2), x=(0, 2 * math.pi), periodic=periodic)
    T, X = domain.axes
    wave = lambda p: (2 + torch.sin(p[X] - 3 * p[T]), torch.exp(-p[T]) * torch.cos(p[X]))  # noqa: E731
    found = told(domain, wave, 5, ("u", "v"))
    assert found is not None
    assert found["axis"] == "t"
    assert found["times"] == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert found["fields"]["u"] == pytest.approx([4 * math.pi] * 5, rel=1e-13)
    assert found["fields"]["v"] == pytest.approx([0] * 5, abs=1e-13)
    expected = [9 * math.pi + math.pi * math.exp(-2 * t) for t in found["times"]]
    assert found["square"] == pytest.approx(expected, rel=1e-13)
    assert found["drift"]["u"] < 1e-14
    assert found["drift"]["square"] == pytest.approx((1 - math.exp(-4)) / 10)


def test_drift_of_a_field_is_measured_by_the_size_of_all() -> None:
    domain = Box(x=(0, 3), t=(0, 1))
    found = told(domain, lambda p: (1 + p[domain.axes[1]],), 11)
    assert found is not None
    assert found["fields"]["u"] == pytest.approx([3 + 3 * t for t in found["times"]])
    assert found["drift"]["u"] == pytest.approx(3 / math.sqrt(3 * 12))


@pytest.mark.parametrize("names", ["xy", "xyz"])
def test_several_coordinates_of_space(names: str) -> None:
    domain = Box(periodic=(), **{name: (0, 2) for name in names}, t=(0, 1))
    found = told(domain, lambda p: (math.prod(p[axis] for axis in domain.axes[:-1]),), 2)
    assert found is not None
    assert found["fields"]["u"] == pytest.approx([2.0 ** len(names)] * 2)


class Disc(Box):
    """The unit disc over time."""

    def contains(self, x: Tensor) -> Tensor:
        return super().contains(x) & (x[:, :2].norm(dim=1) <= 1)


def test_points_outside_of_the_domain_do_not_count() -> None:
    found = told(Disc(x=(-1, 1), y=(-1, 1), t=(0, 1)), lambda p: (1.0,), 2)
    assert found is not None
    assert found["fields"]["u"] == pytest.approx([math.pi] * 2, rel=1e-2)


@pytest.mark.parametrize(
    "domain", [Box(x=(0, 1), y=(0, 1)), Box(t=(0, 1)), Box(a=(0, 1), b=(0, 1), c=(0, 1), d=(0, 1), t=(0, 1))]
)
def test_no_integrals_without_time_or_in_many_dimensions(domain: Box) -> None:
    problem = Problem(domain, [Condition("c", lambda u, p: u, domain.interior, points=4)])
    assert space_rule(problem) is None
    assert told(domain, lambda p: (1.0,), 2) is None
