"""A run's own record on disk: history.jsonl, result.json."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any, TextIO

from sngd.tracking.base import Values, Writer, plain

__all__ = ["HistoryFile", "ResultFile", "read_history", "write_whole"]


class HistoryFile(Writer):
    """One JSON object a line and a step (JSON Lines), on disk as soon as the step is done.

    A run that goes on from step s of a checkpoint (info["resumed"] = s) keeps its records of steps ≤ s; later
    steps were lost with the process that took them and are taken again.

    Args:
        path: created by `start`. It must not exist yet unless the run goes on, or info["replace"] is true.

    Raises:
        FileExistsError: by `start`; a history is never overwritten by accident or mixed with another.
        ValueError: by `start` of a run that goes on, where the file is damaged.
        OSError: by `start`, where the file cannot be written. Later failures only warn.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._file: TextIO | None = None

    def start(self, info: Values) -> None:
        """Create the file, or cut it back to the step that the run goes on from."""
        resumed = int(info.get("resumed") or 0)
        if resumed:
            self._cut_back(resumed)
        if info.get("replace") and not resumed:
            self.path.unlink(missing_ok=True)
        self._file = self.path.open("a" if resumed else "x", encoding="utf-8")

    def _cut_back(self, resumed: int) -> None:
        records = read_history(self.path) if self.path.exists() else []
        kept = [record for record in records if record.get("step", 0) <= resumed]
        if [record.get("step") for record in kept] != list(range(1, resumed + 1)):  # a full disk, a lost file
            logging.getLogger(__name__).warning(
                "history %s does not hold every step up to %d, which the run goes on from", self.path, resumed
            )
        write_whole(self.path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in kept))

    def step(self, record: Values) -> None:
        """Append one line."""
        self._attempt(lambda: self._write(record), f"history {self.path}")

    def end(self, result: Values) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._abandon()

    def _write(self, record: Values) -> None:
        if self._file is None:
            raise ValueError("step() before start() or after end()")
        self._file.write(json.dumps(plain(record), allow_nan=False) + "\n")
        self._file.flush()

    def _abandon(self, error: Exception | None = None) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The records of a history file; a last line cut off by a killed run is left out.

    Raises:
        ValueError: another line is not a JSON object, named by its number.
    """
    lines = Path(path).read_bytes().rstrip().split(b"\n")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number} must be an object, got {type(record).__name__}")
        records.append(record)
    return records


class ResultFile(Writer):
    """result.json: what `end` is told, written aside and put in place whole.

    Args:
        path: an existing file is replaced.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)

    def end(self, result: Values) -> None:
        """Write the file."""
        self._attempt(lambda: self._write(result), f"result {self.path}")

    def _write(self, result: Values) -> None:
        write_whole(self.path, json.dumps(plain(result), indent=2, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file aside and put it in place whole: whoever looks finds the old one or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
