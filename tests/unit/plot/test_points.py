"""Collocation points by condition, seen through matplotlib's own objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from sngd.condition import Condition
from sngd.domain import Box
from sngd.plot import plot_points
from sngd.problem import Problem
from tests.pictures import check


def make(domain: Box, **counts: int) -> tuple[Problem, dict[str, np.ndarray]]:
    regions = {"equation": domain.interior, "walls": domain.boundary(domain.names[0])}
    conditions = [Condition(n, lambda u, p: u, regions[n], points=count) for n, count in counts.items()]
    points = {c.name: c.region.sample(0, c.points, (0, 0, i)).numpy() for i, c in enumerate(conditions)}
    return Problem(domain, conditions), points


def drawn(figure: Figure, panel: int = 0) -> dict[str, np.ndarray]:
    return {str(c.get_label()): np.asarray(c.get_offsets()) for c in figure.axes[panel].collections}


def test_points_of_a_plane_have_time_on_the_horizontal_axis(tmp_path: Path, figures: list[Figure]) -> None:
    problem, points = make(Box(x=(-1, 1), t=(0, 4)), equation=3000, walls=20)
    check(tmp_path / "p.png", plot_points(problem, points, tmp_path / "p.png"))
    (axes,) = figures[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$t$", "$x$")
    found = drawn(figures[0])
    assert found["equation (3,000)"] == pytest.approx(points["equation"][:2000, ::-1]), "the first 2,000"
    assert found["walls (20)"] == pytest.approx(points["walls"][:, ::-1])
    colours = {tuple(c.get_facecolor()[0]) for c in axes.collections}
    assert len(colours) == 2
    assert axes.get_xlim()[0] < 0 < 4 < axes.get_xlim()[1], "points of the boundary are seen whole"
    assert [t.get_text() for t in figures[0].legends[0].get_texts()] == list(found)


@pytest.mark.parametrize(
    ("domain", "planes"),
    [
        (Box(x=(0, 1), y=(0, 1), z=(0, 1)), [("$x$", "$y$"), ("$x$", "$z$"), ("$y$", "$z$")]),
        (Box(x=(0, 1), y=(0, 1), z=(0, 1), t=(0, 1)), [("$x$", "$y$"), ("$t$", "$x$"), ("$t$", "$y$")]),
    ],
)
def test_more_coordinates_are_projected(
    tmp_path: Path, figures: list[Figure], domain: Box, planes: list[tuple[str, str]]
) -> None:
    problem, points = make(domain, equation=50)
    check(tmp_path / "p.png", plot_points(problem, points, tmp_path / "p.png"))
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figures[0].axes] == planes
    for panel, plane in enumerate(planes):
        columns = [domain.names.index(name.strip("$")) for name in plane]
        assert drawn(figures[0], panel)["equation (50)"] == pytest.approx(points["equation"][:, columns])


def test_space_is_to_scale(tmp_path: Path, figures: list[Figure]) -> None:
    problem, points = make(Box(x=(0, 2), y=(0, 1)), equation=50)
    plot_points(problem, points, tmp_path / "p.png")
    extent = figures[0].axes[0].get_window_extent()
    assert extent.width == pytest.approx(2 * extent.height)


def test_one_coordinate_has_a_row_per_condition(tmp_path: Path, figures: list[Figure]) -> None:
    problem, points = make(Box(x=(0, 2)), equation=50, walls=2)
    check(tmp_path / "p.png", plot_points(problem, points, tmp_path / "p.png"))
    (axes,) = figures[0].axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["equation\n50 points", "walls\n2 points"]
    first, second = drawn(figures[0]).values()
    assert first[:, 0] == pytest.approx(points["equation"][:, 0])
    assert set(second[:, 1]) == {1.0}


def test_points_of_nothing_are_refused(tmp_path: Path) -> None:
    problem, points = make(Box(x=(0, 1), y=(0, 1)), equation=5)
    with pytest.raises(ValueError, match="'other' is no condition of"):
        plot_points(problem, {"other": points["equation"]}, tmp_path / "p.png")
    with pytest.raises(ValueError, match="condition 'equation' has no points"):
        plot_points(problem, {"equation": points["equation"][:0]}, tmp_path / "p.png")
