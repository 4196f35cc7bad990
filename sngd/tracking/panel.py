"""What a terminal shows of a run at work: a panel of up to eight lines.

    ╭─ burgers ─────────────────────────────────────────── warm-up ─╮
    │ step 21 of 1000   14.2 s   ━━━━━━━━━━╸─────────  24 %  46 s left │
    │ loss      3.21e-12  ███▇▆▅▄▃▂▁▁     from 1.20e+00               │
    │ error     2.10e-07  ██▇▇▆▅▄▃▂▁▁     1e-08 in about 20 s         │
    │ spectrum  3.10e-06  █▇▆▅▅▄▃▃▂▁▁     from 1.52e+03               │
    │ damping   1.00e-09  rank 128, effective dimension 97.3          │
    │ ! step 20: overfitting: …                                       │
    ╰─────────────────────────────────────────────────────────────────╯

Bars are log10 of loss and error over the run, and of the last step's singular values σ_1 … σ_k.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style

from sngd.tracking.base import Values
from sngd.tracking.trends import BARS, PLAIN_BARS, Trend, bars, seconds_until

__all__ = ["LINES", "NARROWEST", "Panel", "clock", "number"]

NARROWEST, _WIDEST = 60, 100  # columns
LINES = 8
_LABEL, _VALUE = 8, 8  # columns of a row's label and value
_BARS = (8, 48)  # columns of bars: at least, at most
_ROOMY = 84  # columns from which a row has room for two remarks

_DIM, _STRONG = Style(dim=True), Style(bold=True)
_COLOURS = {name: Style(color=name) for name in ("cyan", "green", "magenta", "blue", "yellow")}

Piece = tuple[str, Style | None]


@dataclass(frozen=True)
class Signs:
    """What a panel is drawn with.

    Args:
        top: left corner, line, right corner.
        side: of a row.
        bottom: left corner, line, right corner.
        spent: of the budget.
        left: of the budget.
        bars: by height.
        plain: ASCII alone.
    """

    top: str
    side: str
    bottom: str
    spent: str
    left: str
    bars: str
    plain: bool = False

    def write(self, text: str, room: int) -> str:
        """Text in these signs, as much of it as there is room for, without what would move the cursor."""
        if not text.isprintable():
            text = "".join(c if c.isprintable() else " " for c in text)
        if cell_len(text) > room:
            text = f"{set_cell_size(text, room - 1).rstrip()}…" if room > 0 else ""
        return text.translate(_IN_ASCII).encode("ascii", "replace").decode() if self.plain else text


_IN_ASCII = str.maketrans("–…", "-~")
_SIGNS = Signs("╭─╮", "│", "╰─╯", "━", "─", BARS)
_PLAIN_SIGNS = Signs("+-+", "|", "+-+", "=", "-", PLAIN_BARS, plain=True)


def number(value: Any) -> str:
    """Three digits of a number, a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{float(value):.2e}"


