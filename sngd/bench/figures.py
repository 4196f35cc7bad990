"""Pictures of a suite, drawn from its records: races and the map over N and P; scaling has its own file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sngd.bench import suites
from sngd.bench.scaling_figures import draw_scaling
from sngd.bench.summary import NEAR, Cell, cells, spread
from sngd.bench.table import by_task, caption
from sngd.plot import BLUE, COLOURS, ORANGE, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_suite", "envelope", "look", "picture_name"]

Record = dict[str, Any]

# An optimizer keeps its colour in every picture; its variants differ by dashes.
_COLOUR_OF = dict(
    zip(("sngd", "engd", "engd-w", "spring", "ssbroyden", "adam", "lbfgs"), COLOURS, strict=True)
)
_REST = ("#7f7f7f", "#8c564b", "#999933", "#882255")
_DASHES: Any = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_FORMS = {"sketched": BLUE, "kernel": "#009E73", "exact": ORANGE}
_GRID = 240  # points of a median curve
_GREATEST = 30.0  # errors above are not worth the room


def picture_name(task: str) -> str:
    """A file name for the picture of a task or of a whole suite."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in task) + ".png"


def draw_suite(content: Mapping[str, Any], folder: Path) -> list[Path]:
    """The pictures of a suite.

    Args:
        content: of its results file.
        folder: where they go; made when there is something to draw.
    """
    records, kind = content["runs"], content["kind"]
    drawn: list[Path] = []
    if kind == "race":
        for task, mine in by_task(records).items():
            if any(r["curve"]["seconds"] for r in mine):
                drawn.append(_race(task, mine, _made(folder) / picture_name(task)))
    elif kind == "map" and (contests := cells(records)):
        drawn.append(_map(contests, _made(folder) / picture_name(content["suite"])))
    elif kind == "scaling" and any(r["steps"] for r in records):
        name = picture_name(content["suite"])
        drawn += draw_scaling(content.get("model"), records, _made(folder), name)
    return drawn


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def look(label: str, optimizer: str) -> dict[str, Any]:
    """Colour by optimizer, dashes by variant: the same in every picture.

    Args:
        label: of the entry.
        optimizer: its name in the registry.
    """
    variants = [name for name, entry in suites.ENTRIES.items() if entry.optimizer == optimizer]
    number = variants.index(label) if label in variants else len(variants)
    colour = _COLOUR_OF.get(optimizer) or _REST[sum(map(ord, optimizer)) % len(_REST)]
    return {"color": colour, "ls": _DASHES[number % len(_DASHES)]}


# ---------------------------------------------------------------------------------------------
# Error over time and over steps
# ---------------------------------------------------------------------------------------------


