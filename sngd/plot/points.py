"""A picture of the collocation points, each condition in its colour."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sngd.evaluate import TIME, time_axis
from sngd.plot.style import COLOURS, italic, picture
from sngd.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_points"]

_MOST = 2000  # points of a condition that are drawn
_ELONGATED = 3.0  # a longer plane is not drawn to scale
_MARGIN = 0.04  # around the domain, in parts of it
_STROKES = 200  # points of a condition that are drawn on a line
_CHARACTERS = 16  # that fit into an inch of a legend


def plot_points(problem: Problem, points: Mapping[str, np.ndarray], path: str | Path, dpi: int = 150) -> Path:
    """Where every condition has its points: on the plane of two coordinates, or on planes of three.

    One coordinate: a row per condition. More than three: the first two and time, or else the first three.

    Args:
        problem: gives domain and conditions.
        points: by the conditions' names (n, d or more columns); the first 2,000 of each are drawn.
        path: the picture.
        dpi: dots per inch.

    Raises:
        ValueError: a name is no condition's, or a condition has no points.
    """
    known = [condition.name for condition in problem.conditions]
    if unknown := [name for name in points if name not in known]:
        raise ValueError(
            f"plot_points: {unknown[0]!r} is no condition of {problem.name!r}, those are {known}"
        )
    if empty := [name for name in points if not len(points[name])]:
        raise ValueError(f"plot_points: condition {empty[0]!r} has no points")
    planes = list(combinations(_axes(problem), 2))
    columns = max(1, len(planes))
    with picture(path, 4.6, 3.4, dpi) as figure:
        panels = figure.subplots(1, columns, squeeze=False)[0]
        if not planes:
            _rows(panels[0], problem, points)
        ratios = [_plane(*both, problem, points) for both in zip(panels, planes, strict=False)]
        if planes:
            width = 3.4 if columns == 1 else 2.8
            figure.set_size_inches((width + 0.6) * columns, max(1.6, width * min(1.4, max(ratios))) + 1.0)
            _name(figure, panels[0])
    return Path(path)


def _name(figure: Figure, axes: Axes) -> None:
    """The conditions' names above all panels, in rows as long as they fit."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels)) + 5
    many = max(1, min(len(labels), int(figure.get_figwidth() * _CHARACTERS) // longest))
    legend = figure.legend(handles, labels, loc="outside upper center", ncols=many, handletextpad=0.2)
    for handle in legend.legend_handles:
        handle.set_sizes([24])  # type: ignore[union-attr]  # markers of a scatter plot


def _axes(problem: Problem) -> list[int]:
    """Up to three coordinates, time among them where there is one."""
    domain = problem.domain
    time = time_axis(domain.names)
    if time is None or time < 3:
        return list(range(min(domain.dim, 3)))
    return [0, 1, time]


def _style(number: int, count: int) -> dict[str, Any]:
    """Few points are drawn larger, and above the many."""
    size = float(np.clip(3000 / count, 2, 14))
    return {"color": COLOURS[number % 7], "s": size, "linewidths": 0, "zorder": 2 + 1 / count}


def _rows(axes: Axes, problem: Problem, points: Mapping[str, np.ndarray]) -> None:
    for number, (name, x) in enumerate(points.items()):
        shown = x[:_STROKES, 0]
        style = _style(number, len(shown)) | {"marker": "|", "s": 120, "linewidths": 0.6}
        axes.scatter(shown, np.full(len(shown), number), label=name, **style)
    labels = [f"{name}\n{len(x):,} points" for name, x in points.items()]
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=italic(problem.domain.names[0]), ylim=(len(labels) - 0.5, -0.5))


def _plane(axes: Axes, plane: tuple[int, ...], problem: Problem, points: Mapping[str, np.ndarray]) -> float:
    """Draw the points on a plane; its height over its width."""
    domain = problem.domain
    horizontal, vertical = sorted(plane, key=lambda i: domain.names[i] not in TIME)
    for number, (name, x) in enumerate(points.items()):
        shown = x[:_MOST]
        label = f"{name} ({len(x):,})"
        axes.scatter(shown[:, horizontal], shown[:, vertical], label=label, **_style(number, len(shown)))
    spans = [domain.bounds[i][1] - domain.bounds[i][0] for i in (horizontal, vertical)]
    left, right, lower, upper = (*domain.bounds[horizontal], *domain.bounds[vertical])
    axes.set_xlim(left - _MARGIN * spans[0], right + _MARGIN * spans[0])
    axes.set_ylim(lower - _MARGIN * spans[1], upper + _MARGIN * spans[1])
    ratio = spans[1] / spans[0]
    scaled = domain.names[horizontal] not in TIME and 1 / _ELONGATED <= ratio <= _ELONGATED
    ratio = ratio if scaled else 1.0
    axes.set_box_aspect(ratio)
    axes.set(xlabel=italic(domain.names[horizontal]), ylabel=italic(domain.names[vertical]))
    axes.grid(False)
    return ratio
