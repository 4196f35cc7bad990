"""A run's own record on disk: history.jsonl, result.json."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

from sngd.tracking.base import Values, Writer, plain

__all__ = ["HistoryFile", "ResultFile", "read_history", "write_whole"]


class HistoryFile(Writer):
    """One JSON object a line and a step (JSON Lines), on disk as soon as the step is done.

    A run that goes on from step s of a checkpoint (info["resumed"] = s) keeps its records of steps ≤ s; later
    steps were lost with the process that took them and are taken again. Lines that cannot be written (full
    disk) are kept, told of once, and written with the next one that can.

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
        self._file: BinaryIO | None = None
        self._kept, self._whole, self._told = b"", 0, False

    def start(self, info: Values) -> None:
        """Create the file, or cut it back to the step that the run goes on from."""
        resumed = int(info.get("resumed") or 0)
        if resumed:
            self._cut_back(resumed)
        if info.get("replace") and not resumed:
            self.path.unlink(missing_ok=True)
        if not resumed:
            self.path.touch(exist_ok=False)
        self._file = self.path.open("ab", buffering=0)  # at the end, also after a cut
        self._whole = self._file.tell()

    def _cut_back(self, resumed: int) -> None:
        records = read_history(self.path) if self.path.exists() else []
        kept = [record for record in records if record.get("step", 0) <= resumed]
        if [record.get("step") for record in kept] != list(range(1, resumed + 1)):  # a lost file
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
        """Close the file, after a last try to write what it lacks."""
        if self._kept and self._file is not None:
            self._write_kept()
        if lacking := self._kept.count(b"\n"):
            logging.getLogger(__name__).warning(
                "history %s ends without the last %d steps", self.path, lacking
            )
            self._kept = b""
        self._abandon()

    def _write(self, record: Values) -> None:
        if self._file is None:
            raise ValueError("step() before start() or after end()")
        self._kept += json.dumps(plain(record), allow_nan=False).encode() + b"\n"
        self._write_kept()

    def _write_kept(self) -> None:
        """Write all that is kept, or nothing of it."""
        file = self._file
        assert file is not None
        try:
            if (written := file.write(self._kept)) != len(self._kept):
                file.write(self._kept[written:])  # raises what stopped the first one
        except OSError as error:
            with contextlib.suppress(OSError):
                file.truncate(self._whole)
            if not self._told:
                self._told = True
                logging.getLogger(__name__).warning(
                    "history %s: %s; its lines are kept until they can be written", self.path, error.strerror
                )
            return
        self._whole += len(self._kept)
        self._kept, self._told = b"", False

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


def write_whole(path: Path, text: str, *, new: bool = False) -> None:
    """Write a file aside and put it in place whole: whoever looks finds the old one or the new one.

    Args:
        path: of the file.
        text: its content.
        new: there must be none yet.

    Raises:
        FileExistsError: there is one, and it was to be new.
        OSError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if not new:
            os.replace(aside, path)
        else:
            _link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _link(aside: Path, path: Path) -> None:
    """Give a file a name that nothing has yet."""
    try:
        os.link(aside, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():  # no hard links here: a window of microseconds stays open
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(aside, path)
