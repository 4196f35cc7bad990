"""Fields beside the known solution: what is drawn, seen through matplotlib's own objects."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import imread

from sngd.domain import Box
from sngd.plot import plot_solution
from sngd.plot.style import italic
from tests.pictures import Ring, build, check


def maps(figure: Figure) -> list[Any]:
    return [axes.collections[0] for axes in figure.axes if axes.collections and axes.get_title()]


def test_curves_of_one_coordinate(tmp_path: Path, figures: list[Figure]) -> None:
    problem, network = build(Box(x=(-1, 3)), lambda p: p.values[:, 0] ** 2)
    check(tmp_path / "u.png", plot_solution(problem, network, network.initial, tmp_path / "u.png"))
    top, below = figures[0].axes
    drawn = {str(line.get_label()): line for line in top.lines}
    x = np.asarray(drawn["network"].get_xdata())
    assert (x[0], x[-1]) == (-1, 3)
    u = network(network.initial, torch.from_numpy(x)[:, None])[:, 0].numpy()
    assert drawn["network"].get_ydata() == pytest.approx(u)
    assert drawn["solution"].get_ydata() == pytest.approx(x**2)
    assert below.get_yscale() == "log"
    assert below.lines[0].get_ydata() == pytest.approx(np.abs(u - x**2))
    assert below.get_xlabel() == "$x$"


def test_maps_of_two_coordinates_have_time_on_the_horizontal_axis(
    tmp_path: Path, figures: list[Figure]
) -> None:
    solution = lambda p: 2 * p.values[:, 0] + p.values[:, 1]  # noqa: E731
    problem, network = build(Box(x=(-1, 1), t=(0, 4)), solution)
    check(tmp_path / "u.png", plot_solution(problem, network, network.initial, tmp_path / "u.png"))
    panel = figures[0].axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("$t$", "$x$")
    assert (panel.get_xlim(), panel.get_ylim()) == ((0, 4), (-1, 1))
    network_map, solution_map, error_map = maps(figures[0])
    t, x = np.meshgrid(np.linspace(0, 4, 201), np.linspace(-1, 1, 201))
    assert np.asarray(solution_map.get_array()) == pytest.approx(2 * x + t), "rows are x, columns t"
    points = torch.from_numpy(np.stack([x.ravel(), t.ravel()], axis=1))
    u = network(network.initial, points).numpy().reshape(x.shape)
    assert np.asarray(network_map.get_array()) == pytest.approx(u)
    assert np.asarray(error_map.get_array()) == pytest.approx(np.abs(u - 2 * x - t))
    assert isinstance(error_map.norm, LogNorm)
    assert network_map.get_clim() == solution_map.get_clim() == (-6, 6), "one scale for both"
    assert solution_map.get_cmap().name == "RdBu_r"


def test_a_field_of_one_sign_is_sequential_and_space_is_to_scale(
    tmp_path: Path, figures: list[Figure]
) -> None:
    problem, network = build(Box(x=(0, 2), y=(0, 1)), lambda p: 1 + p.values[:, 0])
    plot_solution(problem, network, network.initial, tmp_path / "u.png")
    panel = figures[0].axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("$x$", "$y$")
    assert panel.get_window_extent().width == pytest.approx(2 * panel.get_window_extent().height)
    _, solution_map, _ = maps(figures[0])
    assert solution_map.get_cmap().name == "viridis"
    assert solution_map.get_clim() == (1, 3)


def test_more_coordinates_are_a_slice_through_the_middle(tmp_path: Path, figures: list[Figure]) -> None:
    solution = lambda p: (p.values @ torch.tensor([1.0, 10, 100, 1000], dtype=torch.float64)) / 1  # noqa: E731
    problem, network = build(Box(x=(0, 1), y=(0, 1), z=(2, 4), t=(0, 1)), solution)
    plot_solution(problem, network, network.initial, tmp_path / "u.png")
    assert figures[0].get_suptitle() == "slice at $z$ = 3, $t$ = 0.5"
    _, solution_map, _ = maps(figures[0])
    values = np.asarray(solution_map.get_array())
    assert values[0, 0] == pytest.approx(800)
    assert values[-1, 0] - values[0, 0] == pytest.approx(10), "y is vertical"


def test_a_hundred_coordinates_are_not_listed(tmp_path: Path, figures: list[Figure]) -> None:
    domain = Box(periodic=(), **{f"x{i}": (0, 1) for i in range(100)})
    problem, network = build(domain, lambda p: p.values.square().sum(1))
    check(tmp_path / "u.png", plot_solution(problem, network, network.initial, tmp_path / "u.png"))
    assert figures[0].get_suptitle() == "slice at the middle of the 98 other coordinates"
    _, solution_map, _ = maps(figures[0])
    assert np.asarray(solution_map.get_array())[0, 0] == pytest.approx(98 / 4)


def test_a_system_has_a_row_per_field(tmp_path: Path, figures: list[Figure]) -> None:
    solution = lambda p: (p.values[:, 0], p.values[:, 1] ** 2)  # noqa: E731
    problem, network = build(Box(x=(0, 1), y=(0, 1)), solution, ("u", "pressure"))
    check(tmp_path / "u.png", plot_solution(problem, network, network.initial, tmp_path / "u.png"))
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    error = "|network − solution|"
    first, second = ["$u$, network", "$u$, solution"], ["pressure, network", "pressure, solution"]
    assert titles == [*first, error, *second, error]


@pytest.mark.parametrize(
    "domain", [Box(x=(0, 1)), Box(x=(0, 1), y=(0, 1)), Box(a=(0, 1), b=(0, 1), c=(0, 1))]
)
def test_without_a_solution_the_network_stands_alone(
    tmp_path: Path, figures: list[Figure], domain: Box
) -> None:
    problem, network = build(domain, None)
    check(tmp_path / "u.png", plot_solution(problem, network, network.initial, tmp_path / "u.png"))
    assert len([a for a in figures[0].axes if a.get_title() or a.lines]) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("domain", [Box(x=(0, 1)), Box(x=(0, 1), t=(0, 1))])
@pytest.mark.parametrize("value", [0.0, -2.5, math.nan])
def test_constants_zeros_and_nan(tmp_path: Path, domain: Box, value: float) -> None:
    problem, network = build(domain, lambda p: torch.full_like(p.values[:, 0], value))
    for scale in (0, 1, math.nan):
        theta = scale * network.initial
        assert plot_solution(problem, network, theta, tmp_path / "u.png").stat().st_size > 2000


def test_float32_is_drawn(tmp_path: Path) -> None:
    problem, network = build(Box(x=(0, 1), y=(0, 1)), lambda p: p.values[:, 0])
    network, theta = network.to(torch.float32, "cpu"), network.initial.float()
    check(tmp_path / "u.png", plot_solution(problem, network, theta, tmp_path / "u.png"))


def test_importing_does_not_import_matplotlib_and_drawing_does_not_touch_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, sngd.plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"sngd.plot.plot_convergence([dict(step=1, loss=1.0)], {str(tmp_path / 'c.png')!r})\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_what_lies_outside_of_the_domain_stays_white(tmp_path: Path, figures: list[Figure]) -> None:
    radius = lambda p: ((p.values - 0.5) ** 2).sum(1)  # noqa: E731
    problem, network = build(Ring(x=(0, 1), y=(0, 1)), lambda p: radius(p).log())
    check(tmp_path / "u.png", plot_solution(problem, network, network.initial, tmp_path / "u.png"))
    y, x = np.meshgrid(*[np.linspace(0, 1, 201)] * 2, indexing="ij")
    inside = problem.domain.contains(torch.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1)))
    for shown in maps(figures[0]):
        values = np.ma.filled(shown.get_array(), np.nan)
        assert np.array_equal(np.isfinite(values).ravel(), inside.numpy())
        assert shown.axes.get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize("known", [True, False])
def test_labels_are_not_cut_off(tmp_path: Path, figures: list[Figure], known: bool) -> None:
    solution = lambda p: (1e-3 * p.values[:, 0], 100 * p.values[:, 1])  # noqa: E731
    problem, network = build(Box(x=(-1, 1), y=(-1, 1)), solution if known else None, ("u", "v"))
    plot_solution(problem, network, 100 * network.initial, tmp_path / "u.png")
    figure = figures[0]
    for axes in figure.axes:
        shown = axes.get_tightbbox()
        assert shown is not None
        assert shown.x0 >= figure.bbox.x0
        assert shown.x1 <= figure.bbox.x1
        assert shown.y1 <= figure.bbox.y1


def test_a_pdf_has_vectors_and_dots_per_inch_count(tmp_path: Path) -> None:
    problem, network = build(Box(x=(0, 1)), lambda p: p.values[:, 0])
    path = plot_solution(problem, network, network.initial, tmp_path / "u.pdf")
    assert path.read_bytes().startswith(b"%PDF")
    sizes = []
    for dpi in (60, 120):
        path = plot_solution(problem, network, network.initial, tmp_path / f"{dpi}.png", dpi)
        sizes.append(imread(path).shape[:2])
    assert sizes[1] == tuple(2 * side for side in sizes[0])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x", "$x$"),
        ("x12", "$x_{12}$"),
        ("kappa", r"$\kappa$"),
        ("pressure", "pressure"),
        ("mu_2", r"$\mu_{2}$"),
    ],
)
def test_names_are_set_as_in_print(name: str, shown: str) -> None:
    assert italic(name) == shown
