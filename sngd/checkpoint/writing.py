"""Checkpoints written by a thread, while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["THREAD", "Writing"]

THREAD = "sngd-checkpoint"  # begins the name of the thread that writes


class Writing:
    """One write at a time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._written: Path | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether one is under way, or its end has not been taken note of."""
        return self._thread is not None

    def begin(self, write: Callable[[], Path | None]) -> None:
        """Start one, once the end of the one before has been taken note of."""
        assert self._thread is None

        def work() -> None:
            try:
                self._written = write()
            except BaseException as error:  # whoever takes note of its end is told
                self._error = error

        self._written = self._error = None
        # where ranks write together, one that waits for a lost one must not hold up the end of this process
        self._thread = threading.Thread(target=work, name=THREAD, daemon=True)
        self._thread.start()

    def over(self, wait: bool) -> bool:
        """Whether there is an end to be taken note of.

        Args:
            wait: until there is, where one is under way.
        """
        return self._thread is not None and (wait or not self._thread.is_alive())

    def take(self) -> Path | None:
        """What the last one has written, after waiting for it.

        Raises:
            BaseException: what went wrong with it.
        """
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        if self._error is not None:
            raise self._error
        return self._written

    def close(self, seconds: float) -> None:
        """Let the one under way come to its end, for so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)
