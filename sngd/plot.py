"""Pictures of a run: convergence, spectrum, solution. Each function writes one PNG, on rank 0 only.

matplotlib is imported when a picture is drawn, not before, and draws without a display (Agg).

Letters
    σ_i      singular values of A = J Q; σ_i² are the Gramian's eigenvalues in the sketched subspace
    λ        damping
    d        coordinates; u, u* the network's fields and the known ones
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sngd.evaluate import predict
from sngd.networks import Network
from sngd.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Grids = list[np.ndarray]

__all__ = ["plot_convergence", "plot_solution", "plot_spectrum"]

_GRID = 201  # points per axis of a map; odd, so that the middle is one of them
_LINE = 1001  # points of a curve
_DECADES = 6  # an error map shows at most this many decades below the largest error
_TICKS = 8  # labels on the colour bar of a spectrum
_SIGNED = 0.05  # a field has two signs if the weaker reaches this share of the stronger
_ELONGATED = 3.0  # a longer domain is not drawn to scale
_TIME = ("t", "time")  # coordinates that are time: horizontal in a map, and never to scale
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito, safe for the colour-blind
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
    "mathtext.fontset": "dejavusans",
}


@contextlib.contextmanager
def _picture(path: str | Path, width: float, height: float) -> Iterator[Figure]:
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


def _panel(axes: Axes, xlabel: str, ylabel: str, log: bool = True) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if not axes.lines:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color="#888888")
        axes.set(xticks=[], yticks=[])
        return
    if log:
        axes.set_yscale("log")
    names = max(len(str(line.get_label())) for line in axes.lines)
    columns = max(1, min(len(axes.lines), 60 // (names + 8)))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def plot_convergence(history: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """Loss and error over time; the conditions' losses, damping and rank over steps.

    Args:
        history: one record per step, as of `read_history`. What a record lacks, or holds as None, is
            left out.
        path: the PNG.

    Raises:
        ValueError: the history is empty.
    """
    if not history:
        raise ValueError("plot_convergence: history is empty, there is nothing to draw")
    seconds, step = _column(history, "seconds"), _column(history, "step")
    with _picture(path, 8.5, 6.2) as figure:
        (time, conditions), (damping, rank) = figure.subplots(2, 2)
        _draw(time, seconds, _column(history, "loss"), color=_BLUE, label="loss")
        error = _column(history, "relative_l2")
        _draw(time, seconds, error, color=_ORANGE, label="relative $L^2$ error")
        _panel(time, "time [s]", "loss, error")

        parts = [record.get("losses") or {} for record in history]
        names = list(dict.fromkeys(name for part in parts for name in part))
        for number, name in enumerate(names):
            _draw(conditions, step, _column(parts, name), color=f"C{number}", label=name)
        _panel(conditions, "step", "weighted loss of each condition")

        _draw(damping, step, _column(history, "damping"), color=_BLUE, label=r"damping $\lambda$")
        tail = _column(history, "sigma_k") ** 2
        _draw(damping, step, tail, color=_ORANGE, label=r"smallest $\sigma_k^2$ of the sketch")
        _panel(damping, "step", r"$\lambda$, $\sigma_k^2$")

        _draw(rank, step, _column(history, "rank"), False, color=_BLUE, label="rank $k$")
        effective = _column(history, "effective_dimension")
        label = r"effective dimension $\sum_i \sigma_i^2 / (\sigma_i^2 + \lambda)$"
        _draw(rank, step, effective, False, color=_ORANGE, label=label)
        _panel(rank, "step", "directions", log=False)
        if rank.lines:
            rank.set_ylim(bottom=0)
    return Path(path)


def plot_spectrum(
    snapshots: Sequence[tuple[int, np.ndarray]], path: str | Path, damping: float | None = None
) -> Path:
    """Decay of the Gramian's eigenvalues, σ_i²/σ_1² over i, at several steps.

    Args:
        snapshots: (step, σ) with singular values σ (k,) in descending order, not their squares.
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
    with _picture(path, 6.0, 3.9) as figure:
        axes = figure.subplots()
        for (step, sigma), colour in zip(ordered, colours, strict=True):
            if sigma.ndim != 1 or not len(sigma) or not sigma[0] > 0 or not np.isfinite(sigma[0]):
                raise ValueError(f"plot_spectrum: σ of step {step} must start with a number > 0")
            _draw(axes, np.arange(1, len(sigma) + 1), (sigma / sigma[0]) ** 2, color=colour)
        axes.set(xlabel="index $i$", ylabel=r"$\sigma_i^2 / \sigma_1^2$", yscale="log")
        if damping is not None and damping > 0 and math.isfinite(damping):
            level = damping / ordered[-1][1][0] ** 2
            axes.axhline(level, color=_ORANGE, linestyle="--", linewidth=1.1)
            label = rf"$\lambda / \sigma_1^2$ at step {ordered[-1][0]}"
            place: Any = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "bottom"}
            axes.text(1, level, label, color=_ORANGE, **place)
        norm = BoundaryNorm(np.arange(count + 1) - 0.5, count)
        bar = figure.colorbar(ScalarMappable(norm, ListedColormap(colours)), ax=axes, label="step")
        ticks = np.unique(np.linspace(0, count - 1, min(count, _TICKS)).round().astype(int))
        bar.set_ticks(ticks.tolist(), labels=[str(ordered[i][0]) for i in ticks])
        bar.minorticks_off()
    return Path(path)


