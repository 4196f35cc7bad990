"""Console output as a terminal and as a log."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sngd.tracking import Console
from tests.tracked import INFO, RESULT, record

# Console as a log


def log(records: list[dict[str, Any]], info: dict[str, Any] = INFO) -> list[str]:
    out = io.StringIO()
    hook = Console(file=out)
    hook.start(info)
    for r in records:
        hook.step(r)
    hook.end(RESULT)
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()
    return out.getvalue().splitlines()


def test_a_log_says_what_runs_and_how_it_ended() -> None:
    lines = log([record(1, 2.0)])
    assert lines == [
        "burgers: Network(3-20-1, tanh, P=1,361)",
        "10,240 points, 1,361 parameters, float64, SNGD, 2 ranks on cpu",
        "step 1  2.0 s (1:18 left)  loss 5.00e-01  error 2.50e-01  λ 1.00e-03  rank 64",
        "burgers: max_seconds after 77 steps, 1:15",
        "relative L2 error 1.50e-08, loss 3.00e-15",
        "written to runs/burgers",
    ]


def test_a_log_says_what_started_the_run_and_where_it_goes_on() -> None:
    started = INFO | {"launch": "2 ranks started by torchrun", "plan": ["step in one pass"]}
    assert log([], started)[2:4] == ["2 ranks started by torchrun", "step in one pass"]
    again = log([], INFO | {"resumed": 40})
    assert again[2] == "goes on from step 40 of runs/burgers"
    assert not any("goes on" in line for line in log([], INFO | {"resumed": 0}))


WARNINGS = [
    {"kind": "overfitting", "step": 20, "text": "a"},
    {"kind": "stagnation", "step": 300, "text": "b"},
]


def test_warnings_are_told_as_they_come_and_summed_up_at_the_end() -> None:
    out = io.StringIO()
    hook = Console(file=out)
    hook.start(INFO)
    for step in range(1, 61):
        hook.step(record(step, warnings=["more [points]", "another"] if step == 20 else None))
    hook.end(RESULT | {"warnings": []})
    told = [line for line in out.getvalue().splitlines() if "warning" in line]
    assert told == ["step 20: warning: more [points]", "step 20: warning: another"]
    hook.end(RESULT | {"warnings": WARNINGS})
    assert "2 warnings: overfitting (step 20), stagnation (step 300)" in out.getvalue().splitlines()
    hook.end(RESULT | {"warnings": WARNINGS[:1]})
    assert out.getvalue().splitlines()[-2] == "1 warning: overfitting (step 20)"


def test_what_is_unknown_is_left_out_or_a_dash() -> None:
    unknown = {"relative_l2": None, "damping": None, "rank": None, "loss": math.nan}
    free = INFO | {"max_steps": None, "max_seconds": None, "run_dir": None}
    assert log([record(1, 2.0, **unknown)], free)[2] == "step 1  2.0 s  loss –"
    out = io.StringIO()
    hook = Console(file=out)
    for call, argument in ((hook.start, {}), (hook.step, {}), (hook.end, {})):
        call(argument)
    assert out.getvalue().splitlines()[-2:] == [
        "run: done after 1 steps, 0.0 s",
        "relative L2 error –, loss –",
    ]


def shown(records: list[dict[str, Any]], **info: Any) -> list[int]:
    matches = (re.match(r"step (\d+) ", line) for line in log(records, INFO | info))
    return [int(m[1]) for m in matches if m]


def test_a_short_log_has_the_first_steps_and_every_tenth() -> None:
    assert shown([record(i, i * 1e-3) for i in range(1, 101)], max_steps=100) == [
        *[1, 2, 3],
        *range(10, 101, 10),
    ]


def test_a_log_without_budget_thins_out_but_never_falls_silent() -> None:
    free = {"max_steps": None, "max_seconds": None}
    steps = shown([record(i, float(i)) for i in range(1, 36_001)], **free)
    assert steps[:6] == [1, 2, 3, 8, 13, 18]
    gaps = np.diff(steps)
    assert len(steps) < 160
    assert gaps.max() == 300
    assert (np.diff(gaps)[1:] >= 0).all()


def test_time_left_follows_the_budget_that_ends_first() -> None:
    by_steps = log([record(500, 20.0)], INFO | {"max_seconds": 3600.0})[2]
    assert "(20.0 s left)" in by_steps
    by_time = log([record(5, 7200.0)], INFO | {"max_seconds": 4 * 3600.0})[2]
    assert "2:00:00 (2:00:00 left)" in by_time
    assert "(0.0 s left)" in log([record(5, 99.0)])[2], "a budget overrun has nothing left"


def test_long_lines_and_brackets_are_printed_as_they_are() -> None:
    name = "[bold]" + "x" * 200 + " :smile: [/nothing]"
    assert log([], INFO | {"name": name})[0].startswith(name + ": ")


def test_warnings_are_told_with_their_step_whether_a_line_is_due_or_not() -> None:
    records = [{"step": n, "seconds": 0.01 * n, "loss": 1.0, "warnings": None} for n in range(1, 60)]
    records[6]["warnings"] = ["one thing", "another"]
    told = [line for line in log(records) if "warning" in line]
    assert told == ["step 7: warning: one thing", "step 7: warning: another"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    hook = Console(quiet=True)
    hook.start(INFO)
    hook.step(record(1))
    hook.end(RESULT)
    assert capsys.readouterr() == ("", "")


def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    hook = Console()
    hook.start(INFO)
    hook.end(RESULT)
    assert "max_seconds after 77 steps" in capsys.readouterr().out


def test_an_encoding_without_greek_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    raw = io.BytesIO()
    hook = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    hook.start(INFO)
    hook.step(record(1))
    assert b"? 1.00e-03" in raw.getvalue()
    assert not caplog.records


def test_a_closed_output_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    out = io.StringIO()
    hook = Console(file=out)
    hook.start(INFO)
    out.close()
    for step in range(4):
        hook.step(record(step))
    hook.end(RESULT)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


PROGRAM = """
import sys
from sngd.tracking import Console
hook = Console()
hook.start(dict(name="a", max_steps=20000))
for step in range(20000):
    hook.step(dict(step=step, seconds=10.0 * step, loss=1.0))
hook.end({})
print("another line by someone else", flush=True)
print("finished", file=sys.stderr)
"""


def test_a_reader_that_goes_away_does_not_end_the_run() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as pipe:
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the run goes on without") == 1
    assert done.stderr.endswith("finished\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_under_standard_output_does_not_end_the_run() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert "No space left" in done.stderr
    assert done.stderr.endswith("finished\n")
