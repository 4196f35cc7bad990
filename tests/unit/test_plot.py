"""Pictures: what is drawn, seen through matplotlib's own objects, and the PNG that results."""

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
from sngd.networks import MLP, Network
from sngd.plot import plot_convergence, plot_solution, plot_spectrum
from sngd.problem import Condition, Problem


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, in order."""
    saved: list[Figure] = []
    save = Figure.savefig

    def spy(figure: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def check(path: Path, returned: Path) -> np.ndarray:
    """The picture is a PNG of a sensible size that shows something."""
    assert returned == path
    image = imread(path)
    height, width = image.shape[:2]
    assert 300 < width < 3000
    assert 200 < height < 3000
    assert image[..., :3].std() > 0.02
    assert (image[0, 0, :3] == 1).all(), "white paper"
    return image


def history(steps: int = 20) -> list[dict[str, Any]]:
    return [
        {
            "step": i,
            "seconds": 0.5 * i,
            "loss": 10.0**-i,
            "relative_l2": 10.0 ** (-i / 2) if i % 5 == 0 else None,
            "losses": {"equation": 0.9 * 10.0**-i, "initial": 0.1 * 10.0**-i},
            "damping": 1e-3 / i,
            "sigma_k": 1e-3 / i,
            "rank": 64 + i,
            "effective_dimension": 32.5 + i,
        }
        for i in range(1, steps + 1)
    ]


def curves(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    lines = [line for axes in figure.axes for line in axes.lines]
    return {str(n.get_label()): (list(n.get_xdata()), list(n.get_ydata())) for n in lines}  # type: ignore[arg-type]


# Convergence


def test_convergence_draws_what_was_recorded(tmp_path: Path, figures: list[Figure]) -> None:
    check(tmp_path / "c.png", plot_convergence(history(), tmp_path / "c.png"))
    (figure,) = figures
    assert len(figure.axes) == 4
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log", "log", "linear"]
    drawn = curves(figure)
    assert drawn["loss"][0] == pytest.approx([0.5 * i for i in range(1, 21)])
    assert drawn["loss"][1] == pytest.approx([10.0**-i for i in range(1, 21)])
    assert drawn["relative $L^2$ error"][0] == pytest.approx([2.5, 5.0, 7.5, 10.0]), "None left out"
    assert drawn["initial"][1][0] == pytest.approx(0.01)
    assert drawn["equation"][0] == list(range(1, 21))
    assert drawn[r"last eigenvalue $\sigma_k^2$"][1][1] == pytest.approx(0.25e-6), "σ² beside λ"
    assert drawn["rank $k$"][1][-1] == 84
    assert drawn["effective dimension"][1][0] == 33.5


def test_legends_stand_outside_of_the_data(tmp_path: Path, figures: list[Figure]) -> None:
    plot_convergence(history(), tmp_path / "c.png")
    for axes in figures[0].axes:
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().y0 >= axes.get_window_extent().y1
        assert legend.get_window_extent().x1 <= figures[0].bbox.x1


def test_convergence_of_a_method_without_damping_leaves_those_panels_out(
    tmp_path: Path, figures: list[Figure]
) -> None:
    kept = ("step", "seconds", "loss", "losses")
    records = [{k: r[k] for k in kept} | {"damping": None} for r in history()]
    image = check(tmp_path / "c.png", plot_convergence(records, tmp_path / "c.png"))
    assert [a.get_ylabel() for a in figures[0].axes] == ["loss, error", "weighted losses"]
    assert image.shape[0] < 0.5 * image.shape[1]


@pytest.mark.filterwarnings("error")
def test_convergence_survives_odd_values(tmp_path: Path, figures: list[Figure]) -> None:
    odd = history(4)
    odd[0] |= {"loss": math.nan, "losses": None}
    odd[1] |= {"loss": 0.0, "damping": 0.0}
    odd[2] |= {"loss": math.inf}
    check(tmp_path / "c.png", plot_convergence(odd, tmp_path / "c.png"))
    assert curves(figures[0])["loss"] == ([2.0], [1e-4])
    for records in (history(1), [{"step": 1}], [{"step": 1, "loss": 0.0}]):
        assert plot_convergence(records, tmp_path / "c.png").stat().st_size > 0


def test_many_conditions_stay_apart(tmp_path: Path, figures: list[Figure]) -> None:
    names = [f"condition {j}" for j in range(12)]
    records = [{"step": i, "losses": {n: 10.0**-i for n in names}} for i in range(3)]
    plot_convergence(records, tmp_path / "c.png")
    lines = figures[0].axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12


def test_an_empty_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="history is empty"):
        plot_convergence([], tmp_path / "c.png")
    assert not list(tmp_path.iterdir())


# Spectrum


def test_spectrum_draws_eigenvalues_and_damping(tmp_path: Path, figures: list[Figure]) -> None:
    sigma = [4.0 * 0.5 ** np.arange(10), 2.0 * 0.7 ** np.arange(15)]
    snapshots = [(8, sigma[1]), (1, sigma[0])]
    check(tmp_path / "s.png", plot_spectrum(snapshots, tmp_path / "s.png", damping=1e-3))
    axes, bar = figures[0].axes
    first, last, level = axes.lines
    assert list(first.get_xdata()) == list(range(1, 11))  # type: ignore[arg-type]
    assert first.get_ydata() == pytest.approx(0.25 ** np.arange(10))
    assert last.get_ydata() == pytest.approx(0.49 ** np.arange(15))
    assert axes.get_yscale() == "log"
    assert list(level.get_ydata()) == pytest.approx([1e-3 / 4] * 2), "λ over σ_1² of the last step"  # type: ignore[arg-type]
    assert "step 8" in axes.texts[0].get_text()
    assert [t.get_text() for t in bar.get_yticklabels()] == ["1", "8"]
    brightness = [sum(line.get_color()[:3]) for line in (first, last)]
    assert brightness[0] > brightness[1], "later steps are darker"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("damping", [None, 0.0, math.nan, math.inf])
def test_spectrum_without_damping_and_with_zeros(
    tmp_path: Path, figures: list[Figure], damping: float | None
) -> None:
    snapshots = [(1, np.array([3.0, 0.0, 0.0]))]
    check(tmp_path / "s.png", plot_spectrum(snapshots, tmp_path / "s.png", damping))
    (line,) = figures[0].axes[0].lines
    assert list(line.get_ydata()) == [1.0]  # type: ignore[arg-type]


def test_many_spectra_have_few_labels(tmp_path: Path, figures: list[Figure]) -> None:
    snapshots = [(10 * i, 0.9 ** np.arange(20 + i)) for i in range(40)]
    check(tmp_path / "s.png", plot_spectrum(snapshots, tmp_path / "s.png", 1e-5))
    labels = [t.get_text() for t in figures[0].axes[1].get_yticklabels()]
    assert len(figures[0].axes[0].lines) == 41
    assert len(labels) <= 8
    assert (labels[0], labels[-1]) == ("0", "390")


@pytest.mark.parametrize(
    ("snapshots", "message"),
    [([], "snapshots is empty"), ([(7, np.zeros(3))], "step 7"), ([(3, np.array([]))], "step 3")],
)
def test_an_impossible_spectrum_is_refused(tmp_path: Path, snapshots: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_spectrum(snapshots, tmp_path / "s.png")


# Solution


def build(domain: Box, solution: Any, fields: tuple[str, ...] = ("u",)) -> tuple[Problem, Network]:
    first = lambda w, p: w if len(fields) == 1 else w[0]  # noqa: E731
    conditions = [Condition("equation", first, domain.interior, points=4)]
    problem = Problem(domain, conditions, fields=fields, solution=solution)
    return problem, MLP((5,)).build(domain, len(fields), seed=1)


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
