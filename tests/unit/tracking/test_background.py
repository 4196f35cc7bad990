"""Calls in the background: none lost, in order, and training neither waits for them nor fails with them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sngd.tracking import background
from sngd.tracking.background import Background, BackgroundWriter
from sngd.tracking.base import Values
from tests.tracked import INFO, RESULT, record


class Tool(BackgroundWriter):
    """A tracker whose tool is a function."""

    def __init__(self, write: Callable[[Values], Any], patience: float = 30.0) -> None:
        super().__init__("tool", patience)
        self.write, self.released, self.finished = write, 0, False

    def step(self, record: Values) -> None:
        self._later(lambda: self.write(record))

    def _finish(self) -> None:
        self.finished = True

    def _release(self) -> None:
        self.released += 1


def run(tool: Tool, steps: int) -> None:
    tool.start(INFO)
    for number in range(1, steps + 1):
        tool.step(record(number))
    tool.end(RESULT)
    tool.drawn([])
    tool.close()


def test_every_call_is_carried_out_once_in_order_by_one_other_thread() -> None:
    seen: list[int] = []
    threads: set[int] = set()

    def write(values: Values) -> None:
        seen.append(values["step"])
        threads.add(threading.get_ident())

    tool = Tool(write)
    run(tool, 1000)
    assert seen == list(range(1, 1001))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert tool.finished


def test_a_tool_that_hangs_does_not_hold_training_up_and_is_left_after_its_patience(
    caplog: pytest.LogCaptureFixture,
) -> None:
    never = threading.Event()
    tool = Tool(lambda values: never.wait(), patience=0.2)
    for number in range(1000):
        tool.step(record(number))
    before = threading.active_count()
    tool.close()
    tool.close()
    assert threading.active_count() == before, "it hangs still"
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "TimeoutError('not done after 0 s" in caplog.text
    never.set()


def test_a_tool_that_fails_is_told_once_and_let_go_of(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def write(values: Values) -> None:
        seen.append(values["step"])
        if values["step"] == 3:
            raise OSError(28, "No space left on device")

    tool = Tool(write)
    run(tool, 10)
    assert seen == [1, 2, 3]
    assert (tool.released, tool.finished) == (1, False)
    assert len(caplog.records) == 1
    assert "tool: OSError(28, 'No space left on device'); the run goes on without" in caplog.text


def test_a_tool_that_does_not_keep_up_is_given_up_before_it_takes_all_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_MOST_WAITING", 10)
    never = threading.Event()
    tool = Tool(lambda values: never.wait(), patience=0.1)
    for number in range(100):
        tool.step(record(number))
    assert len(tool._background._calls) <= 10
    assert len(caplog.records) == 1
    assert "it does not keep up" in caplog.text
    never.set()


def test_no_thread_is_started_for_nothing_and_none_stays() -> None:
    idle = Background("idle")
    assert idle.close(1.0)
    busy = Background("busy")
    done: list[int] = []
    busy.put(lambda: done.append(1))
    assert busy.close(10.0)
    busy.put(lambda: done.append(2))
    assert done == [1]
    assert not {"idle", "busy"} & {thread.name for thread in threading.enumerate()}


def test_what_comes_late_is_carried_out_without_a_close() -> None:
    done = threading.Event()
    busy = Background("busy", together=0.01)
    busy.put(lambda: None)
    time.sleep(0.05)
    busy.put(done.set)
    assert done.wait(10.0)
    busy.close(10.0)
