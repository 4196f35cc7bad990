"""Pictures of a run: convergence, spectrum, solution. Each function writes one PNG, on rank 0 only.

matplotlib is imported when a picture is drawn, not before, and draws without a display (Agg).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sngd.evaluate import predict
from sngd.networks import AnyNetwork
from sngd.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "COLOURS", "ORANGE", "picture", "plot_convergence", "plot_solution", "plot_spectrum"]

Grids = list[np.ndarray]

_GRID = 201  # points per axis of a map; odd, so that the middle is one of them
_LINE = 1001  # points of a curve
_DECADES = 6  # an error map shows at most this many decades below the largest error
_TICKS = 8  # labels on the colour bar of a spectrum
_SIGNED = 0.05  # a field has two signs if the weaker reaches this share of the stronger
_ELONGATED = 3.0  # a longer domain is not drawn to scale
_TIME = ("t", "time")  # coordinates that are time: horizontal in a map, and never to scale
_DIRECTIONS = "directions"
_LEGEND = 72  # characters that a legend's row holds
BLUE, ORANGE = "#0072B2", "#D55E00"
_NAMED = 5  # held coordinates that a title names one by one
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


@contextlib.contextmanager
def picture(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """A figure (inches), written at the end; pyplot and its global state stay untouched."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, format="png")


