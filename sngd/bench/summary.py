"""Medians and ranges over seeds, and who wins: pure functions of records.

Letters
    N, P     residual points and parameters of a task
    form     sketched, kernel or exact: how a natural-gradient step is solved
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sngd.bench.store import MILESTONES, milestone_name

__all__ = ["Cell", "Row", "Spread", "cells", "rows", "shown_milestones", "spread"]

Record = dict[str, Any]

# "auto" is right where it takes at most so many times the winner's seconds.
NEAR = 1.2
# How notes of a step call the forms.
_FORM_WORDS = {"sketched": "sketch", "kernel": "kernel", "exact": "exact"}


@dataclass(frozen=True)
class Spread:
    """Median and range over seeds.

    Args:
        median: nan when more than half of the seeds have no value.
        low: least value.
        high: greatest value.
        count: seeds with a value.
        of: seeds.
    """

    median: float
    low: float
    high: float
    count: int
    of: int


def spread(values: Sequence[float | None]) -> Spread:
    """Median and range; a seed without a value counts as slower, or greater, than any that has one."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    of = len(values)
    if not known or 2 * len(known) < of:
        return Spread(
            math.nan, *((min(known), max(known)) if known else (math.nan, math.nan)), len(known), of
        )
    padded = known + [math.inf] * (of - len(known))
    # between a value and none there is no middle: the value stands
    median = statistics.median(padded) if len(known) == of else statistics.median_low(padded)
    return Spread(median, min(known), max(known), len(known), of)


@dataclass(frozen=True)
class Row:
    """One optimizer on one task.

    Args:
        label: the entry.
        times: seconds to each milestone, by its name.
        error: at the end.
        memory: peak, bytes.
        step: seconds per step.
        steps: steps taken.
        failures: how many runs failed in which way.
    """

    label: str
    times: dict[str, Spread]
    error: Spread
    memory: Spread
    step: Spread
    steps: Spread
    failures: Counter[str]


def rows(records: Sequence[Record]) -> list[Row]:
    """One row per entry, of the records of one task."""
    made = []
    for label in dict.fromkeys(r["label"] for r in records):
        mine = [r for r in records if r["label"] == label]
        names = dict.fromkeys(name for r in mine for name in r["reached"])
        made.append(
            Row(
                label,
                {name: spread([_time(r, name) for r in mine]) for name in names},
                spread([r["relative_l2"] for r in mine]),
                spread([r["peak_memory_bytes"] for r in mine]),
                spread([r["seconds"] / r["steps"] if r["steps"] else None for r in mine]),
                spread([r["steps"] or None for r in mine]),
                Counter(r["failure"] for r in mine if r["failure"]),
            )
        )
    return made


def _time(record: Record, name: str) -> float | None:
    hit = record["reached"].get(name)
    return None if hit is None else float(hit["seconds"])


def shown_milestones(table: Sequence[Row]) -> list[str]:
    """Every other decade from 1e-2 on that some entry reached; all decades where that leaves one or none."""
    reached = {name for row in table for name, s in row.times.items() if not math.isnan(s.median)}
    decades = [e for e in MILESTONES if e <= 1e-2 and milestone_name(e) in reached and _decade(e) is not None]
    even = [e for e in decades if (_decade(e) or 0) % 2 == 0]
    return [milestone_name(e) for e in (even if len(even) > 1 else decades)]


def _decade(error: float) -> int | None:
    exponent = round(math.log10(error))
    return exponent if math.isclose(error, 10.0**exponent) else None


# ---------------------------------------------------------------------------------------------
# Who wins
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One task as a contest between forms.

    Args:
        task: its name.
        points: N.
        parameters: P.
        goal: the error that the times are to; nan when no form reached any.
        times: least median seconds to the goal of each form that was run, inf where it was not reached.
        budget: seconds that a run had.
        chosen: of "auto": its seconds to the goal, inf where it was not reached; None when it was not run.
        auto_form: what "auto" says it chose; empty when it says nothing.
    """

    task: str
    points: int
    parameters: int
    goal: float
    times: dict[str, float]
    budget: float
    chosen: float | None
    auto_form: str = ""

    @property
    def winner(self) -> str | None:
        """The form that was first; None when none reached a goal."""
        form = min(self.times, key=self.times.__getitem__)
        return form if math.isfinite(self.times[form]) else None

    def ratio(self, form: str, rival: str) -> float:
        """How many times longer the rival took than the form.

        A rival that did not get there took its budget, and no less than the form, whose last step may have
        begun within the budget and ended after it. 0 when the form did not get there but the rival did; nan
        when neither did.
        """
        mine, other = self.times[form], self.times[rival]
        if not math.isfinite(mine):
            return 0.0 if math.isfinite(other) else math.nan
        return (other if math.isfinite(other) else max(self.budget, mine)) / mine

    @property
    def second_arrived(self) -> bool:
        """Whether more than one form reached the goal; else `lead` is a lower bound."""
        return sum(map(math.isfinite, self.times.values())) > 1

    @property
    def lead(self) -> float:
        """How many times longer the second took than the winner."""
        winner = self.winner
        if winner is None:
            return math.nan
        return min(self.ratio(winner, rival) for rival in self.times if rival != winner)

    @property
    def auto_ratio(self) -> float:
        """Seconds of "auto" over those of the winner; inf when it did not arrive, nan when it was not run."""
        winner = self.winner
        if winner is None or self.chosen is None:
            return math.nan
        return self.chosen / self.times[winner]


def cells(records: Iterable[Record]) -> list[Cell]:
    """The tasks that at least two forms were run on.

    The goal is the task's target where a form reached it, else the smallest milestone that one reached, in at
    least half of its seeds.
    """
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_task.setdefault(record["task"], []).append(record)
    made = []
    for task, mine in by_task.items():
        forms = dict.fromkeys(r["form"] for r in mine if r["form"])
        sized = next((r for r in mine if r["parameters"]), None)
        if len(forms) < 2 or sized is None:
            continue
        table = rows(mine)
        form_of = {r["label"]: r["form"] for r in mine}
        goal = _goal([row for row in table if form_of[row.label]], mine[0]["target"])
        times = dict.fromkeys(forms, math.inf)
        chosen: float | None = None
        for row in table:
            time = _median(row, goal)
            if form := form_of[row.label]:
                times[form] = min(times[form], time)
            elif row.label == "auto":
                chosen = time
        budget = float(mine[0]["budget"])
        size = sized["points"], sized["parameters"]
        made.append(Cell(task, *size, goal, times, budget, chosen, _auto_form(mine)))
    return made


def _auto_form(records: Sequence[Record]) -> str:
    """The form that the notes of "auto" name first."""
    notes = " ".join(note for r in records if r["label"] == "auto" for note in r["notes"])
    found = {form: notes.find(word) for form, word in _FORM_WORDS.items() if word in notes}
    return min(found, key=found.__getitem__, default="")


def _goal(table: Sequence[Row], target: float) -> float:
    for goal in [target, *sorted(MILESTONES)]:
        if any(math.isfinite(_median(row, goal)) for row in table):
            return goal
    return math.nan


def _median(row: Row, goal: float) -> float:
    reached = row.times.get(milestone_name(goal)) if math.isfinite(goal) else None
    return math.inf if reached is None or math.isnan(reached.median) else max(reached.median, 1e-9)
