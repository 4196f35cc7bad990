"""Pictures of a run along lines and over time: network over solution, and the error between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sngd.evaluate import Evaluation, compare, time_axis
from sngd.networks import AnyNetwork
from sngd.plot.style import COLOURS, deep, italic, line, picture, shades, widen
from sngd.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_slices", "plot_time"]

_LINE = 401  # points of a curve
_CUTS = 5  # curves of a picture
_TIMES = 41  # points of the error over time
_POINTS = 2000  # of each of these times
_NAMED = 3  # held coordinates that a title names one by one
_ERROR = "relative $L^2$ error"


def plot_slices(
    problem: Problem, network: AnyNetwork, theta: Tensor, path: str | Path, dpi: int = 150
) -> Path:
    """The fields along the first coordinate at several times, network (thin) over solution (wide).

    Where no coordinate is time, at several values of the second; the others are held in the middle. Curves
    break where they leave the domain.

    Args:
        problem: gives domain, fields and solution.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        path: the picture.
        dpi: dots per inch.

    Raises:
        ValueError: the domain has one coordinate.
    """
    domain = problem.domain
    if domain.dim < 2:
        raise ValueError(f"plot_slices: the domain has one coordinate, {domain.names[0]}: nothing to cut")
    along, across, cuts = _cut(problem)
    grid = np.linspace(*domain.bounds[along], _LINE)
    middles = [(low + high) / 2 for low, high in domain.bounds]
    x = np.tile(middles, (_CUTS, _LINE, 1))
    x[..., along], x[..., across] = grid, cuts[:, None]
    values, exact = compare(problem, network, theta, torch.from_numpy(x.reshape(-1, domain.dim)))
    u = values.T.numpy().reshape(-1, _CUTS, _LINE)
    known = None if exact is None else exact.T.numpy().reshape(-1, _CUTS, _LINE)
    fields, rows = len(problem.fields), 1 if known is None else 2
    with picture(path, max(4.8, 3.6 * fields), 2.2 * rows + 0.9, dpi) as figure:
        panels = figure.subplots(rows, fields, sharex=True, squeeze=False, height_ratios=[3, 2][:rows])
        for number, name in enumerate(problem.fields):
            top = panels[0, number]
            for cut, colour in enumerate(shades(_CUTS)):
                if known is not None:
                    top.plot(grid, known[number, cut], color=colour, linewidth=3.5, alpha=0.35)
                    _logarithmic(panels[1, number], grid, np.abs(u - known)[number, cut], color=colour)
                top.plot(grid, u[number, cut], color=colour, linewidth=1.1)
            top.set_ylabel(italic(name))
            panels[-1, number].set(xlabel=italic(domain.names[along]), xlim=grid[[0, -1]])
            if known is not None:
                panels[1, number].set_ylabel("|error|")
                deep(panels[1, number], np.abs(u - known)[number])
        _explain(figure, domain.names[across], cuts, known is not None, _held(problem, (along, across)))
    return Path(path)


def _cut(problem: Problem) -> tuple[int, int, np.ndarray]:
    """The coordinate along which curves run, the one that differs between them, and its values."""
    domain = problem.domain
    time = time_axis(domain.names)
    along = next(i for i in range(domain.dim) if i != time)
    if time is not None:
        return along, time, np.linspace(*domain.bounds[time], _CUTS)
    across = along + 1
    low, high = domain.bounds[across]  # its ends are boundaries, where a field is often given
    return along, across, low + (high - low) * (np.arange(_CUTS) + 0.5) / _CUTS


def _logarithmic(axes: Axes, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """A curve with gaps where there is no value > 0."""
    y = np.where(y > 0, y, np.nan)
    if np.isfinite(y).any():
        axes.plot(x, y, **style)
        axes.set_yscale("log")


def _explain(figure: Figure, name: str, cuts: np.ndarray, known: bool, held: str) -> None:
    """A legend above all panels: the colours of the cuts, which line is which, and what is held."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=colour, label=f"{italic(name)} = {cut:.4g}")
        for colour, cut in zip(shades(_CUTS), cuts, strict=True)
    ]
    wide = figure.get_figwidth() > 7
    if known:
        black: Any = {"xdata": [], "ydata": [], "color": "black"}
        thin = Line2D(**black, linewidth=1.1, label="network")
        thick = Line2D(**black, linewidth=3.5, alpha=0.35, label="solution")
        # legends are filled column by column: in two rows both stand beneath the first two cuts
        lines = [*lines, thin, thick] if wide else [lines[0], thin, lines[1], thick, *lines[2:]]
    figure.legend(
        handles=lines,
        loc="outside upper center",
        ncols=len(lines) if wide else _CUTS,
        handlelength=1.4,
        columnspacing=1.2,
        title=held or None,
    )


def _held(problem: Problem, drawn: tuple[int, ...]) -> str:
    domain = problem.domain
    held = [i for i in range(domain.dim) if i not in drawn]
    if len(held) > _NAMED:
        return f"at the middle of the {len(held)} other coordinates"
    named = (f"{italic(domain.names[i])} = {sum(domain.bounds[i]) / 2:.4g}" for i in held)
    return f"at {', '.join(named)}" if held else ""


def plot_time(problem: Problem, network: AnyNetwork, theta: Tensor, path: str | Path, dpi: int = 150) -> Path:
    """The relative L2 error of every field over time.

    Args:
        problem: gives domain, fields and solution.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        path: the picture.
        dpi: dots per inch.

    Raises:
        ValueError: the problem has no known solution, or no coordinate that is time.
    """
    evaluation = Evaluation(problem, network, _POINTS, theta.dtype, theta.device)
    over = evaluation.over_time(theta, _TIMES)
    if over is None:
        raise ValueError(
            f"plot_time: problem {problem.name!r} has no known solution, or no coordinate named t or time"
        )
    times = np.array(over["times"])
    with picture(path, 5.2, 3.2, dpi) as figure:
        axes = figure.subplots()
        curves = over["fields"] if len(over["fields"]) > 1 else {}
        for number, (name, errors) in enumerate(curves.items()):
            line(axes, times, np.array(errors), color=COLOURS[number % 6], label=italic(name))
        style: Any = {"color": COLOURS[0]}
        if curves:
            style = {"color": COLOURS[6], "linestyle": "--", "label": "all fields"}
        line(axes, times, np.array(over["relative_l2"]), **style)
        axes.set(xlabel=italic(over["axis"]), ylabel=_ERROR, xlim=times[[0, -1]])
        if axes.lines:
            axes.set_yscale("log")
            widen(axes)
            if curves:
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
    return Path(path)
