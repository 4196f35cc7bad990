"""Scaling in words: measured beside predicted, what was fitted, and the projection to GPUs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sngd.bench.definition import LOOPBACK
from sngd.bench.projection import PROBLEMS, SOURCES
from sngd.bench.scaling_figures import LINK_NAMES

__all__ = ["CLOSE", "markdown", "points_table", "projection_table"]

# What a prediction may differ from its measurement by.
CLOSE = 0.2
# Share of its time that a rank alone has a processor on an idle machine.
_QUIET = 0.95


def markdown(model: Mapping[str, Any]) -> str:
    """The sections of a page."""
    parts = [
        _verdict(model),
        points_table(model["points"]),
        _waits(model["points"]),
        _fitted(model),
        _collectives(model["collectives"]),
    ]
    if model.get("projection"):
        parts += [_PROJECTED, projection_table(model["projection"]), _sources()]
    return "\n\n".join(filter(None, parts))


def _verdict(model: Mapping[str, Any]) -> str:
    points = model["points"]
    predicted = [p for p in points if p["ranks"] > 1]
    if not predicted:
        return ""
    idle = min((p["busy"] for p in points if p["ranks"] == 1), default=1.0)
    near = sum(abs(p["deviation"]) <= CLOSE for p in predicted)
    worst = max(predicted, key=lambda p: abs(p["deviation"]))
    text = (
        "The model was fitted to runs on one rank and to collectives by themselves on two. It predicts "
        f"{near} of {len(predicted)} runs on several ranks to within {CLOSE:.0%}; the worst is "
        f"{worst['task']}, {worst['deviation']:+.0%}."
    )
    weak = [
        p for p in points if p["how"] == "weak" and p["link"] == LOOPBACK and p["ranks"] <= model["cores"]
    ]
    said = ", ".join(
        f"{p['efficiency']:.0%} on {p['ranks']} ranks" for p in weak if math.isfinite(p["efficiency"])
    )
    if said:
        text += f" Efficiency of weak scaling over loopback, a core for each rank: {said}."
    if idle < _QUIET:
        text += f" **The machine was not idle: a rank alone had a processor for {idle:.0%} of its time.**"
    return text + (
        f" There are {model['cores']} cores: more ranks than that take turns, their efficiency is per core."
    )


def points_table(points: Sequence[Mapping[str, Any]]) -> str:
    """Every task: seconds measured and predicted."""
    header = [
        "",
        "ranks",
        "link",
        "points",
        "measured [s]",
        "predicted [s]",
        "deviation",
        "efficiency",
        "MB a step",
    ]
    lines = []
    for p in points:
        efficiency = (
            "–" if p["ranks"] == 1 or not math.isfinite(p["efficiency"]) else f"{p['efficiency']:.0%}"
        )
        moved = "–" if p["ranks"] == 1 else f"{p['bytes_moved'] / 1e6:.2f}"
        measured = f"{p['measured']:.3f}"
        if p["low"] != p["high"]:
            measured += f" ({p['low']:.3f}–{p['high']:.3f})"
        link = "–" if p["ranks"] == 1 else LINK_NAMES[p["link"]]
        size = [p["how"], str(p["ranks"]), link, f"{p['points']:,}"]
        lines.append([*size, measured, f"{p['predicted']:.3f}", f"{p['deviation']:+.0%}", efficiency, moved])
    return _table(header, lines, left=(0, 2))


def _waits(points: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds of collectives, by label: waited by rank 0, predicted."""
    several = [p for p in points if p["ranks"] > 1]
    labels = dict.fromkeys(label for p in several for label in p["waited"])
    if not labels:
        return ""
    lines = [
        [p["how"], str(p["ranks"]), LINK_NAMES[p["link"]]]
        + [f"{1e3 * p['waited'].get(n, 0.0):.1f} / {1e3 * p['parts'].get(n, 0.0):.1f}" for n in labels]
        for p in several
    ]
    text = (
        "Milliseconds of a step in collectives, waited by rank 0 / predicted. A wait holds what other ranks "
        "were late by, which the prediction does not."
    )
    return f"{text}\n\n{_table(['', 'ranks', 'link', *labels], lines, left=(0, 2))}"


