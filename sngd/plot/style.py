"""How pictures look, and what they are drawn with."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "COLOURS",
    "DECADES",
    "GREY",
    "ORANGE",
    "column",
    "deep",
    "italic",
    "line",
    "picture",
    "shades",
    "widen",
]

BLUE, ORANGE = "#0072B2", "#D55E00"
# Okabe and Ito's colours, told apart by the colour-blind too; then dashed, then dotted.
COLOURS = [BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
}
GREY = "#999999"
DECADES = 6  # a picture of errors shows at most so many below the largest
_GREEK = "alpha|beta|gamma|delta|epsilon|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|chi|psi|omega"
_LETTER = re.compile(rf"([^\W\d_]|{_GREEK})_?(\d*)")


@contextlib.contextmanager
def picture(path: str | Path, width: float, height: float, dpi: int = 150) -> Iterator[Figure]:
    """A figure (inches), written at the end as its suffix says; pyplot's global state stays untouched."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, format=Path(path).suffix[1:] or "png", dpi=dpi)


def column(history: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    """One number per record; nan where it is missing or null."""
    values = (record.get(key) for record in history)
    return np.array([math.nan if v is None else float(v) for v in values])


def line(axes: Axes, x: np.ndarray, y: np.ndarray, positive: bool = True, **style: Any) -> None:
    """A line through the values there are; a marker where a line would not show."""
    known = np.isfinite(x) & np.isfinite(y) & ((y > 0) if positive else True)
    if known.any():
        axes.plot(x[known], y[known], marker="." if known.sum() < 2 else None, **style)


def italic(name: str) -> str:
    """A name as it is set in print: letters in italics, Greek ones by name, numbers after them as indices."""
    found = _LETTER.fullmatch(name)
    if not found:
        return name
    letter, index = found.groups()
    shown = letter if len(letter) == 1 else f"\\{letter}"
    return f"${shown}_{{{index}}}$" if index else f"${shown}$"


def shades(count: int) -> Any:
    """Colours (count, 4) from light to dark: viridis without its yellow end, which does not show on paper."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0.92, 0.0, count) if count > 1 else [0.0])


def widen(axes: Axes) -> None:
    """At least one decade, so that a small change does not look large and ticks are powers of ten."""
    low, high = axes.get_ylim()
    if high < 10 * low:
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 10**0.5, middle * 10**0.5)


def deep(axes: Axes, errors: np.ndarray) -> None:
    """No deeper than some decades below the largest error: where a condition holds exactly it is 0."""
    positive = errors[np.isfinite(errors) & (errors > 0)]
    if len(positive) and axes.get_yscale() == "log":
        lowest = float(positive.max()) * 10.0**-DECADES
        if axes.get_ylim()[0] < lowest:
            axes.set_ylim(bottom=lowest)
