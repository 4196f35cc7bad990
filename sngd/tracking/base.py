"""What every hook of the training loop has in common."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sngd.tracking.wandb_worker import flat

__all__ = ["Values", "Writer", "flat", "numbers", "plain"]

Values = Mapping[str, Any]


class Writer:
    """A hook that writes somewhere; base of the others, which override what they need.

    The first failure to write is logged as a warning, later calls do nothing.
    """

    def __init__(self) -> None:
        self._failed, self._lock = False, threading.Lock()

    def start(self, info: Values) -> None:
        """Before the first step; info describes the run."""

    def step(self, record: Values) -> None:
        """After every step; record is its line of the history."""

    def saved(self, path: Path, step: int) -> None:
        """After a checkpoint: its file or folder, and the step that it holds."""

    def end(self, result: Values) -> None:
        """After the last step."""

    def drawn(self, pictures: Sequence[Path]) -> None:
        """After `end`: the pictures of the run."""

    def close(self) -> None:
        """Let go of everything, last of all and where a run breaks off. Harmless when repeated."""

    def _attempt(self, write: Callable[[], None], what: str) -> None:
        if self._failed:
            return
        try:
            write()
        except Exception as error:  # whatever breaks here is worth less than the run
            with self._lock:  # some hooks work in several threads
                known, self._failed = self._failed, True
            if known:
                return
            logging.getLogger(__name__).warning("%s: %r; the run goes on without", what, error)
            self._abandon(error)

    def _abandon(self, error: Exception | None = None) -> None:
        """Let go of what could not be written to."""


def plain(value: Any) -> Any:
    """The value as JSON knows it: nan and ±inf become null, arrays and tensors become lists."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch, scalars too
        return plain(value.tolist())
    return str(value)


def numbers(values: Values) -> dict[str, float]:
    """The numbers among flat values; True and False count as 1 and 0."""
    return {key: float(value) for key, value in flat(values).items() if isinstance(value, (bool, int, float))}