def _fitted(model: Mapping[str, Any]) -> str:
    lines = []
    for link, found in model["links"].items():
        rate = found["bytes_per_second"]
        wire = "–" if rate is None else f"{rate / 1e6:.1f}"
        lines.append([LINK_NAMES[link], f"{1e6 * found['latency_seconds']:.0f}", wire])
    handling = next(iter(model["links"].values()))["handling_seconds_per_byte"]
    costs = ", ".join(f"{kind} {1e9 * value:.2f}" for kind, value in handling.items())
    speeds = model["speeds"]
    text = (
        f"Fitted: handling of a byte on the wire by a processor, ns: {costs}; waiting for a turn where ranks "
        f"share a core, ms a message: {1e3 * model['turn_seconds']:.2f}; work shared out takes "
        f"{speeds['shared']:.2f} times what `sngd/costs.py` says, work repeated by every rank "
        f"{speeds['repeated']:.2f} times. Links:"
    )
    return f"{text}\n\n{_table(['link', 'latency [µs]', 'rate [MB/s]'], lines)}"


def _collectives(probes: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for p in probes:
        ratio = p["predicted"] / p["seconds"] - 1.0
        size = f"{p['bytes']:,}"
        row = [LINK_NAMES[p["link"]], str(p["ranks"]), p["kind"], size]
        lines.append([*row, f"{1e3 * p['seconds']:.3f}", f"{1e3 * p['predicted']:.3f}", f"{ratio:+.0%}"])
    header = ["link", "ranks", "collective", "bytes", "measured [ms]", "predicted [ms]", "deviation"]
    body = _table(header, lines, left=(0, 2))
    return f"<details><summary>Collectives by themselves</summary>\n\n{body}\n\n</details>"


_PROJECTED = (
    "#### Projection to GPUs\n\nNot measured: counts of this project's model with published rates of other "
    "people's machines. Seconds of a step; in brackets the share of collectives. Replicated: every GPU "
    "factors the sketch. Sharded: rows of the basis over GPUs. Tree: triangles merged in pairs, in place of "
    "R·(k+1)² numbers gathered everywhere."
)


def projection_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Problems and layouts down, numbers of GPUs across."""
    gpus = sorted({r["ranks"] for r in rows})
    lines = []
    for problem in dict.fromkeys(r["problem"] for r in rows):
        mine = [r for r in rows if r["problem"] == problem]
        for sharded, tree in dict.fromkeys((r["sharded"], r["tree"]) for r in mine):
            found = {r["ranks"]: r for r in mine if (r["sharded"], r["tree"]) == (sharded, tree)}
            layout = ("sharded" if sharded else "replicated") + (", tree" if tree else "")
            cells = [_cell(found[g]) for g in gpus]
            first, last = found[gpus[0]], found[gpus[-1]]
            work = gpus[-1] / gpus[0] if problem == "strong" else 1.0
            cells.append(f"{first['seconds'] / last['seconds'] / work:.0%}")
            cells.append(f"{last['gathered_bytes'] / 1e9:.2g}")
            lines.append([PROBLEMS[problem].about, layout, *cells])
    header = [
        *("problem", "layout", *[f"{g} [s]" for g in gpus]),
        *(f"efficiency of {gpus[-1]}", "largest gather [GB]"),
    ]
    return _table(header, lines, left=(0, 1))


def _cell(row: Mapping[str, Any]) -> str:
    sent = sum(row["parts"][part] for part in ("sketch", "triangles", "rest"))
    return f"{row['seconds']:.3g} ({sent / row['seconds']:.0%})"


def _sources() -> str:
    lines = [[f"{value:.3g}", about, where] for value, about, where in SOURCES.values()]
    return _table(["rate", "of what", "source"], lines, left=(1, 2))


def _table(header: Sequence[str], lines: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    rule = ["---" if number in left else "---:" for number in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])
