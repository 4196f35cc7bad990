"""Numbers over the seconds of a run: kept in little memory, drawn as bars, extrapolated to a target.

Letters
    t        seconds
    y        log10 of a number > 0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

__all__ = ["BARS", "PLAIN_BARS", "Trend", "bars", "seconds_until"]

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = ".:-=+*#@"  # in ASCII: the more ink, the higher

_KEPT = 256  # points of a trend; when they are reached, each two become one
_RECENT = 1 / 3  # of the run, by seconds, whose slope is extrapolated …
_FEWEST = 8  # … from so many points at least
_SIGNIFICANT = 4.0  # a slope counts from so many of its standard errors
_FAR = 20.0  # nothing is foretold beyond so many times what the run has taken


class Trend:
    """log10 of a number over seconds, in at most 256 points: means over equally many steps each."""

    def __init__(self) -> None:
        self.t, self.y, self.first = list[float](), list[float](), math.nan  # as it was, no logarithm
        self._together, self._count, self._t, self._y = 1, 0, 0.0, 0.0

    def add(self, seconds: float, value: Any) -> None:
        """Take a value, if it is a finite number > 0."""
        if not isinstance(value, (int, float)) or not 0 < value < math.inf:
            return
        if math.isnan(self.first):
            self.first = value
        self._t, self._y, self._count = self._t + seconds, self._y + math.log10(value), self._count + 1
        if self._count == self._together:
            self.t.append(self._t / self._count)
            self.y.append(self._y / self._count)
            self._t, self._y, self._count = 0.0, 0.0, 0
            if len(self.y) == _KEPT:
                self.t, self.y = _halved(self.t), _halved(self.y)
                self._together *= 2


def _halved(values: list[float]) -> list[float]:
    return [(a + b) / 2 for a, b in zip(values[::2], values[1::2], strict=True)]


def bars(values: Sequence[float], width: int, glyphs: str = BARS) -> str:
    """A line of bars from the least to the largest of the values; as long as they are many, `width` at most.

    Args:
        values: finite numbers.
        width: characters.
        glyphs: bars by height, the lowest first.
    """
    count, width = len(values), min(width, len(values))
    if width < 1:
        return ""
    edges = [count * i // width for i in range(width + 1)]
    means = [math.fsum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, reach = min(means), max(means) - min(means)
    steps = len(glyphs) - 1
    return "".join(glyphs[round(steps * (mean - low) / reach) if reach > 0 else 0] for mean in means)


def seconds_until(trend: Trend, target: float) -> float | None:
    """Seconds from the last point of a trend to a target, along the line through its recent points.

    Least squares of y over t. None where they rise, scatter too much for a slope, or would take more than
    twenty times as long as the run so far.

    Args:
        trend: of a number that falls.
        target: > 0.
    """
    if len(trend.t) < _FEWEST or not target > 0:
        return None
    end = trend.t[-1]
    since = end - _RECENT * (end - trend.t[0])
    first = next(i for i, t in enumerate(trend.t) if t >= since)
    first = min(first, len(trend.t) - _FEWEST)
    t, y = trend.t[first:], trend.y[first:]
    n, t_mean, y_mean = len(t), math.fsum(t) / len(t), math.fsum(y) / len(y)
    spread = math.fsum((a - t_mean) ** 2 for a in t)
    if not spread > 0:
        return None
    slope = math.fsum((a - t_mean) * (b - y_mean) for a, b in zip(t, y, strict=True)) / spread
    rest = math.fsum((b - y_mean - slope * (a - t_mean)) ** 2 for a, b in zip(t, y, strict=True))
    if not slope < -_SIGNIFICANT * math.sqrt(rest / (n - 2) / spread):
        return None
    left = max(0.0, (y_mean + slope * (end - t_mean) - math.log10(target)) / -slope)
    return left if left <= _FAR * end else None
