"""What asks a running training to stop: signals, the end of its time, another start in its place.

    Ctrl-C               "interrupted"   a second one ends at once
    SIGTERM, SIGUSR1     "terminated"    as batch systems send them before they take a machine away
    a deadline           "time_limit"    known from the batch system
    another start        "superseded"    it works in the same run folder, and this one must leave it alone

The step that runs is finished in any case. After all but the last a checkpoint is written, from which the
next start goes on.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["RESUMABLE", "TOLD_TO_END", "Stopping", "end_with_parent"]

# Reasons to stop of someone who will take the machine away soon …
TOLD_TO_END = ("terminated", "time_limit")
# … and all after which a run is not finished.
RESUMABLE = ("interrupted", *TOLD_TO_END)
# What is left of the time when a run stops: enough for the last checkpoint and for all ranks to end …
_MARGIN_SECONDS = 30.0
# … and for so many steps as long as the last one.
_MARGIN_STEPS = 2.0
_SIGNALS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGUSR1: "terminated",
}


_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent ends, however that comes about.

    torchrun dies of SIGUSR1, and any launcher of SIGKILL, without a word to its ranks, which would go on
    without anyone to look after them. Linux only; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


class Stopping:
    """Listens for requests to stop while it is entered; signals as far as this is the main thread.

    Args:
        deadline: Unix time at which the processes will be ended, None for never.
        superseded: whether another start has taken over.
    """

    def __init__(self, deadline: float | None = None, superseded: Callable[[], bool] | None = None) -> None:
        self.deadline, self.superseded = deadline, superseded
        self._heard = ""
        self._previous: dict[signal.Signals, Any] = {}
        self._depth = 0

    def reason(self, step_seconds: float = 0.0) -> str:
        """Why to stop now, empty for no reason.

        Args:
            step_seconds: what the last step took.
        """
        if self.superseded is not None and self.superseded():
            return "superseded"
        if self._heard:
            return self._heard
        margin = _MARGIN_SECONDS + _MARGIN_STEPS * step_seconds
        return "time_limit" if self.deadline is not None and time.time() + margin >= self.deadline else ""

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._heard == "interrupted":
            raise KeyboardInterrupt
        self._heard = _SIGNALS[signal.Signals(number)]

    def __enter__(self) -> Stopping:
        if not self._depth:
            try:
                self._previous = {number: signal.signal(number, self._hear) for number in _SIGNALS}
            except ValueError:  # not in the main thread: leave signals alone
                self._previous = {}
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            for number, previous in self._previous.items():
                signal.signal(number, previous)