def envelope(
    curves: Sequence[tuple[np.ndarray, np.ndarray, bool]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Median and range of curves over a common logarithmic axis.

    A curve keeps its last value after its end, unless it broke off: then it is left out from there on.
    Where no more than half of the curves have a value, nothing is returned.

    Args:
        curves: x ascending and > 0, y > 0, and whether the run broke off.

    Returns:
        x, median, least and greatest y.
    """
    start = min(x[0] for x, _, _ in curves)
    stop = max(x[-1] for x, _, _ in curves)
    grid = np.geomspace(start, stop, _GRID) if stop > start else np.array([start])
    grid[[0, -1]] = start, stop  # rounding must not leave the ends out
    values = np.stack([_along(grid, *curve) for curve in curves])
    enough = 2 * np.isfinite(values).sum(0) > len(curves)
    grid, values = grid[enough], values[:, enough]
    if not len(grid):
        return grid, grid, grid, grid
    return grid, np.exp(np.nanmedian(values, 0)), np.exp(np.nanmin(values, 0)), np.exp(np.nanmax(values, 0))


def _along(grid: np.ndarray, x: np.ndarray, y: np.ndarray, broken: bool) -> np.ndarray:
    end = math.nan if broken else math.log(y[-1])
    return np.interp(np.log(grid), np.log(x), np.log(y), left=math.nan, right=end)


def _curve(record: Record, axis: str) -> tuple[np.ndarray, np.ndarray, bool] | None:
    x = np.array([math.nan if v is None else v for v in record["curve"][axis]], dtype=float)
    y = np.array([math.nan if v is None else v for v in record["curve"]["error"]], dtype=float)
    known = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    return (x[known], y[known], bool(record["failure"])) if known.any() else None


def _race(task: str, records: Sequence[Record], path: Path) -> Path:
    """Two panels that share the error axis; the legend lists entries from the least final error up."""
    labels = {r["label"]: r["optimizer"] for r in records if r["curve"]["seconds"]}
    final = {label: spread([r["relative_l2"] for r in records if r["label"] == label]) for label in labels}
    order = sorted(labels, key=lambda name: (math.isnan(final[name].median), final[name].median))
    with picture(path, 7.4, 3.2) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, axis, name in zip(panels, ("seconds", "step"), ("time [s]", "step"), strict=True):
            for label in reversed(order):  # the best is drawn last, on top
                curves = [_curve(r, axis) for r in records if r["label"] == label]
                known = [curve for curve in curves if curve is not None]
                if known:
                    _band(axes, known, label, look(label, labels[label]))
            axes.set(xscale="log", yscale="log", xlabel=name)
            axes.set_ylim(top=min(axes.get_ylim()[1], _GREATEST))
            _plain_ticks(axes)
        panels[0].set_ylabel("relative $L^2$ error")
        handles = {line.get_label(): line for line in panels[0].lines}
        shown = [label for label in order if label in handles]
        figure.legend([handles[n] for n in shown], shown, loc="outside right upper", handlelength=2.4)
        figure.suptitle(f"{task}: {caption(records)}", x=0.01, ha="left", fontsize=9)
    return path


def _band(
    axes: Axes, curves: Sequence[tuple[np.ndarray, np.ndarray, bool]], label: str, style: dict[str, Any]
) -> None:
    x, median, low, high = envelope(curves)
    if not len(x):
        return
    above = 2.0 if style["ls"] == "-" else 2.1  # what lies below dashes shows between them
    axes.plot(x, median, label=label, marker="." if len(x) < 2 else None, zorder=above, **style)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _plain_ticks(axes: Axes) -> None:
    """Decades alone on the logarithmic axes, written in full where they are few and near 1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_major_locator(LogLocator(numticks=20))
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_minor_formatter(NullFormatter())


# ---------------------------------------------------------------------------------------------
# Who wins over N and P
# ---------------------------------------------------------------------------------------------


def _map(contests: Sequence[Cell], path: Path) -> Path:
    """Cells by N and P, coloured by the winner, with its lead over the next; a mark says how "auto" did."""
    from matplotlib.patches import Patch, Rectangle

    across = sorted({cell.points for cell in contests})
    up = sorted({cell.parameters for cell in contests})
    with picture(path, 1.3 + 0.72 * len(across) + 2.0, 0.9 + 0.55 * len(up)) as figure:
        axes = figure.subplots()
        axes.grid(False)
        for cell in contests:
            x, y = across.index(cell.points), up.index(cell.parameters)
            winner = cell.winner
            colour = "#dddddd" if winner is None else _FORMS.get(winner, "#999999")
            axes.add_patch(
                Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=0.35, edgecolor="white")
            )
            axes.text(x, y + 0.12, _lead(cell), ha="center", va="center", fontsize=8)
            _mark_auto(axes, cell, x, y - 0.27)
        border = _border(axes, across, up)
        axes.set_xticks(range(len(across)), [f"{n:,}" for n in across])
        axes.set_yticks(range(len(up)), [f"{p:,}" for p in up])
        axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
        axes.set(xlabel="points $N$", ylabel="parameters $P$")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        seen = [form for form in _FORMS if any(form in cell.times for cell in contests)]
        handles: list[Any] = [Patch(facecolor=_FORMS[form], alpha=0.35, label=form) for form in seen]
        if any(cell.winner is None for cell in contests):
            handles.append(Patch(facecolor="#dddddd", alpha=0.35, label="none arrived"))
        handles += [border, *_auto_legend(contests)]
        figure.legend(
            handles=handles,
            loc="outside right upper",
            title="first, and its lead over the next",
            alignment="left",
        )
    return path


def _lead(cell: Cell) -> str:
    if cell.winner is None:
        return ""
    bound = "" if cell.second_arrived else ">"
    return f"{bound}{cell.lead:.2g}×" if cell.lead < 100 else f"{bound}{cell.lead:,.0f}×"


def _mark_auto(axes: Axes, cell: Cell, x: float, y: float) -> None:
    if not math.isnan(cell.auto_ratio):
        axes.plot(x, y, **_auto_marker(cell.auto_ratio <= NEAR, _FORMS.get(cell.auto_form, "white")))


def _auto_marker(near: bool, colour: str) -> dict[str, Any]:
    shape = {"marker": "o", "ms": 5} if near else {"marker": "X", "ms": 6.5}
    return {**shape, "mfc": colour, "mec": "black", "mew": 0.7, "ls": ""}


def _auto_legend(contests: Sequence[Cell]) -> list[Any]:
    from matplotlib.lines import Line2D

    ratios = [cell.auto_ratio for cell in contests if not math.isnan(cell.auto_ratio)]
    kinds = [(True, "choice of auto, within 20 %"), (False, "choice of auto, behind")]
    there = [(near, text) for near, text in kinds if any((r <= NEAR) == near for r in ratios)]
    return [Line2D([], [], label=text, **_auto_marker(near, "white")) for near, text in there]


def _border(axes: Axes, across: Sequence[int], up: Sequence[int]) -> Any:
    """The line between cells with N ≥ P, below, and N < P."""
    below = [sum(p <= n for p in up) - 0.5 for n in across]
    edges = np.repeat(np.arange(len(across) + 1) - 0.5, 2)[1:-1]
    (line,) = axes.plot(edges, np.repeat(below, 2), color="black", lw=1.0, ls="--", label="$N ≥ P$ below")
    return line
