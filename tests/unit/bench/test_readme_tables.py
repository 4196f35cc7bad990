"""The tables of README.md are those that benchmarks/results give."""

import json
import re

import pytest

from benchmarks.readme import README, races, rewritten, seconds_to, span, table, tables


def run(label: str, seed: int, seconds: float | None, task: str = "heat") -> dict:
    reached = {"1e-6": None if seconds is None else {"seconds": seconds, "step": 3}}
    about = {"parameters": 1297, "points": 1440, "budget": 20.0}
    return {"task": task, "label": label, "seed": seed, "reached": reached, **about}


def test_the_committed_tables_are_what_the_results_give():
    text = README.read_text()
    assert rewritten(text, tables()) == text, "run python -m benchmarks.readme"


def test_a_changed_figure_is_written_and_nothing_else(tmp_path):
    text = README.read_text()
    found = tables()
    spoiled = text.replace(found["rivals"], found["rivals"].replace("1,297", "1,298"))
    assert spoiled != text
    assert rewritten(spoiled, found) == text


def test_a_mark_that_is_missing_is_told():
    with pytest.raises(ValueError, match="<!-- rivals"):
        rewritten("no marks", {"rivals": "x"})


def test_the_first_rival_is_that_of_the_least_median(monkeypatch):
    monkeypatch.setattr("benchmarks.readme._RACES", {"heat": ("heat", "1e-6")})
    ours = [run("sngd", 0, 0.8), run("sngd", 1, 1.04)]
    late = [
        run("spring", 0, 9.0),
        run("spring", 1, 25.0),
        run("ssbroyden", 0, 21.0),
        run("ssbroyden", 1, 22.0),
    ]
    assert (
        races([*ours, *late]).splitlines()[-1]
        == "| heat | 1,297 | 1,440 | 1e-6 | 0.8–1.0 s | 9–25 s, SPRING |"
    )
    half = [run("engd", 0, 8.1), run("engd", 1, None)]
    assert races([*ours, *late, *half]).endswith("SPRING (ENGD 8.1 s in 1 of 2 seeds) |")
    assert races([*ours, run("adam", 0, None)]).endswith("none in 20 s |")


def test_our_own_variants_are_no_published_rivals(monkeypatch):
    monkeypatch.setattr("benchmarks.readme._RACES", {"heat": ("heat", "1e-6")})
    found = races([run("sngd", 0, 0.8), run("engd-tr", 0, 1.0), run("auto", 0, 0.7), run("lbfgs", 0, 9.04)])
    assert found.endswith("| 9.0 s, L-BFGS |")


def test_times_and_tables():
    assert span([0.84, 0.81]) == "0.8 s"
    assert span([9.4, 12.6]) == "9–13 s"
    assert seconds_to(run("sngd", 0, None), "1e-6") == float("inf")
    assert table(("a", ""), [("1", "")]) == "| a | |\n|---|---|\n| 1 | |"


def test_published_figures_carry_hardware_and_source():
    from benchmarks.readme import PUBLISHED

    for row in json.loads(PUBLISHED.read_text())["rows"]:
        assert row["hardware"]
        assert re.fullmatch(r"arXiv \d{4}\.\d{5}", row["source"])
