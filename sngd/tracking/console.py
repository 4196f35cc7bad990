"""Progress on standard output."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import time
from typing import Any, TextIO

import rich.console
from rich.live import Live
from rich.text import Text

from sngd.stopping import RESUMABLE
from sngd.tracking.base import Values, Writer
from sngd.tracking.panel import LINES, NARROWEST, Drawn, Panel, clock, number

__all__ = ["Console"]

_REFRESH = 1 / 4  # seconds between two drawings of the panel or the live line
_ABOVE = 4  # lines of the terminal that the panel leaves free
_SIGNS = "╭─╮│╰╯━▁▂▃▄▅▆▇█–…"


class _Terminal(rich.console.Console):
    def on_broken_pipe(self) -> None:  # rich would end the process, `sngd train | head` must not
        raise BrokenPipeError("nobody reads the output any more")


def _encodes(encoding: str) -> bool:
    """Whether the panel's signs can be written."""
    try:
        return bool(_SIGNS.encode(encoding))
    except (UnicodeEncodeError, LookupError):
        return False


class Console(Writer):
    """Progress on standard output: a live panel on a terminal, sparse plain lines in a log.

    A terminal that is too low or too narrow for the panel gets one live line.

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
        self._panel, self._plain = Panel({}), not _encodes(self._out.encoding)
        self._info, self._last, self._steps = dict[str, Any](), dict[str, Any](), 0
        self._noted = ""  # what was said last, so that it is said once
        self._drawn, self._logged = -math.inf, (0.0, 0.0)  # seconds; seconds and share of the budget

    def start(self, info: Values) -> None:
        """Say what runs where; on a terminal, begin the panel."""
        self._info, self._panel = dict(info), Panel(info)
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
        if info.get("launch"):
            self._say(str(info["launch"]))
        for line in info.get("plan", ()):
            self._say(line)
        if resumed := info.get("resumed"):
            self._say(f"goes on from step {resumed} of {info.get('run_dir') or info.get('name', 'run')}")
        # FORCE_COLOR makes rich take a log for a terminal
        if self._out.is_terminal and self._out.file.isatty() and not self._out.is_dumb_terminal:
            self._live = Live(console=self._out, auto_refresh=False, transient=True)
            self._live.start()
            atexit.register(self.close)

    def _step(self) -> None:
        record = self._last
        if (note := record.get("note")) and note != self._noted:
            self._say(f"step {record.get('step', self._steps)}: {note}")
            self._noted = note
        for warning in record.get("warnings") or ():
            self._say(f"step {record.get('step', self._steps)}: warning: {warning}")
        if self._live is not None:
            self._panel.observe(record)
            now = time.monotonic()
            if now - self._drawn >= _REFRESH:
                self._drawn = now
                self._live.update(self._picture(record), refresh=True)
        elif self._due(record):
            self._logged = (record.get("seconds", 0.0), self._done(record) or 0.0)
            self._say(self._line(record))

    def _picture(self, record: Values) -> Drawn | Text:
        width, height = self._out.size
        if width >= NARROWEST and height >= LINES + _ABOVE:
            return self._panel.draw(width, self._done(record), self._plain)
        return Text(self._line(record), no_wrap=True, overflow="ellipsis")

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
        left = f" ({clock(seconds * (1 - done) / done)} left)" if done else ""
        parts = [f"step {record.get('step', self._steps)}", clock(seconds) + left]
        parts.append(f"loss {number(record.get('loss'))}")
        for name, key in (("error", "relative_l2"), ("λ", "damping"), ("rank", "rank")):
            if (value := record.get(key)) is not None:
                parts.append(f"{name} {value if isinstance(value, int) else number(value)}")
        return self._encodable("  ".join(parts))

    def _end(self, result: Values) -> None:
        last = {**self._last, **{key: value for key, value in result.items() if value is not None}}
        error, loss = number(last.get("relative_l2")), number(last.get("loss"))
        steps = last.get("steps", last.get("step", self._steps))
        name, reason = self._info.get("name", "run"), last.get("stop_reason", "done")
        self._say(f"{name}: {reason} after {steps} steps, {clock(last.get('seconds', 0.0))}")
        self._say(f"relative L2 error {error}, loss {loss}")
        if summary := (last.get("certificate") or {}).get("summary"):
            self._say(summary)
        if warnings := last.get("warnings"):
            told = ", ".join(f"{one['kind']} (step {one['step']})" for one in warnings)
            self._say(f"{len(warnings)} warning{'s' * (len(warnings) > 1)}: {told}")
        if self._info.get("run_dir"):
            self._say(f"written to {self._info['run_dir']}")
            if reason in RESUMABLE:
                self._say(f"`sngd resume {self._info['run_dir']}` goes on from there")

    def _say(self, text: str) -> None:
        self._out.print(self._encodable(text), markup=False, soft_wrap=True)

    def _encodable(self, text: str) -> str:
        return text.encode(self._out.encoding, "replace").decode(self._out.encoding)