def _column(history: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    """One number per record; nan where it is missing or null."""
    values = (record.get(key) for record in history)
    return np.array([math.nan if v is None else float(v) for v in values])


def _draw(axes: Axes, x: np.ndarray, y: np.ndarray, positive: bool = True, **style: Any) -> None:
    """A line through the values there are; a marker where a line would not show."""
    known = np.isfinite(x) & np.isfinite(y) & ((y > 0) if positive else True)
    if known.any():
        axes.plot(x[known], y[known], marker="." if known.sum() < 2 else None, **style)


def _panel(axes: Axes, x: np.ndarray, curves: dict[str, np.ndarray], xlabel: str, ylabel: str) -> None:
    """Curves by their labels on a logarithmic scale, but for those that count directions."""
    log = ylabel != _DIRECTIONS
    for number, (label, y) in enumerate(curves.items()):
        look: Any = {"color": COLOURS[number % 7], "ls": ("-", "--", ":")[number // 7 % 3]}
        _draw(axes, x, y, log, label=label, **look)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if axes.lines:
        axes.set(**{"yscale": "log"} if log else {"ylim": (0, None)})
        columns = max(1, min(len(axes.lines), _LEGEND // (max(map(len, curves)) + 6)))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def plot_convergence(history: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """Loss and error over time; the conditions' losses, damping and rank over steps.

    Args:
        history: one record per step, as of `read_history`. What a record lacks, or holds as None, is
            left out; so is a panel of which nothing was recorded.
        path: the PNG.

    Raises:
        ValueError: the history is empty.
    """
    if not history:
        raise ValueError("plot_convergence: history is empty, there is nothing to draw")
    column = partial(_column, history)
    step, tail = column("step"), column("sigma_k") ** 2
    parts = [record.get("losses") or {} for record in history]
    names = dict.fromkeys(name for part in parts for name in part)
    losses = {name: _column(parts, name) for name in names}
    errors = {"loss": column("loss"), "relative $L^2$ error": column("relative_l2")}
    damping = {r"damping $\lambda$": column("damping"), r"last eigenvalue $\sigma_k^2$": tail}
    rank = {"rank $k$": column("rank"), "effective dimension": column("effective_dimension")}
    panels = [
        (column("seconds"), errors, "time [s]", "loss, error"),
        (step, losses, "step", "weighted losses"),
        (step, damping, "step", r"$\lambda$, $\sigma_k^2$"),
        (step, rank, "step", _DIRECTIONS),
    ]
    known = [p for p in panels if any(np.isfinite(y).any() for y in p[1].values())] or panels[:1]
    with picture(path, 8.5, 3.1 * ((len(known) + 1) // 2)) as figure:
        grid = figure.subplots((len(known) + 1) // 2, 2, squeeze=False).ravel()
        for axes, panel in zip(grid, known, strict=False):
            _panel(axes, *panel)
        for axes in grid[len(known) :]:
            axes.remove()
    return Path(path)


def plot_spectrum(
    snapshots: Sequence[tuple[int, np.ndarray]], path: str | Path, damping: float | None = None
) -> Path:
    """Decay of the Gramian's eigenvalues, σ_i²/σ_1² over i, at several steps.

    Args:
        snapshots: (step, σ) with the singular values σ (k,) of A = J Q, descending, not squared.
        path: the PNG.
        damping: λ of the last snapshot, drawn as a line at λ/σ_1².

    Raises:
        ValueError: no snapshots, or one without a positive largest value.
    """
    if not snapshots:
        raise ValueError("plot_spectrum: snapshots is empty, there is nothing to draw")
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    ordered = sorted(((step, np.asarray(s, dtype=float)) for step, s in snapshots), key=lambda p: p[0])
    count = len(ordered)
    # viridis without its yellow end, which does not show on paper
    colours = colormaps["viridis"](np.linspace(0.92, 0.0, count) if count > 1 else [0.0])
    with picture(path, 6.0, 3.9) as figure:
        axes = figure.subplots()
        for (step, sigma), colour in zip(ordered, colours, strict=True):
            if sigma.ndim != 1 or not len(sigma) or not sigma[0] > 0 or not np.isfinite(sigma[0]):
                raise ValueError(f"plot_spectrum: σ of step {step} must start with a number > 0")
            _draw(axes, np.arange(1, len(sigma) + 1), (sigma / sigma[0]) ** 2, color=colour)
        axes.set(xlabel="index $i$", ylabel=r"$\sigma_i^2 / \sigma_1^2$", yscale="log", xlim=(0, None))
        if damping is not None and damping > 0 and math.isfinite(damping):
            level = damping / ordered[-1][1][0] ** 2
            axes.axhline(level, color=ORANGE, linestyle="--", linewidth=1.1)
            label = rf"$\lambda / \sigma_1^2$ at step {ordered[-1][0]}"
            place: Any = {"transform": axes.get_yaxis_transform(), "ha": "left", "va": "bottom"}
            axes.text(0.02, level, label, color=ORANGE, **place)
        norm = BoundaryNorm(np.arange(count + 1) - 0.5, count)
        bar = figure.colorbar(ScalarMappable(norm, ListedColormap(colours)), ax=axes, label="step")
        ticks = np.unique(np.linspace(0, count - 1, min(count, _TICKS)).round().astype(int))
        bar.set_ticks(ticks.tolist(), labels=[str(ordered[i][0]) for i in ticks])
        bar.minorticks_off()
    return Path(path)


def plot_solution(problem: Problem, network: AnyNetwork, theta: Tensor, path: str | Path) -> Path:
    """The network's fields beside the known solution, and the error between them.

    One coordinate: curves. Two: maps, time on the horizontal axis. More: maps over the first two
    with the others held in the middle. Without a known solution the network's fields alone.

    Args:
        problem: gives the domain, the fields' names and the solution.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        path: the PNG.
    """
    lines = problem.domain.dim == 1
    axes = _plane(problem)
    grids = [np.linspace(*problem.domain.bounds[i], _LINE if lines else _GRID) for i in axes]
    shape = tuple(len(grid) for grid in grids)
    x = np.tile([(low + high) / 2 for low, high in problem.domain.bounds], (math.prod(shape), 1))
    for axis, values in zip(axes, np.meshgrid(*grids, indexing="ij"), strict=True):
        x[:, axis] = values.ravel()
    points = torch.from_numpy(x).to(theta.device)
    u = predict(network, theta.detach(), points).cpu().numpy().T.reshape(-1, *shape)
    known = None
    if problem.solution is not None:
        with torch.no_grad():
            known = problem.reference(points).double().cpu().numpy().T.reshape(-1, *shape)
    with picture(path, 4, 3) as figure:  # the size is set inside
        (_curves if lines else _maps)(figure, problem, grids, u, known)
    return Path(path)


def _plane(problem: Problem) -> tuple[int, ...]:
    """The coordinates that are drawn, the horizontal one first."""
    first = list(range(min(problem.domain.dim, 2)))
    return tuple(sorted(first, key=lambda i: problem.domain.names[i] not in _TIME))


def _curves(figure: Figure, problem: Problem, grids: Grids, u: np.ndarray, known: np.ndarray | None) -> None:
    x = grids[0]
    fields, rows = len(problem.fields), 1 if known is None else 2
    figure.set_size_inches(max(4.8, 3.6 * fields), 2.2 * rows + 0.6)
    grid = figure.subplots(rows, fields, sharex=True, squeeze=False, height_ratios=[3, 2][:rows])
    for number, name in enumerate(problem.fields):
        top = grid[0, number]
        if known is not None:
            top.plot(x, known[number], color="#999999", linewidth=3, label="solution")
        top.plot(x, u[number], color=BLUE, label="network")
        top.set_ylabel(_math(name))
        top.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
        if known is not None:
            below = grid[1, number]
            _draw(below, x, np.abs(u[number] - known[number]), color=ORANGE)
            below.set(ylabel="|error|", yscale="log" if below.lines else "linear")
            if not below.lines:
                below.text(0.5, 0.5, "no error > 0", transform=below.transAxes, ha="center")
        grid[-1, number].set(xlabel=_math(problem.domain.names[0]), xlim=x[[0, -1]])


def _math(name: str) -> str:
    """A name as it is set in print: single letters in italics."""
    return f"${name}$" if len(name) == 1 and name.isalpha() else name


def _held(problem: Problem) -> str:
    """The coordinates that a slice holds, "y = 0.5, z = 0", or how many where their names do not fit."""
    drawn, domain = _plane(problem), problem.domain
    middles = [(low + high) / 2 for low, high in domain.bounds]
    held = [i for i in range(domain.dim) if i not in drawn]
    if len(held) > _NAMED:
        return f"the middle of the {len(held)} other coordinates"
    return ", ".join(f"{_math(domain.names[i])} = {middles[i]:.4g}" for i in held)


def _field_colours(values: np.ndarray) -> dict[str, Any]:
    """Symmetric and diverging where the field has both signs, sequential where it has one."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if min(-low, high) > _SIGNED * max(-low, high):
        reach = max(-low, high)
        return {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    if not high > low:  # a constant
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    return {"cmap": "viridis", "vmin": low, "vmax": high}


def _error_colours(error: np.ndarray) -> dict[str, Any]:
    """Logarithmic over the decades that the error spans; linear where it is zero or nan all over."""
    from matplotlib.colors import LogNorm

    positive = error[np.isfinite(error) & (error > 0)]
    if not len(positive):
        return {"cmap": "magma", "vmin": 0.0, "vmax": 1.0}
    high = float(positive.max())
    low = max(float(np.percentile(positive, 2)), high * 10.0**-_DECADES)
    return {"cmap": "magma", "norm": LogNorm(min(low, high / 10), high, clip=True)}


def _maps(figure: Figure, problem: Problem, grids: Grids, u: np.ndarray, known: np.ndarray | None) -> None:
    names = problem.fields
    horizontal, vertical = (problem.domain.names[i] for i in _plane(problem))
    columns = 1 if known is None else 3
    ratio = float(np.ptp(grids[1]) / np.ptp(grids[0]))
    if horizontal in _TIME or not 1 / _ELONGATED <= ratio <= _ELONGATED:
        ratio = 1.0  # not to scale
    width = min(2.4, 3.0 / ratio)
    figure.set_size_inches((width + 0.8) * columns + 0.4, (width * ratio + 0.5) * len(names) + 0.4)
    panels = figure.subplots(len(names), columns, squeeze=False, sharex=True, sharey=True)
    for row, name in enumerate(names):
        pictures = [(f"{_math(name)}, network", u[row])]
        colours = [_field_colours(u[row])]
        if known is not None:
            error = np.abs(u[row] - known[row])
            # the known solution sets the colours: a network gone astray shows against it
            colours = [_field_colours(known[row])] * 2 + [_error_colours(error)]
            pictures += [(f"{_math(name)}, solution", known[row]), ("|network − solution|", error)]
        for panel, (title, values), style in zip(panels[row], pictures, colours, strict=True):
            mesh = panel.pcolormesh(*grids, values.T, shading="nearest", rasterized=True, **style)
            panel.set(title=title, xlim=grids[0][[0, -1]], ylim=grids[1][[0, -1]])
            panel.set(xlabel=_math(horizontal), ylabel=_math(vertical))
            panel.label_outer()
            panel.set_facecolor("#bbbbbb")  # where a value is not finite
            panel.set_box_aspect(ratio)
            panel.grid(False)
            beside = panel.inset_axes((1.03, 0, 0.045, 1))  # as high as the map, to scale or not
            figure.colorbar(mesh, cax=beside).outline.set_visible(False)
    if held := _held(problem):
        figure.suptitle(f"slice at {held}")
