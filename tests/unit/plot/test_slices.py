"""Curves at several times and the error over time, seen through matplotlib's own objects."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from sngd.domain import Box
from sngd.evaluate import Evaluation
from sngd.plot import plot_slices, plot_time
from tests.pictures import Ring, build, check


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_slices_are_curves_at_several_times_network_over_solution(
    tmp_path: Path, figures: list[Figure]
) -> None:
    problem, network = build(Box(t=(0, 2), x=(-1, 1)), lambda p: p.values[:, 0] + 10 * p.values[:, 1])
    check(tmp_path / "s.png", plot_slices(problem, network, network.initial, tmp_path / "s.png"))
    top, below = figures[0].axes
    assert (top.get_ylabel(), below.get_xlabel(), below.get_ylabel()) == ("$u$", "$x$", "|error|")
    assert len(top.lines) == 10
    for number, t in enumerate([0, 0.5, 1, 1.5, 2]):
        known, found = top.lines[2 * number : 2 * number + 2]
        x = np.asarray(found.get_xdata())
        assert (x[0], x[-1]) == (-1, 1)
        assert known.get_ydata() == pytest.approx(t + 10 * x)
        points = torch.from_numpy(np.stack([np.full_like(x, t), x], axis=1))
        u = network(network.initial, points)[:, 0].numpy()
        assert found.get_ydata() == pytest.approx(u)
        assert below.lines[number].get_ydata() == pytest.approx(np.abs(u - t - 10 * x))
        assert known.get_linewidth() > found.get_linewidth()
        assert known.get_color() == pytest.approx(found.get_color())
    assert below.get_yscale() == "log"
    times = {f"$t$ = {t}" for t in ("0", "0.5", "1", "1.5", "2")}
    assert set(legend(figures[0])) == times | {"network", "solution"}


def test_without_time_the_second_coordinate_is_cut_and_others_are_held(
    tmp_path: Path, figures: list[Figure]
) -> None:
    problem, network = build(Box(x=(0, 1), y=(0, 1), z=(2, 4)), None, ("u", "v"))
    check(tmp_path / "s.png", plot_slices(problem, network, network.initial, tmp_path / "s.png"))
    left, right = figures[0].axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("$u$", "$v$")
    x = np.asarray(right.lines[2].get_xdata())
    points = torch.from_numpy(np.stack([x, np.full_like(x, 0.5), np.full_like(x, 3)], axis=1))
    assert right.lines[2].get_ydata() == pytest.approx(network(network.initial, points)[:, 1].numpy())
    assert legend(figures[0]) == [f"$y$ = {y}" for y in ("0.1", "0.3", "0.5", "0.7", "0.9")]
    assert figures[0].legends[0].get_title().get_text() == "at $z$ = 3"


def test_curves_break_where_they_leave_the_domain(tmp_path: Path, figures: list[Figure]) -> None:
    problem, network = build(Ring(x=(0, 1), y=(0, 1)), lambda p: p.values[:, 0])
    plot_slices(problem, network, network.initial, tmp_path / "s.png")
    middle = figures[0].axes[0].lines[2 * 2 + 1]
    x, u = np.asarray(middle.get_xdata()), np.asarray(middle.get_ydata())
    distance = np.abs(x - 0.5)
    assert np.array_equal(np.isfinite(u), (distance > 0.2) & (distance < 0.5))


def test_errors_are_drawn_six_decades_deep(tmp_path: Path, figures: list[Figure]) -> None:
    problem, network = build(Box(t=(0, 1), x=(0, 1)), lambda p: 1e-3 - 1e-3 * p.values[:, 1] ** 20)
    theta = torch.zeros_like(network.initial)
    theta[-1] = 1e-3  # the bias of the last layer: 1e-3 everywhere, the solution where x is small
    plot_slices(problem, network, theta, tmp_path / "s.png")
    below = figures[0].axes[1]
    assert below.get_ylim()[0] == pytest.approx(1e-9)
    assert below.get_ylim()[1] > 1e-3


def test_one_coordinate_has_no_slices(tmp_path: Path) -> None:
    problem, network = build(Box(x=(0, 1)), None)
    with pytest.raises(ValueError, match="the domain has one coordinate, x"):
        plot_slices(problem, network, network.initial, tmp_path / "s.png")


def test_the_error_over_time_is_that_of_the_evaluation(tmp_path: Path, figures: list[Figure]) -> None:
    solution = lambda p: (p.values[:, 0] + 1, 0 * p.values[:, 1])  # noqa: E731
    problem, network = build(Box(x=(0, 1), t=(0, 3)), solution, ("u", "v"))
    check(tmp_path / "t.png", plot_time(problem, network, network.initial, tmp_path / "t.png"))
    (axes,) = figures[0].axes
    drawn = {str(line.get_label()): line for line in axes.lines}
    assert set(drawn) == {"$u$", "all fields"}, "v vanishes and has no relative error"
    over = Evaluation(problem, network, 2000).over_time(network.initial, 41)
    assert over is not None
    assert drawn["$u$"].get_xdata() == pytest.approx(np.linspace(0, 3, 41))
    assert drawn["$u$"].get_ydata() == pytest.approx(over["fields"]["u"])
    assert drawn["all fields"].get_ydata() == pytest.approx(over["relative_l2"])
    assert (axes.get_xlabel(), axes.get_yscale()) == ("$t$", "log")


def test_a_steady_error_takes_a_decade(tmp_path: Path, figures: list[Figure]) -> None:
    _, network = build(Box(x=(0, 1), t=(0, 1)), None)
    solution = lambda p: network(network.initial, p.values)[:, 0] / (1 + 1e-3)  # noqa: E731
    problem, _ = build(Box(x=(0, 1), t=(0, 1)), solution)
    plot_time(problem, network, network.initial, tmp_path / "t.png")
    (axes,) = figures[0].axes
    low, high = axes.get_ylim()
    assert axes.lines[0].get_ydata() == pytest.approx(np.full(41, 1e-3))
    assert math.log10(high / low) == pytest.approx(1)
    assert low < 1e-3 < high


@pytest.mark.parametrize(("domain", "solved"), [(Box(x=(0, 1), t=(0, 1)), False), (Box(x=(0, 1)), True)])
def test_no_error_over_time_without_solution_or_time(tmp_path: Path, domain: Box, solved: bool) -> None:
    problem, network = build(domain, (lambda p: p.values[:, 0]) if solved else None)
    with pytest.raises(ValueError, match="no known solution, or no coordinate named t or time"):
        plot_time(problem, network, network.initial, tmp_path / "t.png")
