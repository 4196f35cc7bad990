"""Pictures of scaling: time per step over ranks, measured and predicted; the projection to GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sngd.bench.definition import LINKS, LOOPBACK
from sngd.bench.summary import spread
from sngd.plot import COLOURS, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LINK_NAMES", "draw_scaling"]

Record = Mapping[str, Any]
LINK_NAMES = {LOOPBACK: "loopback", "1gbit": "1 Gbit/s", "100mbit": "100 Mbit/s"}
_PANELS = ("strong", "weak")
_PARTS = ("rows", "factorisations", "sketch", "triangles", "rest")
_LAYOUTS = {(False, False): "replicated", (True, False): "sharded", (True, True): "sharded, tree"}


def draw_scaling(
    model: Mapping[str, Any] | None, records: Sequence[Record], folder: Path, name: str
) -> list[Path]:
    """The pictures of a scaling suite.

    Args:
        model: what was fitted; None where too little was measured, and measurements stand alone.
        records: of the runs.
        folder: where the pictures go.
        name: of the first.
    """
    drawn = [_over_ranks(model, records, folder / name)]
    if model is not None and model.get("projection"):
        drawn.append(_projection(model["projection"], folder / f"gpus-{name}"))
    return drawn


def _over_ranks(model: Mapping[str, Any] | None, records: Sequence[Record], path: Path) -> Path:
    """Strong and weak side by side: a colour for each link, markers measured, dashes predicted."""
    predicted = {} if model is None else {p["task"]: p["predicted"] for p in model["points"]}
    with picture(path, 7.0, 3.2) as figure:
        panels = figure.subplots(1, len(_PANELS), sharey=True)
        for axes, how in zip(panels, _PANELS, strict=True):
            lines = _lines(records, how)
            for link, colour in zip(LINKS, COLOURS, strict=False):
                if found := lines.get(link):
                    _line(axes, found, predicted, colour, LINK_NAMES[link])
            _perfect(axes, lines, how)
            _dress(axes, how, sorted({rank for line in lines.values() for rank in line}))
        panels[0].set_ylabel("time per step [s]")
        handles = {h.get_label(): h for axes in panels for h in axes.get_legend_handles_labels()[0]}
        figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    return path


def _lines(records: Sequence[Record], how: str) -> dict[str, dict[int, list[Record]]]:
    """Runs by link and ranks; the run alone on all points is the start of every line."""
    lines: dict[str, dict[int, list[Record]]] = {}
    for record in records:
        if record["task"].startswith(how) and _seconds(record):
            lines.setdefault(record.get("link", LOOPBACK), {}).setdefault(record["ranks"], []).append(record)
    alone = [r for r in records if r["task"].startswith("alone") and _seconds(r)]
    if alone:
        most = max(r["points"] for r in alone)
        for line in lines.values():
            line[1] = [r for r in alone if r["points"] == most]
    return lines


def _seconds(record: Record) -> float | None:
    """Of a typical step; the mean in records of an earlier time."""
    if record.get("pace"):
        return float(record["pace"]["seconds"])
    return record["seconds"] / record["steps"] if record["steps"] else None


def _line(
    axes: Axes, line: Mapping[int, Sequence[Record]], predicted: Mapping[str, float], colour: str, name: str
) -> None:
    ranks = sorted(line)
    spreads = [spread([_seconds(r) for r in line[rank]]) for rank in ranks]
    reach = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    axes.errorbar(
        ranks,
        [s.median for s in spreads],
        yerr=reach,
        color=colour,
        marker="o",
        ms=4,
        capsize=2,
        label=name,
        ls="-",
    )
    known = [(rank, predicted[line[rank][0]["task"]]) for rank in ranks if line[rank][0]["task"] in predicted]
    if known:
        axes.plot(*zip(*known, strict=True), color=colour, marker="x", ms=5, ls="--", lw=1)


def _perfect(axes: Axes, lines: Mapping[str, Mapping[int, Sequence[Record]]], how: str) -> None:
    line = next(iter(lines.values()), {})
    if line:
        ranks = np.array(sorted(line))
        first = spread([_seconds(r) for r in line[int(ranks[0])]]).median
        shown = first * (ranks[0] / ranks if how == "strong" else np.ones(len(ranks)))
        axes.plot(ranks, shown, color="black", ls=":", lw=1, label="perfect")
    axes.plot([], [], color="black", marker="x", ms=5, ls="--", lw=1, label="predicted")


def _dress(axes: Axes, how: str, ranks: Sequence[int]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set(xscale="log", yscale="log", xlabel="ranks of one thread")
    axes.set_title(how, loc="left")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xticks(ranks, [str(r) for r in ranks])
    axes.minorticks_off()


def _projection(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Cost of a step on GPUs as stacked bars: a panel for each problem, a bar for each layout and number.

    Strong scaling is drawn as seconds × GPUs, weak as seconds: flat is perfect in both. The unit is the least
    total on the fewest GPUs.
    """
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    gpus = sorted({row["ranks"] for row in rows})
    layouts = [key for key in _LAYOUTS if any((r["sharded"], r["tree"]) == key for r in rows)]
    width = 0.8 / len(layouts)
    with picture(path, 7.4, 3.2) as figure:
        panels = figure.subplots(1, len(problems), squeeze=False)[0]
        for axes, problem in zip(panels, problems, strict=True):
            mine = [r for r in rows if r["problem"] == problem]
            times = {g: (g / gpus[0] if problem == "strong" else 1.0) for g in gpus}
            unit = min(r["seconds"] for r in mine if r["ranks"] == gpus[0])
            for number, layout in enumerate(layouts):
                bars = {r["ranks"]: r["parts"] for r in mine if (r["sharded"], r["tree"]) == layout}
                x = np.arange(len(gpus)) + (number - (len(layouts) - 1) / 2) * width
                below = np.zeros(len(gpus))
                for part, colour in zip(_PARTS, COLOURS, strict=False):
                    height = np.array([bars[g][part] * times[g] / unit for g in gpus])
                    label = part if number == 0 else None
                    axes.bar(x, height, width * 0.9, bottom=below, color=colour, label=label)
                    below += height
            axes.set_xticks(range(len(gpus)), [str(g) for g in gpus])
            axes.set_title(problem, loc="left")
            axes.set_xlabel(f"H100 GPUs; bars: {'; '.join(_LAYOUTS[k] for k in layouts)}", fontsize=7)
        panels[0].set_ylabel("GPU time of a step, relative")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", title="projected")
    return path
