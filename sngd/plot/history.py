"""Pictures of a run's history: convergence, spectrum, unknown coefficients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from sngd.plot.style import BLUE, COLOURS, GREY, ORANGE, column, italic, line, picture, shades, widen

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_coefficients", "plot_convergence", "plot_spectrum"]

_TICKS = 8  # labels on the colour bar of a spectrum
# Of the axes: what a label takes upwards, and where one at the right end begins.
_ROOM, _LABELLED = 0.1, 0.5
_DIRECTIONS = "directions"
_HOLD_OUT = "loss on fresh points"
_LEGEND = 72  # characters that a legend's row holds


def plot_convergence(history: Sequence[dict[str, Any]], path: str | Path, dpi: int = 150) -> Path:
    """Loss and error over time; the conditions' losses, damping and rank over steps.

    Args:
        history: one record per step, as of `read_history`. What a record lacks, or holds as None, is
            left out; so is a panel of which nothing was recorded.
        path: the picture.
        dpi: dots per inch.

    Raises:
        ValueError: the history is empty.
    """
    if not history:
        raise ValueError("plot_convergence: history is empty, there is nothing to draw")
    of = partial(column, history)
    step, tail = of("step"), of("sigma_k") ** 2
    parts = [record.get("losses") or {} for record in history]
    names = dict.fromkeys(name for part in parts for name in part)
    losses = {name: column(parts, name) for name in names}
    errors = {"loss": of("loss"), "relative $L^2$ error": of("relative_l2"), _HOLD_OUT: of("holdout")}
    damping = {r"damping $\lambda$": of("damping"), r"last eigenvalue $\sigma_k^2$": tail}
    rank = {"rank $k$": of("rank"), "effective dimension": of("effective_dimension")}
    panels = [
        (of("seconds"), errors, "time [s]", "loss, error"),
        (step, losses, "step", "weighted losses"),
        (step, damping, "step", r"$\lambda$, $\sigma_k^2$"),
        (step, rank, "step", _DIRECTIONS),
    ]
    known = [p for p in panels if any(np.isfinite(y).any() for y in p[1].values())] or panels[:1]
    with picture(path, 8.5, 3.1 * ((len(known) + 1) // 2), dpi) as figure:
        grid = figure.subplots((len(known) + 1) // 2, 2, squeeze=False).ravel()
        for axes, panel in zip(grid, known, strict=False):
            _panel(axes, *panel)
        for axes in grid[len(known) :]:
            axes.remove()
    return Path(path)


def _panel(axes: Axes, x: np.ndarray, curves: dict[str, np.ndarray], xlabel: str, ylabel: str) -> None:
    """Curves by their labels on a logarithmic scale, but for those that count directions."""
    log = ylabel != _DIRECTIONS
    for number, (label, y) in enumerate(curves.items()):
        look: Any = {"color": COLOURS[number % 7], "ls": ("-", "--", ":")[number // 7 % 3]}
        if label == _HOLD_OUT:
            look["linewidth"] = 0.8
        line(axes, x, y, log, label=label, **look)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if axes.lines:
        axes.set(**{"yscale": "log"} if log else {"ylim": (0, None)})
        columns = max(1, min(len(axes.lines), _LEGEND // (max(map(len, curves)) + 6)))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def plot_spectrum(
    snapshots: Sequence[tuple[int, np.ndarray]],
    path: str | Path,
    damping: float | None = None,
    dpi: int = 150,
) -> Path:
    """Decay of the Gramian's eigenvalues, σ_i²/σ_1² over i, at several steps.

    Args:
        snapshots: (step, σ) with the singular values σ (k,) of A = J Q, descending, not squared.
        path: the picture.
        damping: λ of the last snapshot, drawn as a line at λ/σ_1².
        dpi: dots per inch.

    Raises:
        ValueError: no snapshots, or one without a positive largest value.
    """
    if not snapshots:
        raise ValueError("plot_spectrum: snapshots is empty, there is nothing to draw")
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    ordered = sorted(((step, np.asarray(s, dtype=float)) for step, s in snapshots), key=lambda p: p[0])
    count = len(ordered)
    colours = shades(count)
    with picture(path, 6.0, 3.9, dpi) as figure:
        axes = figure.subplots()
        for (step, sigma), colour in zip(ordered, colours, strict=True):
            if sigma.ndim != 1 or not len(sigma) or not sigma[0] > 0 or not np.isfinite(sigma[0]):
                raise ValueError(f"plot_spectrum: σ of step {step} must start with a number > 0")
            line(axes, np.arange(1, len(sigma) + 1), (sigma / sigma[0]) ** 2, color=colour)
        axes.set(xlabel="index $i$", ylabel=r"$\sigma_i^2 / \sigma_1^2$", yscale="log", xlim=(0, None))
        if damping is not None and damping > 0 and math.isfinite(damping):
            level = damping / ordered[-1][1][0] ** 2
            axes.axhline(level, color=ORANGE, linestyle="--", linewidth=1.1)
            label = rf"$\lambda / \sigma_1^2$ at step {ordered[-1][0]}"
            _name_level(axes, level, label, [(s / s[0]) ** 2 for _, s in ordered])
        norm = BoundaryNorm(np.arange(count + 1) - 0.5, count)
        bar = figure.colorbar(ScalarMappable(norm, ListedColormap(colours)), ax=axes, label="step")
        ticks = np.unique(np.linspace(0, count - 1, min(count, _TICKS)).round().astype(int))
        bar.set_ticks(ticks.tolist(), labels=[str(ordered[i][0]) for i in ticks])
        bar.minorticks_off()
    return Path(path)


def _name_level(axes: Axes, level: float, label: str, curves: Sequence[np.ndarray]) -> None:
    """Write beside a level where falling curves leave room: above its right end, or else below its left."""
    from_here = int(_LABELLED * max(map(len, curves)))
    right = all((curve[from_here:] < level).all() for curve in curves)
    low, high = np.log(axes.get_ylim())
    above = right or math.log(level) - low < _ROOM * (high - low)
    place: Any = {"transform": axes.get_yaxis_transform(), "color": ORANGE}
    place |= {"ha": "right" if right else "left", "va": "bottom" if above else "top"}
    axes.text(0.98 if right else 0.02, level, label, **place)


def plot_coefficients(
    history: Sequence[dict[str, Any]],
    path: str | Path,
    known: Mapping[str, float] = MappingProxyType({}),
    dpi: int = 150,
) -> Path:
    """Unknown coefficients over steps; below, how far they are from the values that are known.

    Args:
        history: records with "coefficients", {name: value}; those without are left out.
        path: the picture.
        known: values of some or all of them.
        dpi: dots per inch.

    Raises:
        ValueError: no record holds coefficients.
    """
    parts = [record.get("coefficients") or {} for record in history]
    names = list(dict.fromkeys(name for part in parts for name in part))
    if not names:
        raise ValueError("plot_coefficients: no record of the history holds coefficients")
    step, rows = column(history, "step"), 2 if any(name in known for name in names) else 1
    with picture(path, max(4.8, 3.4 * len(names)), 2.2 * rows + 0.6, dpi) as figure:
        grid = figure.subplots(rows, len(names), sharex=True, squeeze=False, height_ratios=[3, 2][:rows])
        for number, name in enumerate(names):
            values, top = column(parts, name), grid[0, number]
            if name in known:
                top.axhline(known[name], color=GREY, linewidth=3, label="known")
                error, below = np.abs(values - known[name]), grid[1, number]
                line(below, step, error, color=ORANGE)
                below.set(ylabel="|error|", yscale="log" if below.lines else "linear")
                if below.lines:
                    widen(below)
            elif rows == 2:
                grid[1, number].remove()
            line(top, step, values, positive=False, color=BLUE, label="found")
            top.set_ylabel(italic(name))
            top.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
            lowest = grid[-1, number] if name in known or rows == 1 else top
            lowest.set_xlabel("step")
            lowest.tick_params(labelbottom=True)
    return Path(path)
