"""Checkpoints written by a thread, while training goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

__all__ = ["THREAD", "Writing"]

THREAD = "sngd-checkpoint"  # begins the name of the thread that writes


class Writing:
    """One write at a time."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._coming: Future[Path | None] | None = None

    @property
    def busy(self) -> bool:
        """Whether one is under way, or its end has not been taken note of."""
        return self._coming is not None

    def begin(self, write: Callable[[], Path | None]) -> None:
        """Start one, after the one before."""
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix=THREAD)
        self._coming = self._thread.submit(write)

    def over(self, wait: bool) -> bool:
        """Whether there is an end to be taken note of.

        Args:
            wait: until there is, where one is under way.
        """
        return self._coming is not None and (wait or self._coming.done())

    def take(self) -> Path | None:
        """What the last one has written, after waiting for it.

        Raises:
            OSError: what went wrong with it.
        """
        assert self._coming is not None
        coming, self._coming = self._coming, None
        return coming.result()

    def close(self) -> None:
        """Let the one under way come to its end, without waiting for it."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