def plot_solution(problem: Problem, network: Network, theta: Tensor, path: str | Path) -> Path:
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
            reference = problem.reference(points).double()
        known = reference.cpu().numpy().T.reshape(-1, *shape)
    with _picture(path, 4, 3) as figure:  # they know their sizes
        (_curves if lines else _maps)(figure, problem, grids, u, known)
    return Path(path)


def _plane(problem: Problem) -> tuple[int, ...]:
    """The coordinates that are drawn, the horizontal one first."""
    first = list(range(min(problem.domain.dim, 2)))
    return tuple(sorted(first, key=lambda i: problem.domain.names[i] not in _TIME))


def _curves(figure: Figure, problem: Problem, grids: Grids, u: np.ndarray, known: np.ndarray | None) -> None:
    x = grids[0]
    fields = len(problem.fields)
    rows = 1 if known is None else 2
    figure.set_size_inches(max(4.8, 3.6 * fields), 2.2 * rows + 0.6)
    grid = figure.subplots(rows, fields, sharex=True, squeeze=False, height_ratios=[3, 2][:rows])
    for number, name in enumerate(problem.fields):
        top = grid[0, number]
        if known is not None:
            top.plot(x, known[number], color="#999999", linewidth=3, label="solution")
        top.plot(x, u[number], color=_BLUE, label="network")
        top.set_ylabel(_math(name))
        top.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
        if known is not None:
            below = grid[1, number]
            _draw(below, x, np.abs(u[number] - known[number]), color=_ORANGE)
            below.set(ylabel="|error|", yscale="log" if below.lines else "linear")
        grid[-1, number].set_xlabel(_math(problem.domain.names[0]))
        grid[-1, number].set_xlim(x[0], x[-1])


def _math(name: str) -> str:
    """A name as it is set in print: single letters in italics."""
    return f"${name}$" if len(name) == 1 else name


def _held(problem: Problem) -> str:
    """The coordinates that a slice holds, "y = 0.5, z = 0"."""
    drawn, domain = _plane(problem), problem.domain
    middles = [(low + high) / 2 for low, high in domain.bounds]
    held = [i for i in range(domain.dim) if i not in drawn]
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
    names, axes = problem.fields, _plane(problem)
    columns = 1 if known is None else 3
    figure.set_size_inches(3.1 * columns + 0.6, 2.6 * len(names) + 0.4)
    panels = figure.subplots(len(names), columns, squeeze=False, sharex=True, sharey=True)
    spans = [grid[-1] - grid[0] for grid in grids]
    to_scale = not any(problem.domain.names[i] in _TIME for i in axes)
    to_scale = to_scale and max(spans) <= _ELONGATED * min(spans)
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
            panel.set_facecolor("#bbbbbb")  # where a value is not finite
            panel.set_aspect("equal" if to_scale else "auto")
            panel.grid(False)
            figure.colorbar(mesh, ax=panel, pad=0.02).outline.set_visible(False)
    for panel in panels[-1]:
        panel.set_xlabel(_math(problem.domain.names[axes[0]]))
    for panel in panels[:, 0]:
        panel.set_ylabel(_math(problem.domain.names[axes[1]]))
    if held := _held(problem):
        figure.suptitle(f"slice at {held}")
