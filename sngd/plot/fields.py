"""Pictures of a run's fields beside the known solution: curves or maps, and the error between them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sngd.evaluate import TIME, compare
from sngd.networks import AnyNetwork
from sngd.plot.style import BLUE, DECADES, GREY, ORANGE, deep, italic, line, picture
from sngd.problem import Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_solution"]

Grids = list[np.ndarray]

_GRID = 201  # points per axis of a map; odd, so that the middle is one of them
_LINE = 1001  # points of a curve
_SIGNED = 0.05  # a field has two signs if the weaker reaches this share of the stronger
_ELONGATED = 3.0  # a longer domain is not drawn to scale
_NAMED = 5  # held coordinates that a title names one by one


def plot_solution(
    problem: Problem, network: AnyNetwork, theta: Tensor, path: str | Path, dpi: int = 150
) -> Path:
    """The network's fields beside the known solution, and the error between them.

    One coordinate: curves. Two: maps, time on the horizontal axis. More: maps over the first two
    with the others held in the middle. Without a known solution the network's fields alone. What lies
    outside of the domain stays white.

    Args:
        problem: gives the domain, the fields' names and the solution.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        path: the picture.
        dpi: dots per inch.
    """
    lines = problem.domain.dim == 1
    axes = _plane(problem)
    grids = [np.linspace(*problem.domain.bounds[i], _LINE if lines else _GRID) for i in axes]
    shape = tuple(len(grid) for grid in grids)
    x = np.tile([(low + high) / 2 for low, high in problem.domain.bounds], (math.prod(shape), 1))
    for axis, along in zip(axes, np.meshgrid(*grids, indexing="ij"), strict=True):
        x[:, axis] = along.ravel()
    values, exact = compare(problem, network, theta, torch.from_numpy(x))
    u = values.T.numpy().reshape(-1, *shape)
    known = None if exact is None else exact.T.numpy().reshape(-1, *shape)
    with picture(path, 4, 3, dpi) as figure:  # the size is set inside
        if lines:
            _curves(figure, problem, grids, u, known)
        else:
            inside = bool(problem.domain.contains(torch.from_numpy(x)).all())
            _maps(figure, problem, grids, u, known, background="#bbbbbb" if inside else "white")
    return Path(path)


def _plane(problem: Problem) -> tuple[int, ...]:
    """The coordinates that are drawn, the horizontal one first."""
    first = list(range(min(problem.domain.dim, 2)))
    return tuple(sorted(first, key=lambda i: problem.domain.names[i] not in TIME))


def _curves(figure: Figure, problem: Problem, grids: Grids, u: np.ndarray, known: np.ndarray | None) -> None:
    x = grids[0]
    fields, rows = len(problem.fields), 1 if known is None else 2
    figure.set_size_inches(max(4.8, 3.6 * fields), 2.2 * rows + 0.6)
    grid = figure.subplots(rows, fields, sharex=True, squeeze=False, height_ratios=[3, 2][:rows])
    for number, name in enumerate(problem.fields):
        top = grid[0, number]
        if known is not None:
            top.plot(x, known[number], color=GREY, linewidth=3, label="solution")
        top.plot(x, u[number], color=BLUE, label="network")
        top.set_ylabel(italic(name))
        top.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
        if known is not None:
            below = grid[1, number]
            line(below, x, np.abs(u[number] - known[number]), color=ORANGE)
            below.set(ylabel="|error|", yscale="log" if below.lines else "linear")
            deep(below, np.abs(u[number] - known[number]))
            if not below.lines:
                below.text(0.5, 0.5, "no error > 0", transform=below.transAxes, ha="center")
        grid[-1, number].set(xlabel=italic(problem.domain.names[0]), xlim=x[[0, -1]])


def _held(problem: Problem) -> str:
    """The coordinates that a slice holds, "y = 0.5, z = 0", or how many where their names do not fit."""
    drawn, domain = _plane(problem), problem.domain
    middles = [(low + high) / 2 for low, high in domain.bounds]
    held = [i for i in range(domain.dim) if i not in drawn]
    if len(held) > _NAMED:
        return f"the middle of the {len(held)} other coordinates"
    return ", ".join(f"{italic(domain.names[i])} = {middles[i]:.4g}" for i in held)


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
    low = max(float(np.percentile(positive, 2)), high * 10.0**-DECADES)
    return {"cmap": "magma", "norm": LogNorm(min(low, high / 10), high, clip=True)}


def _maps(
    figure: Figure,
    problem: Problem,
    grids: Grids,
    u: np.ndarray,
    known: np.ndarray | None,
    background: str,
) -> None:
    """A row of maps per field; the background shows where a value is not finite."""
    names = problem.fields
    horizontal, vertical = (problem.domain.names[i] for i in _plane(problem))
    columns = 1 if known is None else 3
    ratio = float(np.ptp(grids[1]) / np.ptp(grids[0]))
    if horizontal in TIME or not 1 / _ELONGATED <= ratio <= _ELONGATED:
        ratio = 1.0  # not to scale
    width = min(2.4, 3.0 / ratio)
    beside = 0.4 if columns > 1 else 1.0  # of one map alone both labels stand outside of it
    figure.set_size_inches((width + 0.8) * columns + beside, (width * ratio + 0.5) * len(names) + 0.4)
    panels = figure.subplots(len(names), columns, squeeze=False, sharex=True, sharey=True)
    for row, name in enumerate(names):
        pictures = [(f"{italic(name)}, network", u[row])]
        colours = [_field_colours(u[row])]
        if known is not None:
            error = np.abs(u[row] - known[row])
            # the known solution sets the colours: a network gone astray shows against it
            colours = [_field_colours(known[row])] * 2 + [_error_colours(error)]
            pictures += [(f"{italic(name)}, solution", known[row]), ("|network − solution|", error)]
        for panel, (title, values), style in zip(panels[row], pictures, colours, strict=True):
            mesh = panel.pcolormesh(*grids, values.T, shading="nearest", rasterized=True, **style)
            panel.set(title=title, xlim=grids[0][[0, -1]], ylim=grids[1][[0, -1]])
            panel.set(xlabel=italic(horizontal), ylabel=italic(vertical))
            panel.label_outer()
            panel.set_facecolor(background)
            panel.set_box_aspect(ratio)
            panel.grid(False)
            beside = panel.inset_axes((1.03, 0, 0.045, 1))  # as high as the map, to scale or not
            figure.colorbar(mesh, cax=beside).outline.set_visible(False)
    if held := _held(problem):
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.3)
        figure.suptitle(f"slice at {held}", fontsize="medium")
