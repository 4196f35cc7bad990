"""Convergence, spectrum and coefficients, seen through matplotlib's own objects."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from sngd.plot import plot_coefficients, plot_convergence, plot_spectrum
from tests.pictures import check, curves


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


def test_the_loss_on_fresh_points_is_a_thin_second_curve(tmp_path: Path, figures: list[Figure]) -> None:
    records = [r | {"holdout": 2 * r["loss"] if r["step"] % 4 == 0 else None} for r in history()]
    plot_convergence(records, tmp_path / "c.png")
    drawn = curves(figures[0])
    assert drawn["loss on fresh points"][0] == pytest.approx([2.0, 4.0, 6.0, 8.0, 10.0])
    assert drawn["loss on fresh points"][1] == pytest.approx([2 * 10.0**-i for i in (4, 8, 12, 16, 20)])
    widths = {line.get_label(): line.get_linewidth() for line in figures[0].axes[0].lines}
    assert widths["loss on fresh points"] < widths["loss"]


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


@pytest.mark.parametrize("damping", [0.5, 1e-2, 1e-5, 1e-12, 1e-30, 1e30])
@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_the_label_of_the_damping_stands_clear_of_the_curves(
    tmp_path: Path, figures: list[Figure], damping: float, ratio: float
) -> None:
    plot_spectrum([(8, ratio ** np.arange(60))], tmp_path / "s.png", damping)
    axes = figures[0].axes[0]
    box = axes.texts[0].get_window_extent()
    x, y = (np.asarray(data, dtype=float) for data in axes.lines[0].get_data())
    points = axes.transData.transform(np.stack([x, y], axis=1))
    assert not box.count_contains(points)
    assert box.y0 >= axes.get_window_extent().y0 - 1


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


# Coefficients


def test_coefficients_are_drawn_beside_the_values_that_are_known(
    tmp_path: Path, figures: list[Figure]
) -> None:
    records = [{"step": i, "coefficients": {"kappa": 1 + 0.1**i, "c": 2.0 * i}} for i in range(1, 6)]
    path = plot_coefficients([{"step": 0}, *records], tmp_path / "c.png", {"kappa": 1.0})
    check(tmp_path / "c.png", path)
    kappa, c, error = figures[0].axes
    assert (kappa.get_ylabel(), c.get_ylabel()) == (r"$\kappa$", "$c$")
    known, found = kappa.lines
    assert list(known.get_ydata()) == [1.0, 1.0]  # type: ignore[arg-type]
    assert list(found.get_xdata()) == [1, 2, 3, 4, 5], "a record without coefficients is left out"  # type: ignore[arg-type]
    assert found.get_ydata() == pytest.approx([1 + 0.1**i for i in range(1, 6)])
    assert error.lines[0].get_ydata() == pytest.approx([0.1**i for i in range(1, 6)])
    assert error.get_yscale() == "log"
    assert len(c.lines) == 1
    assert c.lines[0].get_ydata() == pytest.approx([2.0 * i for i in range(1, 6)])
    assert c.get_xlabel() == error.get_xlabel() == "step"


def test_coefficients_of_which_none_is_known_have_one_row(tmp_path: Path, figures: list[Figure]) -> None:
    plot_coefficients([{"step": 1, "coefficients": {"a": 1.0, "b": -1.0}}], tmp_path / "c.png")
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["$a$", "$b$"]
    with pytest.raises(ValueError, match="no record of the history holds coefficients"):
        plot_coefficients([{"step": 1}, {"step": 2, "coefficients": None}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
