"""Console output on a terminal: the panel, the one live line, and terminals that can do less."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import numpy as np
import pytest

from sngd.tracking import Console, console
from tests.tracked import INFO, RESULT, record

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