def clock(seconds: float) -> str:
    """Seconds below a minute, then m:ss, then h:mm:ss."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    return f"{hours}:{rest:02d}"


class Drawn:
    """Lines of a panel, as rich draws them.

    Args:
        lines: pieces of text with their styles.
    """

    def __init__(self, lines: list[list[Piece]]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        """The pieces, line by line."""
        for count, line in enumerate(self.lines):
            if count:
                yield Segment.line()
            yield from (Segment(text, style) for text, style in line)


class Panel:
    """What is known of a run at work.

    Args:
        info: of the run, as hooks are told it.
    """

    def __init__(self, info: Values) -> None:
        self._info = info
        self._loss, self._error = Trend(), Trend()
        self._last: dict[str, Any] = {}
        self._warning, self._slab = "", (0, 0)  # number of the slab of time, steps before it

    def observe(self, record: Values) -> None:
        """Take the record of a step."""
        before, self._last = self._last, dict(record)
        seconds = record.get("seconds", 0.0)
        self._loss.add(seconds, record.get("loss"))
        self._error.add(seconds, record.get("relative_l2"))
        for key in ("relative_l2", "spectrum"):  # not every step has them
            if self._last.get(key) is None:
                self._last[key] = before.get(key)
        for text in record.get("warnings") or ():
            self._warning = f"step {record.get('step', 0)}: {text}"
        if (slab := record.get("slab", 0)) != self._slab[0]:
            self._slab = slab, record.get("step", 1) - 1

    def draw(self, width: int, done: float | None, plain: bool = False) -> Drawn:
        """The panel of the last record.

        Args:
            width: columns of the terminal.
            done: share of the budget that is spent, None where there is none.
            plain: ASCII alone.
        """
        signs, inner = _PLAIN_SIGNS if plain else _SIGNS, min(width, _WIDEST) - 4
        rows = [self._progress(inner, done, signs), *self._trends(inner, done, signs), self._sketch()]
        if self._warning:
            rows.append([(f"! {self._warning}", _COLOURS["yellow"])])
        title, phase = str(self._info.get("name", "run")), self._phase()
        return Drawn(_framed([row for row in rows if row], inner, signs, title, phase))

    def _progress(self, inner: int, done: float | None, signs: Signs) -> list[Piece]:
        """Step, seconds, how much of the budget is spent."""
        record, most = self._last, self._info.get("max_steps")
        seconds = record.get("seconds", 0.0)
        of = f" of {most}" if isinstance(most, int) else ""
        start: list[Piece] = [
            (f"step {record.get('step', 0)}", _STRONG),
            (of, _DIM),
            (f"  {clock(seconds)}", _STRONG),
        ]
        if done is None:
            return start
        left = f"  {clock(seconds * (1 - done) / done)} left" if done else ""
        tail = f"  {100 * done:3.0f} %{left}"
        room = inner - sum(cell_len(text) for text, _ in start) - len(tail) - 2
        spent = round(max(room, 0) * done)
        bar: list[Piece] = [
            ("  " + signs.spent * spent, _COLOURS["blue"]),
            (signs.left * (room - spent), _DIM),
        ]
        return [*start, *bar, (tail, None)]

    def _trends(self, inner: int, done: float | None, signs: Signs) -> list[list[Piece]]:
        """Loss, error and spectrum: the last value, bars, the first value, time left to the target."""
        rows = []
        for name, key, trend, colour in (
            ("loss", "loss", self._loss, "cyan"),
            ("error", "relative_l2", self._error, "green"),
        ):
            if key == "loss" or trend.y or self._last.get(key) is not None:
                first = f"from {trend.first:.2e}" if trend.y else ""
                rows.append((name, self._last.get(key), trend.y, colour, first))
        spectrum = self._last.get("spectrum") or []
        logs = [math.log10(s) for s in spectrum if s is not None and 0 < s < math.inf]
        if logs:
            rows.append(("spectrum", 10 ** logs[-1], logs, "magenta", f"from {10 ** logs[0]:.2e}"))
        target, late = self._target(done)
        roomy = inner >= _ROOMY
        told = []
        for name, value, y, colour, first in rows:
            aim = target if name == "error" else ""
            remark = f"{first}, {aim}{', too late' * late}" if aim and roomy else aim or first
            told.append((name, value, y, colour, remark))
        longest = max(len(remark) for *_, remark in told)
        width = max(_BARS[0], min(_BARS[1], inner - _LABEL - _VALUE - longest - 6))
        return [
            [
                *_labelled(name, number(value)),
                (f"  {bars(y, width, signs.bars):<{width}}", _COLOURS[colour]),
                (f"  {remark}", _COLOURS["yellow"] if late and name == "error" else _DIM),
            ]
            for name, value, y, colour, remark in told
        ]

    def _target(self, done: float | None) -> tuple[str, bool]:
        """When the target will be reached, about; whether the budget ends before that."""
        target = self._info.get("target_error")
        left = seconds_until(self._error, target) if target else None
        if target is None or left is None:
            return "", False
        seconds = self._last.get("seconds", 0.0)
        late = bool(done) and left > seconds * (1 - (done or 0.0)) / (done or 1.0)
        about = f"{left:.0f} s" if left < 59.5 else clock(left)
        return f"{target:.3g} in about {about}", late

    def _sketch(self) -> list[Piece]:
        """Damping, rank, effective dimension."""
        record = self._last
        parts = [] if record.get("rank") is None else [f"rank {record['rank']}"]
        if (dimension := record.get("effective_dimension")) is not None:
            parts.append(f"effective dimension {dimension:.1f}")
        if record.get("damping") is None and not parts:
            return []
        return [*_labelled("damping", number(record.get("damping"))), (f"  {', '.join(parts)}", None)]

    def _phase(self) -> str:
        """What part of the run this is: warm-up, slab of time, value of a coefficient that changes."""
        fields, record, parts = self._info.get("fields") or {}, self._last, list[str]()
        marching, curriculum = fields.get("marching") or {}, fields.get("curriculum") or {}
        if "slab" in record:
            parts.append(f"slab {record['slab'] + 1} of {marching.get('count', '?')}")
        if 0 < record.get("step", 0) - self._slab[1] <= (fields.get("warmup_steps") or 0):
            parts.append("warm-up")
        name, known = curriculum.get("coefficient"), record.get("known") or {}
        final = ((fields.get("problem") or {}).get("coefficients") or {}).get(name)
        if name in known and known[name] != final:
            parts.append(
                f"{name} = {known[name]:.4g}"
                + (f" on its way to {final:.4g}" if isinstance(final, float) else "")
            )
        if (causal := record.get("causal")) and causal.get("least_weight") is not None:
            parts.append(f"least causal weight {causal['least_weight']:.2g}")
        return ", ".join(parts)


def _labelled(label: str, value: str) -> list[Piece]:
    return [(f"{label:<{_LABEL}}  ", _DIM), (f"{value:<{_VALUE}}", _STRONG)]


def _framed(rows: list[list[Piece]], inner: int, signs: Signs, title: str, phase: str) -> list[list[Piece]]:
    """Rows cut or filled to `inner` columns, between lines with the title and the phase."""
    left, line, right = tuple(signs.top)
    phase = signs.write(phase, inner // 2)
    title = signs.write(title, inner - cell_len(phase) - 6)
    rest = inner - cell_len(title) - 1 - (cell_len(phase) + 3 if phase else 0)
    top: list[Piece] = [(f"{left}{line} ", _DIM), (title, _STRONG), (f" {line * rest}", _DIM)]
    if phase:
        top += [(" ", None), (phase, _COLOURS["yellow"]), (f" {line}", _DIM)]
    top.append((right, _DIM))
    lines = [top]
    for row in rows:
        room, kept = inner, list[Piece]()
        for text, style in row:
            piece = signs.write(text, room)
            kept.append((piece, style))
            room -= cell_len(piece)
        lines.append([(f"{signs.side} ", _DIM), *kept, (" " * room + f" {signs.side}", _DIM)])
    left, line, right = tuple(signs.bottom)
    return [*lines, [(left + line * (inner + 2) + right, _DIM)]]
