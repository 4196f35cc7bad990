"""A thread of its own for trackers that may be slow: training hands calls over and goes on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from sngd.tracking.base import Writer

__all__ = ["Background", "BackgroundWriter"]

_MOST_WAITING = 100_000  # calls; a record takes about 2 kB, so a tracker that hangs takes 200 MB at most
_TOGETHER = 1.0  # seconds; calls wait so long for company: the fewer wake-ups, the less a step is disturbed


class Background:
    """Calls carried out one after another in a daemon thread.

    Args:
        name: of the thread.
        together: seconds that a call may wait for others before the thread wakes up.
        flush: called after calls that were carried out together; must not raise.
    """

    def __init__(
        self, name: str, together: float = _TOGETHER, flush: Callable[[], None] = lambda: None
    ) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._together, self._flush, self._closing = together, flush, threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def put(self, call: Callable[[], None]) -> None:
        """Hand a call over; returns at once. After `close` it is dropped.

        Raises:
            RuntimeError: too many wait; the thread hangs or does not keep up.
        """
        if len(self._calls) >= _MOST_WAITING:
            raise RuntimeError(f"{len(self._calls):,} calls wait, it does not keep up")
        if not self._closing.is_set():
            self._calls.append(call)
            if self._thread.ident is None:
                self._thread.start()

    def drop(self) -> None:
        """Forget the calls that wait."""
        self._calls.clear()

    def close(self, seconds: float) -> bool:
        """Wait for the calls, but no longer than so many seconds; whether all were carried out in time."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()  # read before the calls: none is put after it
            while call := self._next():
                call()
            self._flush()
            if closing:
                return
            self._closing.wait(self._together)

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._calls.popleft()
        except IndexError:  # none, or dropped meanwhile
            return None


class BackgroundWriter(Writer):
    """A hook that works in the background. The first call that fails is told once, later ones are dropped.

    Args:
        what: of the tool, for a warning.
        patience: seconds that `close` waits for what has not been written yet.
    """

    def __init__(self, what: str, patience: float = 30.0) -> None:
        super().__init__()
        self._what, self._patience = what, patience
        self._background = Background(what, flush=lambda: self._try(self._flush))
        self._closed = False

    def _later(self, call: Callable[[], None]) -> None:
        """Carry out a call in the background, after those before it."""
        if self._failed:
            return
        try:
            self._background.put(lambda: self._try(call))
        except RuntimeError as error:
            self._background.drop()
            self._give_up(error)

    def _try(self, call: Callable[[], None]) -> None:
        if not self._failed:
            self._attempt(call, self._what)
            if self._failed:
                with contextlib.suppress(Exception):
                    self._release()

    def _flush(self) -> None:
        """After calls that were carried out together."""

    def _finish(self) -> None:
        """The last call of all."""

    def _release(self) -> None:
        """Let go of the tool after a call that failed; in the background, too."""

    def close(self) -> None:
        """Wait for the tool, at most `patience` seconds."""
        if self._closed:
            return
        self._closed = True
        self._later(self._finish)
        began = time.monotonic()
        if not self._background.close(self._patience):
            waited = time.monotonic() - began
            self._give_up(TimeoutError(f"not done after {waited:.0f} s, what is left may be lost"))

    def _give_up(self, error: Exception) -> None:
        """Warn of an error, unless there was one."""

        def fail() -> None:
            raise error

        self._attempt(fail, self._what)
