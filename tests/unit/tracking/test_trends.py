"""Trends of numbers, their bars and where they lead."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sngd.tracking.trends import BARS, PLAIN_BARS, Trend, bars, seconds_until

numbers = st.floats(-300, 300)


def trend(y: list[float], pace: float = 1.0) -> Trend:
    made = Trend()
    for step, value in enumerate(y, start=1):
        made.add(pace * step, 10.0**value)
    return made


@given(st.integers(1, 5000))
def test_a_trend_stays_small_and_keeps_its_line(count: int) -> None:
    made = trend([1.0 - step / 50 for step in range(1, count + 1)], 0.5)
    assert len(made.t) == len(made.y) <= 256
    assert min(count, 128) <= len(made.y) + 1
    assert made.first == pytest.approx(10.0**0.98)
    for t, y in zip(made.t, made.y, strict=True):
        assert y == pytest.approx(1.0 - t / 0.5 / 50)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 0.0, -1.0, "1", []])
def test_what_has_no_logarithm_is_left_out(value: object) -> None:
    made = Trend()
    made.add(1.0, value)
    assert made.y == []
    made.add(2.0, 10.0)
    assert (made.t, made.y) == ([2.0], [1.0])


@given(st.lists(numbers, max_size=600), st.integers(0, 90))
def test_bars_fit_and_span_all_heights(values: list[float], width: int) -> None:
    drawn = bars(values, width)
    assert len(drawn) == min(width, len(values))
    assert set(drawn) <= set(BARS)
    if len(values) <= width and len(set(values)) > 1 and max(values) - min(values) > 1e-9:
        assert (drawn[int(np.argmin(values))], drawn[int(np.argmax(values))]) == (BARS[0], BARS[-1])


def test_bars_of_a_line_fall_and_those_of_a_constant_are_low() -> None:
    assert bars(range(8, 0, -1), 8) == BARS[::-1]
    assert bars(range(80, 0, -1), 8, PLAIN_BARS) == PLAIN_BARS[::-1]
    assert bars([3.0] * 5, 4) == BARS[0] * 4
    assert bars([], 4) == ""


@given(st.integers(8, 2000), st.floats(0.01, 10.0), st.floats(0.5, 6.0))
def test_a_straight_line_is_foretold(count: int, pace: float, more: float) -> None:
    slope = 5.0 / count  # decades a step
    made = trend([-slope * step for step in range(1, count + 1)], pace)
    target = made.y[-1] - more
    assert seconds_until(made, 10.0**target) == pytest.approx(more / slope * pace, rel=1e-6)


def test_the_recent_slope_counts() -> None:
    y = [-0.01 * step for step in range(200)] + [-2.0 - 0.1 * step for step in range(100)]
    assert seconds_until(trend(y), 10.0 ** (y[-1] - 1)) == pytest.approx(10.0, abs=0.5)


@pytest.mark.parametrize(
    ("y", "target"),
    [
        ([-0.1 * step for step in range(7)], 1e-3),  # too few
        ([0.1 * step for step in range(50)], 1e-3),  # it rises
        ([0.0] * 50, 1e-3),
        ([(-1.0) ** step - 0.001 * step for step in range(50)], 1e-3),  # noise
        ([-0.001 * step for step in range(50)], 1e-300),  # far beyond
        ([-0.1 * step for step in range(50)], 0.0),
        ([], 1e-3),
    ],
)
def test_where_the_slope_says_nothing_there_is_no_time(y: list[float], target: float) -> None:
    assert seconds_until(trend(y), target) is None


def test_seconds_that_stand_still_are_no_slope() -> None:
    made = Trend()
    for step in range(20):
        made.add(1.0, 10.0**-step)
    assert seconds_until(made, 1e-30) is None


def test_a_target_that_is_reached_takes_no_time() -> None:
    assert seconds_until(trend([-0.1 * step for step in range(50)]), 1e-2) == 0.0
