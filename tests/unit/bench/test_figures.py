"""Pictures of suites, seen through matplotlib's own objects."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from sngd.bench import suites
from sngd.bench.figures import draw_suite, envelope, look, picture_name
from sngd.bench.projection import project_all
from tests.bench_records import content, reaching, record


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, in order."""
    saved = []
    save = Figure.savefig

    def spy(figure, *args, **kwargs):
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def test_the_median_of_curves_lies_between_their_range():
    x = np.array([1.0, 10.0, 100.0])
    curves = [(x, scale * x**-2.0, False) for scale in (1.0, 3.0, 20.0)]
    grid, median, low, high = envelope(curves)
    assert (grid[0], grid[-1]) == (1.0, 100.0)
    assert median == pytest.approx(3.0 * grid**-2.0), "straight lines on logarithmic axes"
    assert low == pytest.approx(grid**-2.0)
    assert high == pytest.approx(20.0 * grid**-2.0)


def test_a_curve_that_ended_keeps_its_value_and_a_broken_one_drops_out():
    short, long = np.array([1.0, 10.0]), np.array([1.0, 1000.0])
    y = np.array([1.0, 1e-3])
    grid, _, low, _ = envelope([(short, y, False), (long, np.ones(2), False)])
    assert grid[-1] == 1000.0
    assert low[-1] == pytest.approx(1e-3)
    grid, median, low, _ = envelope([(short, y, True), (long, np.ones(2), False), (long, np.ones(2), False)])
    assert grid[-1] == 1000.0
    assert low[-1] == median[-1] == pytest.approx(1.0)
    grid, *_ = envelope([(short, y, True), (long, np.ones(2), False)])
    assert grid[-1] <= 10.0, "one of two is no median"


@pytest.mark.filterwarnings("error")
def test_a_race_has_a_line_per_entry_over_time_and_over_steps(tmp_path, figures):
    runs = [
        *(record("sngd", [(1.0, 0.1), (2.0, 1e-4 * (1 + seed))], seed=seed) for seed in range(3)),
        record("engd-w", [(2.0, 0.3), (8.0, 1e-3)]),
        record("adam", [(1.0, 0.5)], failure="out of memory"),
        record("auto", [(1.0, math.nan)], failure="error"),
    ]
    drawn = draw_suite(content("rivals", "race", runs), tmp_path / "rivals")
    assert drawn == [tmp_path / "rivals" / "heat.png"]
    image = imread(drawn[0])
    assert image[..., :3].std() > 0.02
    assert image.shape[1] > 2 * image.shape[0] > 600
    (figure,) = figures
    time, steps = figure.axes
    assert (time.get_xlabel(), steps.get_xlabel()) == ("time [s]", "step")
    assert {time.get_xscale(), time.get_yscale(), steps.get_xscale()} == {"log"}
    lines = {line.get_label(): line for line in time.lines}
    assert lines["sngd"].get_ydata()[-1] == pytest.approx(2e-4)
    assert lines["engd-w"].get_xdata()[-1] == 8.0
    assert len(time.collections) == 3, "a band each"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sngd", "engd-w", "adam"], "best first"


def test_an_optimizer_keeps_its_colour_and_its_variants_differ_by_dashes():
    looks = {label: look(label, entry.optimizer) for label, entry in suites.ENTRIES.items()}
    by_optimizer = {}
    for label, entry in suites.ENTRIES.items():
        by_optimizer.setdefault(entry.optimizer, set()).add(looks[label]["color"])
    assert all(len(colours) == 1 for colours in by_optimizer.values())
    assert len({str(style) for style in looks.values()}) == len(looks), "no two look alike"


def test_the_map_shows_who_is_first_by_how_much_and_how_auto_did(tmp_path, figures):
    runs = []
    for points in (500, 2000):
        for parameters in (400, 1900):
            size = {"points": points, "parameters": parameters, "task": f"N={points} P={parameters}"}
            first = "sngd" if points > 1000 else "engd-w"
            runs += [reaching(first, 2.0, **size), reaching("engd", 3.0, **size)]
            runs.append(reaching("engd-w" if first == "sngd" else "sngd", 8.0, **size))
            runs.append(reaching("auto", 2.1 if parameters == 400 else 5.0, notes=["auto: kernel"], **size))
    (path,) = draw_suite(content("crossover", "map", runs), tmp_path)
    assert imread(path)[..., :3].std() > 0.05
    (figure,) = figures
    (axes,) = figure.axes
    colours = {patch.get_xy(): patch.get_facecolor() for patch in axes.patches}
    assert colours[-0.5, -0.5] == colours[-0.5, 0.5] != colours[0.5, -0.5] == colours[0.5, 0.5]
    assert {text.get_text() for text in axes.texts} == {"1.5×"}
    *marks, border = axes.lines
    assert list(border.get_ydata()) == [0.5, 0.5, 1.5, 1.5], "P ≤ N below"
    assert {mark.get_marker() for mark in marks if mark.get_ydata()[0] < 0} == {"o"}
    assert {mark.get_marker() for mark in marks if mark.get_ydata()[0] > 0} == {"X"}
    assert [t.get_text() for t in axes.get_xticklabels()] == ["500", "2,000"]


def test_scaling_is_drawn_beside_what_would_be_perfect(tmp_path, figures):
    runs = []
    for ranks, seconds in ((1, 4.0), (2, 2.4)):
        runs.append(reaching("sngd", seconds, task=f"strong {ranks}", ranks=ranks))
        runs.append(reaching("sngd", 4.4, task=f"weak {ranks}", ranks=ranks))
    (path,) = draw_suite(content("scaling", "scaling", runs), tmp_path)
    assert path.name == "scaling.png"
    strong, weak = (
        {(tuple(line.get_ydata()), line.get_linestyle()) for line in a.lines} for a in figures[0].axes
    )
    assert {((2.0, 1.2), "-"), ((2.0, 1.0), ":")} <= strong
    assert {((2.2, 2.2), "-"), ((2.2, 2.2), ":")} <= weak


def test_predictions_are_drawn_beside_measurements_and_the_projection_apart(tmp_path, figures):
    runs = [
        reaching("sngd", 4.0, task="alone 1/1"),
        reaching("sngd", 2.4, task="strong 2 loopback", ranks=2),
    ]
    points = [{"task": "alone 1/1", "predicted": 2.1}, {"task": "strong 2 loopback", "predicted": 1.1}]
    model = {"points": points, "projection": project_all((8, 16))}
    drawn = draw_suite({**content("scaling", "scaling", runs), "model": model}, tmp_path)
    assert [path.name for path in drawn] == ["scaling.png", "gpus-scaling.png"]
    measured, projected = figures
    lines = {(tuple(line.get_ydata()), line.get_linestyle()) for line in measured.axes[0].lines}
    assert {((2.0, 1.2), "-"), ((2.1, 1.1), "--"), ((2.0, 1.0), ":")} <= lines
    bars = [axes.containers for axes in projected.axes]
    assert all(len(containers) == 3 * 5 for containers in bars), "three layouts of five parts"
    lowest = [bar.get_height() for bar in bars[1][0]]
    assert lowest[0] == pytest.approx(lowest[1]), "weak: a GPU's rows stay what they are"


def test_nothing_to_draw_makes_no_folder(tmp_path):
    failed = [record("sngd", [], failure="error")]
    for kind in ("race", "map", "scaling"):
        assert draw_suite(content("s", kind, failed), tmp_path / "s") == []
    assert not (tmp_path / "s").exists()


def test_names_of_pictures_are_plain():
    assert picture_name("N=500 P=477") == "N-500-P-477.png"
