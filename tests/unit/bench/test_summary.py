"""Medians and ranges over seeds, and who wins."""

import math

import pytest

from sngd.bench.summary import cells, rows, shown_milestones, spread
from tests.bench_records import reaching, record

FIRST_TWO = [(1.0, 5e-3), (2.0, 5e-5)]


@pytest.mark.parametrize(
    ("values", "median", "low", "high", "count"),
    [
        ([3.0, 1.0, 2.0], 2.0, 1.0, 3.0, 3),
        ([4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0, 4),
        ([3.0, None, 1.0], 3.0, 1.0, 3.0, 2),  # None is slower than any
        ([None, 1.0, None, 2.0], 2.0, 1.0, 2.0, 2),  # half arrived
        ([None, 1.0, None], math.nan, 1.0, 1.0, 1),  # more than half did not
        ([math.nan, 5.0], 5.0, 5.0, 5.0, 1),
        ([None], math.nan, math.nan, math.nan, 0),
        ([], math.nan, math.nan, math.nan, 0),
    ],
)
def test_median_and_range(values, median, low, high, count):
    found = spread(values)
    assert (found.median, found.low, found.high) == pytest.approx((median, low, high), nan_ok=True)
    assert (found.count, found.of) == (count, len(values))


def test_a_row_takes_times_from_those_that_arrived_and_counts_failures():
    runs = [
        record("sngd", FIRST_TWO, seed=0),
        record("sngd", [(3.0, 5e-3), (4.0, 4e-3)], seed=1),
        record("sngd", [(8.0, 5e-3)], seed=2, failure="time-out"),
    ]
    (row,) = rows(runs)
    assert row.times["1e-2"].median == 3.0
    assert (row.times["1e-2"].low, row.times["1e-2"].high) == (1.0, 8.0)
    assert row.times["1e-4"].count == 1
    assert math.isnan(row.times["1e-4"].median)
    assert row.error.median == 5e-3 - 1e-3
    assert row.step.median == 2.0
    assert row.failures == {"time-out": 1}
    assert (row.memory.count, row.memory.of) == (2, 3), "a killed run has told no memory"


def test_even_decades_that_someone_reached_head_the_columns():
    assert shown_milestones(rows([record("sngd", FIRST_TWO)])) == ["1e-2", "1e-4"]
    assert shown_milestones(rows([record("sngd", [(1.0, 5e-4)])])) == ["1e-2", "1e-3"]
    assert shown_milestones(rows([record("sngd", [(1.0, 0.5)])])) == []


def test_the_least_time_to_the_target_wins_a_cell():
    (cell,) = cells(
        [
            *(reaching("sngd", seconds, seed=seed) for seed, seconds in enumerate((2.0, 3.0, 9.0))),
            *(reaching("engd-w", seconds, seed=seed) for seed, seconds in enumerate((4.0, 6.0, 7.0))),
            reaching("adam", 1.0),
            reaching("auto", 3.3, notes=["auto: sketched form, rank 64, rather than the kernel form"]),
        ]
    )
    assert cell.goal == 1e-6
    assert cell.times == {"sketched": 3.0, "kernel": 6.0}, "first-order entries have no form"
    assert (cell.winner, cell.lead, cell.second_arrived) == ("sketched", 2.0, True)
    assert cell.ratio("kernel", "sketched") == 0.5
    assert cell.auto_ratio == pytest.approx(1.1)
    assert cell.auto_form == "sketched"


def test_where_nobody_reaches_the_target_the_deepest_milestone_decides():
    (cell,) = cells([reaching("sngd", 4.0, error=5e-4), reaching("engd-w", 1.0, error=5e-2)])
    assert cell.goal == 1e-3
    assert cell.times == {"sketched": 4.0, "kernel": math.inf}
    assert cell.lead == 30.0 / 4.0, "who did not arrive took the budget, at least"
    assert not cell.second_arrived
    assert cell.ratio("kernel", "sketched") == 0.0
    assert math.isnan(cell.auto_ratio)


def test_a_cell_that_no_form_gets_anywhere_in_has_no_winner():
    (cell,) = cells([reaching("sngd", 4.0, error=2.0), reaching("engd-w", 1.0, error=3.0)])
    assert cell.winner is None
    assert math.isnan(cell.goal)
    assert math.isnan(cell.lead)


def test_one_form_alone_is_no_contest():
    assert cells([reaching("sngd", 4.0), reaching("adam", 1.0)]) == []
