"""Console output as a terminal and as a log."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np
import pytest

from sngd.tracking import Console, console
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


# Console on a terminal


class Terminal:
    """A pseudo-terminal that takes what is written; `read` gives what is new."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.file: TextIO = os.fdopen(slave, "w", encoding="utf-8")
        self._lock, self._chunks, self._closing = threading.Lock(), list[bytes](), threading.Event()
        self._reader = threading.Thread(target=self._take_all)
        self._reader.start()  # it holds 4 kB: whoever writes more waits until they are read

    def _take_all(self) -> None:
        while not self._closing.wait(0.002):
            self._take()

    def _take(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.master, 65536):
                self._chunks.append(chunk)

    def read(self) -> str:
        self._take()
        with self._lock:
            chunks, self._chunks = self._chunks, []
        return b"".join(chunks).decode()

    def close(self) -> None:
        self._closing.set()
        self._reader.join()
        self.file.close()
        os.close(self.master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    opened = Terminal()
    yield opened
    opened.close()


def plain(text: str) -> str:
    """Without what moves the cursor or sets colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")


def test_a_terminal_has_a_panel_in_place(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(1, 100, 0.05))  # 20 steps a second
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    hook = Console(file=terminal.file)
    hook.start(INFO)
    terminal.read()
    for step in range(1, 101):
        hook.step(record(step, 0.05 * step))
    live = terminal.read()
    drawn = [int(n) for n in re.findall(r"step (\d+)", plain(live))]
    assert drawn[0] == 1
    assert 15 <= len(drawn) <= 20, "five seconds at no more than four a second"
    assert live.count("\x1b[1A") >= live.count("\n") - 8, "it is redrawn in place"
    hook.end(RESULT)
    rest = terminal.read()
    assert "\x1b[?25h" in rest, "the cursor is back"
    assert "max_seconds after 77 steps" in rest


@pytest.mark.parametrize(("columns", "lines", "panel"), [(60, 12, True), (59, 30, False), (200, 11, False)])
def test_a_small_terminal_has_one_live_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int, lines: int, panel: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    hook = Console(file=terminal.file)
    hook.start(INFO)
    terminal.read()
    hook.step(record(1, 3.0))
    shown = plain(terminal.read()).strip().splitlines()
    assert (len(shown) > 1) is panel
    assert max(map(len, shown)) <= columns
    assert ("╭" in shown[0]) is panel
    hook.close()


def test_a_terminal_that_is_made_smaller_and_larger_again(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Console(file=terminal.file)
    hook.start(INFO)
    lengths = []
    for step, lines in enumerate([30, 5, 30]):
        hook._out.height = lines
        monkeypatch.setattr(hook, "_drawn", -math.inf)
        terminal.read()
        hook.step(record(step, float(step)))
        lengths.append(plain(terminal.read()).strip().count("\n"))
    assert lengths[0] == lengths[2] > lengths[1] == 0
    hook.close()


@pytest.mark.parametrize("colour", [False, True])
def test_no_color_leaves_colours_out(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, colour: bool
) -> None:
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    hook = Console(file=terminal.file)
    hook.start(INFO)
    hook.step(record(1, 1.0))
    assert bool(re.search(r"\x1b\[(\d+;)*3[0-7]m", terminal.read())) is colour
    hook.close()


def test_a_dumb_terminal_and_a_log_with_colours_get_plain_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    hook = Console(file=terminal.file)
    hook.start(INFO)
    hook.step(record(1, 1.0))
    hook.end(RESULT)
    assert "\x1b" not in terminal.read()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    hook = Console(file=out)
    hook.start(INFO)
    hook.step(record(1, 1.0))
    hook.end(RESULT)
    assert "\x1b" not in out.getvalue()


def test_a_terminal_without_box_characters_gets_ascii(terminal: Terminal) -> None:
    terminal.file.reconfigure(encoding="ascii")  # type: ignore[attr-defined]
    hook = Console(file=terminal.file)
    hook.start(INFO)
    hook.step(record(1, 1.0))
    hook.close()
    shown = plain(terminal.read())
    assert "+- burgers ---" in shown
    assert "?" not in shown


def test_a_warning_stands_above_the_live_line(terminal: Terminal) -> None:
    hook = Console(file=terminal.file)
    hook.start(INFO)
    hook.step(record(1, 1.0))
    terminal.read()
    hook.step(record(2, 1.1, warnings=["x" * 150]))
    told = plain(terminal.read())
    assert "step 2: warning: " + "x" * 150 + "\n" in told
    assert told.rindex("step 1 ") > told.index("warning"), "the panel is drawn again below"
    hook.close()


def test_a_narrow_terminal_cuts_the_line_short(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    hook = Console(file=terminal.file)
    hook.start(INFO)
    terminal.read()
    hook.step(record(1, 3.0))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.read()).strip()
    assert text.startswith("step 1  3.0 s")
    assert text.endswith("…")
    assert len(text) <= 40
    hook.close()


def test_steps_cost_next_to_nothing(terminal: Terminal) -> None:
    hook = Console(file=terminal.file)
    hook.start(INFO)
    began = time.perf_counter()
    for step in range(10_000):
        hook.step(record(step))
    spent = time.perf_counter() - began
    hook.close()
    assert spent < 1.0, f"10,000 steps took {spent:.2f} s"


def test_close_gives_the_terminal_back_once(terminal: Terminal) -> None:
    stdout = sys.stdout
    hook = Console(file=terminal.file)
    hook.start(INFO)
    hook.step(record(1))
    assert "\x1b[?25l" in terminal.read(), "the cursor hides while the line lives"
    hook.close()
    assert "\x1b[?25h" in terminal.read()
    assert sys.stdout is stdout
    hook.close()
    assert terminal.read() == ""


def test_a_terminal_that_breaks_is_let_go(terminal: Terminal, caplog: pytest.LogCaptureFixture) -> None:
    stdout = sys.stdout
    hook = Console(file=terminal.file)
    hook.start(INFO)
    hook._live.update = lambda *a, **k: 1 / 0  # type: ignore[union-attr, assignment]
    hook.step(record(1))
    hook.step(record(2))
    hook.end(RESULT)
    assert len(caplog.records) == 1
    assert sys.stdout is stdout
    assert "\x1b[?25h" in terminal.read()
