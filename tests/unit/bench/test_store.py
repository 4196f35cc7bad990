"""Results files: what is kept of a run, what counts as done, and that the file is always whole."""

import dataclasses
import itertools
import json

import pytest

from sngd.bench.definition import Entry, Suite, Task, jobs_of
from sngd.bench.store import CURVE_POINTS, Outcome, Store, milestone_name, read, record_of, thin
from sngd.networks import MLP
from tests.bench_records import ABOUT

SUITE = Suite(
    "Two tasks.",
    {
        "one": Task("heat", {"interior": 60, "initial": 10, "walls": 20}, MLP((8,)), 1.0, 1e-3),
        "two": Task("poisson2d", {"interior": 60, "boundary": 20}, MLP((8,)), 1.0, 1e-3),
    },
    {"sngd": Entry("sngd"), "small": Entry("sngd", {"rank": 4})},
    seeds=2,
)
JOBS = list(jobs_of(SUITE))
ROWS = [[0.5, 1, 0.2, 1.0], [1.0, 2, None, 0.5], [1.5, 3, 4e-4, 0.25]]
END = {
    **{"relative_l2": 4e-4, "loss": 0.25, "steps": 3, "seconds": 1.5},
    **{"peak_memory_bytes": 1, "stop_reason": "target_error"},
}


def outcome(**more):
    return Outcome(**{"rows": ROWS, "end": dict(END), **more})


def test_jobs_are_tasks_times_entries_times_seeds_with_seeds_outermost():
    assert [job.key for job in JOBS] == [
        (task, label, seed) for seed in (0, 1) for task in ("one", "two") for label in ("sngd", "small")
    ]
    assert len({job.hash for job in JOBS}) == len(JOBS)


def test_names_of_milestones():
    assert [milestone_name(e) for e in (1e-2, 1.5e-7, 1e-12, 0.1)] == ["1e-2", "1.5e-7", "1e-12", "1e-1"]


def test_a_record_has_the_first_time_to_each_error_and_the_curve():
    record = record_of(JOBS[0], outcome(), ABOUT)
    assert record["reached"]["1e-1"] == record["reached"]["1e-3"] == {"seconds": 1.5, "step": 3}
    assert record["reached"]["1e-4"] is None
    assert record["curve"] == {
        **{"seconds": [0.5, 1.5], "step": [1, 3], "error": [0.2, 4e-4], "loss": [1.0, 0.25]}
    }
    assert record["commit"] == "abc123"
    json.dumps(record, allow_nan=False)


def test_the_error_at_the_end_ends_the_curve_where_the_last_step_was_not_compared():
    rows = [[0.5, 1, 0.2, 1.0], [1.0, 2, None, 0.5]]
    record = record_of(JOBS[0], outcome(rows=rows), ABOUT)
    assert record["curve"]["step"] == [1, 3]
    assert record["curve"]["error"] == [0.2, 4e-4]


@pytest.mark.parametrize("rows", [ROWS, []], ids=["broken off", "never began"])
def test_a_failure_keeps_what_there_was(rows):
    broken = outcome(rows=rows, end=None, failure="time-out", message="killed after 61 s")
    record = record_of(JOBS[0], broken, ABOUT)
    assert record["failure"] == "time-out"
    assert (record["relative_l2"], record["steps"]) == ((4e-4, 3) if rows else (None, 0))
    assert record["peak_memory_bytes"] is None
    json.dumps(record, allow_nan=False)


def test_a_long_curve_is_thinned_evenly_in_log_time():
    rows = [[0.01 * i, i, 1.0 / i, 1.0] for i in range(1, 20_001)]
    kept = thin(rows)
    assert CURVE_POINTS / 2 < len(kept) <= CURVE_POINTS
    assert (kept[0], kept[-1]) == (rows[0], rows[-1])
    steps = [row[1] for row in kept]
    assert steps == sorted(set(steps))
    ratios = [b / a for a, b in itertools.pairwise(steps[60:])]
    assert max(ratios) < 1.1
    assert thin(rows[:CURVE_POINTS]) == rows[:CURVE_POINTS]


def test_what_is_stored_is_done_until_the_question_changes(tmp_path):
    store = Store(tmp_path / "sub" / "s.json", "s", SUITE)
    for job in reversed(JOBS):
        store.add(record_of(job, outcome(), ABOUT))
    again = Store(store.path, "s", SUITE)
    assert all(again.done(job) for job in JOBS)
    assert [(r["task"], r["label"], r["seed"]) for r in read(store.path)["runs"]] == sorted(
        (job.key for job in JOBS), key=lambda key: (key[0], key[1] != "sngd", key[2])
    )
    wider = dict(SUITE.entries, small=Entry("sngd", {"rank": 8}))
    changed = list(jobs_of(dataclasses.replace(SUITE, entries=wider)))
    assert [again.done(job) is None for job in changed] == [job.label == "small" for job in changed]
    assert all(again.done(job) is None for job in jobs_of(SUITE, threads=2))


def test_another_default_makes_a_record_stale_and_a_new_field_does_not(tmp_path):
    store = Store(tmp_path / "s.json", "s", SUITE)
    store.add(record_of(JOBS[0], outcome(), ABOUT))
    config = JOBS[0].config
    newer = {**config, "optimizer": {**config["optimizer"], "invented": 3}}
    assert store.done(dataclasses.replace(JOBS[0], config=newer))
    other = {**config, "optimizer": {**config["optimizer"], "corrections": 3}}
    assert store.done(dataclasses.replace(JOBS[0], config=other)) is None


def test_records_that_the_suite_no_longer_has_are_left_out(tmp_path):
    store = Store(tmp_path / "s.json", "s", SUITE)
    for job in JOBS:
        store.add(record_of(job, outcome(), ABOUT))
    smaller = dataclasses.replace(SUITE, entries={"sngd": Entry("sngd")})
    assert {r["label"] for r in Store(store.path, "s", smaller).content()["runs"]} == {"sngd"}


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    store = Store(tmp_path / "s.json", "s", SUITE)
    store.add(record_of(JOBS[0], outcome(), ABOUT))
    before = store.path.read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.add(record_of(JOBS[1], outcome(), ABOUT))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("text", ['{"suite": "s", "ru', "[1]", '{"runs": 3}'])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        Store(path, "s", SUITE)
    assert str(path) in str(caught.value)
    assert path.read_text() == text
