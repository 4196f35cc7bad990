"""The page of all results: its answer follows from numbers, and the committed one from committed results."""

import re
from pathlib import Path

import pytest

from sngd.bench.definition import Suite
from sngd.bench.report import answer, read_all, report, write_report
from sngd.bench.store import Store
from tests.bench_records import content, reaching, record

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def test_the_committed_page_is_what_the_committed_results_give():
    assert (BENCHMARKS / "README.md").read_text() == report(read_all(BENCHMARKS))


def test_the_committed_page_points_at_pictures_that_are_there():
    for target in re.findall(r"\]\(([^)]+\.png)\)", (BENCHMARKS / "README.md").read_text()):
        assert (BENCHMARKS / target).is_file(), target


def crossover(outcomes):
    """Cells of (N, seconds of sketched, of kernel), with P = 1,000."""
    runs = []
    for points, sketched, kernel in outcomes:
        size = {"points": points, "parameters": 1000, "task": f"N={points}"}
        runs += [reaching("sngd", sketched, **size), reaching("engd-w", kernel, **size)]
    return {("device", "crossover"): content("crossover", "map", runs)}


VERDICTS = {
    "always": (
        [(500, 1.0, 2.0), (2000, 1.0, 8.0), (4000, 1.0, 4.0)],
        "**The kernel form does not make sketching needless: the sketched form was ahead of it in 3 of 3 "
        "cells, by a factor of 4.0 in the median.** Of all forms, with N ≥ P the sketched form was first "
        "in 2 (by 6.0 over the next), the kernel form in none of 2; with N < P the sketched form was "
        "first in 1 (by 2.0 over the next), the kernel form in none of 1.",
    ),
    "mostly": (
        [(500, 3.0, 1.0), (2000, 1.0, 5.0)],
        "**The kernel form does not make sketching needless, though it is ahead in some cases: the "
        "sketched form was ahead of it in 1 of 2 cells, by a factor of 5.0 in the median.** Of all forms, "
        "with N ≥ P the sketched form was first in 1 (by 5.0 over the next), the kernel form in none of "
        "1; with N < P the kernel form was first in 1 (by 3.0 over the next), the sketched form in none "
        "of 1.",
    ),
    "seldom": (
        [(500, 3.0, 1.0), (600, 3.0, 1.0), (2000, 1.0, 25.0)],
        "**The kernel form makes sketching needless in most cases, not in all: the sketched form was "
        "ahead of it in 1 of 3 cells, by a factor of 25 in the median.** Of all forms, with N ≥ P the "
        "sketched form was first in 1 (by 25 over the next), the kernel form in none of 1; with N < P the "
        "kernel form was first in 2 (by 3.0 over the next), the sketched form in none of 2.",
    ),
    "never": (
        [(500, 3.0, 1.0)],
        "**The kernel form makes sketching needless: the sketched form was ahead of it in 0 of 1 cells.** "
        "Of all forms, with N < P the kernel form was first in 1 (by 3.0 over the next), the sketched "
        "form in none of 1.",
    ),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_answer_follows_from_the_numbers(name):
    outcomes, text = VERDICTS[name]
    assert answer(crossover(outcomes)) == text


def test_the_answer_says_how_near_auto_came():
    found = crossover([(2000, 1.0, 5.0), (4000, 1.0, 5.0)])
    for points, seconds in ((2000, 1.1), (4000, 1.3)):
        size = {"points": points, "parameters": 1000, "task": f"N={points}"}
        found["device", "crossover"]["runs"].append(reaching("auto", seconds, **size))
    assert answer(found).endswith("; `auto` took at most 1.2 times as long as the winner in 1 of 2.")


def test_a_form_that_did_not_arrive_gives_a_lower_bound():
    found = crossover([(2000, 2.0, 5.0)])
    size = {"points": 3000, "parameters": 1000, "task": "N=3000"}
    late = [reaching("sngd", 2.0, **size), reaching("engd-w", 20.0, error=0.5, **size)]
    found["device", "crossover"]["runs"] += late
    said = answer(found)
    assert "in 2 of 2 cells, by a factor of at least 8.8 in the median" in said, "30 s of budget over 2 s"
    assert "was first in 2 (by at least 8.8 over the next)" in said


def test_rivals_answer_where_there_is_no_crossover():
    runs = [reaching("sngd", 1.0), reaching("engd-w", 2.0), reaching("engd", 1.5), reaching("adam", 9.0)]
    said = answer({("device", "rivals"): content("rivals", "race", runs)})
    assert "in 1 of 1 problems, by a factor of 2.0" in said
    assert "the sketched form was first in 1 (by 1.5 over the next)" in said


def test_without_contests_there_is_no_answer():
    runs = [reaching("sngd", 1.0), reaching("adam", 2.0)]
    said = answer({("device", "rivals"): content("rivals", "race", runs)})
    assert said == answer({})
    assert "not measured yet" in said


def test_a_race_is_told_in_a_table(tmp_path):
    runs = [record("sngd", [(0.5, 5e-3), (2.0, 1e-7)], seed=0), record("sngd", [(0.6, 5e-3)], seed=1)]
    runs += [record("adam", [(12.3, 0.5)], seed=seed, failure="time-out") for seed in (0, 1)]
    page = report({("device", "rivals"): content("rivals", "race", runs)})
    assert "P = 500, N = 2,000, 30 s, 2 seeds." in page
    assert "`sngd bench rivals` on Abacus, 2 cores, torch 2.13.0, Python 3.11.7; 1 thread a process" in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines[0] == "|  | 1e-2 [s] | 1e-4 [s] | 1e-6 [s] | final error | memory [MB] | s/step | failed |"
    assert lines[2].startswith(
        "| sngd | 0.55 (0.50–0.60) | 2.0 1/2 | 2.0 1/2 | 2.5e-03 (1.0e-07–5.0e-03) | 300 |"
    )
    assert lines[3].startswith("| adam | – | – | – | 5.0e-01 | – |")
    assert lines[3].endswith("| 2 time-out |")
    assert "- adam: time-out, it broke" in page
    assert "![heat: error over time and over steps](results/device/rivals/heat.png)" in page


def test_a_map_and_a_scaling_are_told_in_tables():
    found = crossover([(2000, 1.5, 6.0)])
    scaled = [reaching("sngd", 2.0, task=f"strong {ranks}", ranks=ranks) for ranks in (1, 2)]
    found["device", "scaling"] = content("scaling", "scaling", scaled)
    page = report(found)
    assert "| 2,000 | 1,000 | 1e-6 | 1.5 | 6 | – | sketched |" in page
    assert "strong 2: P = 500, N = 2,000, 30 s, 1 seed, 2 ranks." in page
    assert "(results/device/scaling/scaling.png)" in page


def test_all_devices_and_suites_are_on_the_page(tmp_path):
    for device in ("abacus", "slide-rule"):
        store = Store(
            tmp_path / "results" / device / "s.json", "s", Suite("About.", {"heat": None}, {"sngd": None})
        )
        store.add(reaching("sngd", 1.0))
        (store.path.parent / "jacobian.json").write_text('{"seconds": 3}')
    page = write_report(tmp_path, draw=True).read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## abacus", "## slide-rule"]
    assert (tmp_path / "results" / "slide-rule" / "s" / "heat.png").is_file()
