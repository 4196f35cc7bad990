"""What a run tells the world: console, history file, result file. Used on rank 0 only.

Each class is a hook of the training loop: start(info) once, step(record) after every step,
end(result) once. The loop knows no tool by name; W&B or TensorBoard is one more class of this shape.
A hook that cannot write (full disk, closed terminal) says so once and never stops a run.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import rich.console
from rich.live import Live
from rich.text import Text

__all__ = ["Console", "HistoryFile", "ResultFile", "Writer", "read_history", "write_whole"]

Values = Mapping[str, Any]


class Writer:
    """A hook that writes somewhere; base of the others, which override what they need.

    The first failure to write is logged as a warning, later calls do nothing.
    """

    def __init__(self) -> None:
        self._failed = False

    def start(self, info: Values) -> None:
        """Before the first step; info describes the run."""

    def step(self, record: Values) -> None:
        """After every step; record is its line of the history."""

    def end(self, result: Values) -> None:
        """After the last step."""

    def _attempt(self, write: Callable[[], None], what: str) -> None:
        if self._failed:
            return
        try:
            write()
        except Exception as error:  # whatever breaks here is worth less than the run
            self._failed = True
            logging.getLogger(__name__).warning("%s: %r; the run goes on without", what, error)
            self._abandon(error)

    def _abandon(self, error: Exception | None = None) -> None:
        """Let go of what could not be written to."""


def _plain(value: Any) -> Any:
    """The value as JSON knows it: nan and ±inf become null, arrays and tensors become lists."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch, scalars too
        return _plain(value.tolist())
    return str(value)


class HistoryFile(Writer):
    """One JSON object a line and a step (JSON Lines), on disk as soon as the step is done.

    Args:
        path: must not exist yet; it is created by `start`.

    Raises:
        FileExistsError: by `start`; a history is never overwritten or mixed with another.
        OSError: by `start`, where the file cannot be created. Later failures only warn.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._file: TextIO | None = None

    def start(self, info: Values) -> None:
        """Create the file."""
        self._file = self.path.open("x", encoding="utf-8")

    def step(self, record: Values) -> None:
        """Append one line."""
        self._attempt(lambda: self._write(record), f"history {self.path}")

    def end(self, result: Values) -> None:
        """Close the file."""
        self._abandon()

    def _write(self, record: Values) -> None:
        if self._file is None:
            raise ValueError("step() before start() or after end()")
        self._file.write(json.dumps(_plain(record), allow_nan=False) + "\n")
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
        except ValueError as error:
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
        write_whole(self.path, json.dumps(_plain(result), indent=2, allow_nan=False) + "\n")


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


_REFRESH = 1 / 8  # seconds between two drawings of the live line


class _Terminal(rich.console.Console):
    def on_broken_pipe(self) -> None:  # rich would end the process, `sngd train | head` must not
        raise BrokenPipeError("nobody reads the output any more")


def _number(value: Any) -> str:
    """Three digits of a number, a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{float(value):.2e}"


def _clock(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    return f"{hours}:{rest:02d}"


class Console(Writer):
    """Progress on standard output: one live line on a terminal, sparse plain lines in a log.

    A log gets the first three steps, every tenth of the budget, and between them a line every 5 s
    at first, then whenever the time has grown by a fifth, at least every 5 minutes.

    Args:
        quiet: write nothing.
        file: instead of standard output.
    """

    def __init__(self, quiet: bool = False, file: TextIO | None = None) -> None:
        super().__init__()
        self._failed = quiet
        self._out = _Terminal(file=file, highlight=False, emoji=False)
        self._live: Live | None = None
        self._info, self._last, self._steps = dict[str, Any](), dict[str, Any](), 0
        self._noted = ""  # what was said last, so that it is said once
        self._drawn, self._logged = -math.inf, (0.0, 0.0)  # seconds; seconds and share of the budget

    def start(self, info: Values) -> None:
        """Say what runs where; on a terminal, begin the live line."""
        self._info = dict(info)
        self._attempt(self._start, "console")

    def step(self, record: Values) -> None:
        """Show a step, if it is time to."""
        self._last, self._steps = dict(record), self._steps + 1
        self._attempt(self._step, "console")

    def end(self, result: Values) -> None:
        """Say how the run ended."""
        self.close()
        self._attempt(lambda: self._end(result), "console")

    def close(self) -> None:
        """Give the terminal back where a run breaks off; `end` does, too. Harmless when repeated."""
        live, self._live = self._live, None
        if live is not None:
            atexit.unregister(self.close)
            with contextlib.suppress(Exception):
                live.stop()

    def _abandon(self, error: Exception | None = None) -> None:
        if isinstance(error, OSError):  # or the next to print there, anyone, ends the run
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.file.fileno())
        self.close()

    def _start(self) -> None:
        info, size = self._info, self._info.get("world_size", 1)
        self._say(f"{info.get('name', 'run')}: {info.get('network', '')}")
        self._say(
            f"{info.get('points', 0):,} points, {info.get('parameters', 0):,} parameters, "
            f"{str(info.get('dtype', '')).removeprefix('torch.')}, {info.get('optimizer', 'SNGD')}, "
            f"{size} {'rank' if size == 1 else 'ranks'} on {info.get('device', 'cpu')}"
        )
        for line in info.get("plan", ()):
            self._say(line)
        if self._out.is_terminal and not self._out.is_dumb_terminal:
            self._live = Live(console=self._out, auto_refresh=False, transient=True)
            self._live.start()
            atexit.register(self.close)

    def _step(self) -> None:
        record = self._last
        if (note := record.get("note")) and note != self._noted:
            self._say(f"step {record.get('step', self._steps)}: {note}")
            self._noted = note
        if self._live is not None:
            now = time.monotonic()
            if now - self._drawn >= _REFRESH:
                self._drawn = now
                line = Text(self._line(record), no_wrap=True, overflow="ellipsis")
                self._live.update(line, refresh=True)
        elif self._due(record):
            self._logged = (record.get("seconds", 0.0), self._done(record) or 0.0)
            self._say(self._line(record))

    def _due(self, record: Values) -> bool:
        """Whether a log gets a line for this step."""
        seconds, done = self._logged
        late = record.get("seconds", 0.0) >= seconds + min(max(5.0, 0.2 * seconds), 300.0)
        return self._steps <= 3 or late or int(10 * (self._done(record) or 0.0)) > int(10 * done)

    def _done(self, record: Values) -> float | None:
        """Share of the budget that is spent, in [0, 1]; None without a budget."""
        shares = [
            record.get(key, 0) / self._info[limit]
            for key, limit in (("step", "max_steps"), ("seconds", "max_seconds"))
            if self._info.get(limit) and math.isfinite(self._info[limit])
        ]
        return min(max(shares), 1.0) if shares else None

    def _line(self, record: Values) -> str:
        seconds, done = record.get("seconds", 0.0), self._done(record)
        left = f" ({_clock(seconds * (1 - done) / done)} left)" if done else ""
        parts = [f"step {record.get('step', self._steps)}", _clock(seconds) + left]
        parts.append(f"loss {_number(record.get('loss'))}")
        for name, key in (("error", "relative_l2"), ("λ", "damping"), ("rank", "rank")):
            if (value := record.get(key)) is not None:
                parts.append(f"{name} {value if isinstance(value, int) else _number(value)}")
        return self._encodable("  ".join(parts))

    def _end(self, result: Values) -> None:
        last = {**self._last, **{key: value for key, value in result.items() if value is not None}}
        error, loss = _number(last.get("relative_l2")), _number(last.get("loss"))
        steps = last.get("steps", last.get("step", self._steps))
        name, reason = self._info.get("name", "run"), last.get("stop_reason", "done")
        self._say(f"{name}: {reason} after {steps} steps, {_clock(last.get('seconds', 0.0))}")
        self._say(f"relative L2 error {error}, loss {loss}")
        if self._info.get("run_dir"):
            self._say(f"written to {self._info['run_dir']}")

    def _say(self, text: str) -> None:
        self._out.print(self._encodable(text), markup=False, soft_wrap=True)

    def _encodable(self, text: str) -> str:
        return text.encode(self._out.encoding, "replace").decode(self._out.encoding)
