"""benchmarks/README.md, made of the results of all suites and devices and of nothing else.

The sentences at its top are chosen by rule from the cells of the crossover suite, or of the rivals where that
has not been run: in a cell, the forms of the natural-gradient step ran on the same points and network.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sngd.bench import scaling_report
from sngd.bench.figures import draw_suite, picture_name
from sngd.bench.store import milestone_name, read
from sngd.bench.summary import NEAR, Cell, cells
from sngd.bench.table import by_task, caption, markdown_table
from sngd.tracking import write_whole

__all__ = ["answer", "read_all", "report", "write_report"]

# Files of the scripts in benchmarks/, which stand beside those of suites.
_NO_SUITES = (
    *("checkpoints", "costs", "fidelity", "fuzz", "jacobian", "kills", "library", "rows", "tracking"),
)
_DECIDING = ("crossover", "rivals")


def write_report(folder: Path, draw: bool = False) -> Path:
    """Write FOLDER/README.md from FOLDER/results/DEVICE/SUITE.json.

    Args:
        folder: of the benchmarks.
        draw: the pictures, too.

    Raises:
        ValueError: a file is damaged or cannot be written.
    """
    found = read_all(folder)
    path = folder / "README.md"
    try:
        if draw:
            for (device, suite), content in found.items():
                draw_suite(content, folder / "results" / device / suite)
        write_whole(path, report(found))
    except OSError as error:
        raise ValueError(f"report {str(path)!r} cannot be written: {error.strerror}") from error
    return path


def read_all(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Content by device and suite, in alphabetical order; other benchmarks leave their files beside them."""
    found = {}
    for path in sorted((folder / "results").glob("*/*.json")):
        if path.stem not in _NO_SUITES:
            found[path.parent.name, path.stem] = read(path)
    return found


def report(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """The page.

    Args:
        found: content of the results files by device and suite.
    """
    parts = ["# Benchmarks", "<!-- written by `sngd bench report` from results/; changes here are lost -->"]
    parts.append(answer(found))
    parts.append(_READING)
    for device in dict.fromkeys(device for device, _ in found):
        mine = {suite: content for (where, suite), content in found.items() if where == device}
        parts += [f"## {device}", *(_suite(device, content) for content in mine.values())]
    return "\n\n".join(part for part in parts if part) + "\n"


_READING = (
    "Seconds are training time, counted from before the first residual evaluation; left out are the start "
    "of the process, comparisons with the known solution and, on a GPU, one step of warm-up. Errors are "
    "relative L2; memory is the peak of the process or, on a GPU, of torch's allocations. Numbers are "
    "medians over seeds with the range in brackets, n/m where n of m seeds got there, – where fewer than "
    "half did."
)


# ---------------------------------------------------------------------------------------------
# The answer
# ---------------------------------------------------------------------------------------------


def answer(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Two sentences: does the kernel form make sketching needless, and where does each form win?"""
    for suite in _DECIDING:
        contests = [
            c for (_, name), content in found.items() if name == suite for c in cells(content["runs"])
        ]
        contests = [c for c in contests if {"sketched", "kernel"} <= c.times.keys()]
        contests = [c for c in contests if not math.isnan(c.ratio("sketched", "kernel"))]
        if contests:
            return f"**{_needless(contests, suite)}** {_where(contests)}"
    return (
        "Whether the kernel form makes sketching needless is not measured yet: run `sngd bench rivals` or "
        "`sngd bench crossover`."
    )


def _needless(contests: Sequence[Cell], suite: str) -> str:
    """The first sentence: yes or no by the share of cells that the sketched form is ahead in."""
    ratios = [c.ratio("sketched", "kernel") for c in contests]
    ahead = [r for r in ratios if r > 1]
    bound = any(c.ratio("sketched", "kernel") > 1 and math.isinf(c.times["kernel"]) for c in contests)
    share = len(ahead) / len(ratios)
    verdict = (
        "The kernel form makes sketching needless"
        if share == 0
        else "The kernel form makes sketching needless in most cases, not in all"
        if share < 0.5
        else "The kernel form does not make sketching needless, though it is ahead in some cases"
        if share < 1
        else "The kernel form does not make sketching needless"
    )
    cases = "cells" if suite == "crossover" else "problems"
    gain = f", by a factor of {_factor(statistics.median(ahead), bound)} in the median" if ahead else ""
    return f"{verdict}: the sketched form was ahead of it in {len(ahead)} of {len(ratios)} {cases}{gain}."


def _where(contests: Sequence[Cell]) -> str:
    """The second sentence: wins of each form on both sides of N = P, and how near `auto` came."""
    sides = {"N ≥ P": [c for c in contests if c.points >= c.parameters]}
    sides["N < P"] = [c for c in contests if c.points < c.parameters]
    said = [f"with {side} {_wins(there)}" for side, there in sides.items() if there]
    text = "Of all forms, " + "; ".join(said)
    judged = [c.auto_ratio for c in contests if not math.isnan(c.auto_ratio)]
    if judged:
        near = sum(r <= NEAR for r in judged)
        text += f"; `auto` took at most {NEAR:g} times as long as the winner in {near} of {len(judged)}"
    return text + "."


def _wins(contests: Sequence[Cell]) -> str:
    forms = [form for form in ("sketched", "kernel", "exact") if any(form in c.times for c in contests)]
    wins = {form: [c for c in contests if c.winner == form] for form in forms}
    order = sorted(forms, key=lambda form: -len(wins[form]))
    parts = []
    for form in order:
        if wins[form]:
            lead = statistics.median(c.lead for c in wins[form])
            bound = not all(c.second_arrived for c in wins[form])
            by = f"by {_factor(lead, bound)} over the next"
            parts.append(f"the {form} form was first in {len(wins[form])} ({by})")
    without = [form for form in order if not wins[form]]
    if without:
        parts.append(f"{' and '.join(f'the {form} form' for form in without)} in none")
    return ", ".join(parts) + f" of {len(contests)}"


def _factor(value: float, bound: bool) -> str:
    """A factor; a lower bound where some rival did not arrive and its budget stood in for its time."""
    return "at least " * bound + (f"{value:.1f}" if value < 10 else f"{value:,.0f}")


# ---------------------------------------------------------------------------------------------
# A suite
# ---------------------------------------------------------------------------------------------


def _suite(device: str, content: Mapping[str, Any]) -> str:
    records, name = content["runs"], content["suite"]
    if not records:
        return ""
    parts = [f"### {name}", content["about"], _made_by(records, name)]
    where = f"results/{device}/{name}"
    if content["kind"] == "race":
        for task, mine in by_task(records).items():
            parts += [f"#### {task}", f"{caption(mine)}.", markdown_table(mine), _failures(mine)]
            if any(r["curve"]["seconds"] for r in mine):
                parts.append(f"![{task}: error over time and over steps]({where}/{picture_name(task)})")
        return "\n\n".join(filter(None, parts))
    contests = cells(records)
    if content["kind"] == "map" and contests:
        parts += [f"![winner over N and P]({where}/{picture_name(name)})", _map_table(contests)]
    elif content["kind"] == "scaling":
        parts += [f"![seconds per step over ranks]({where}/{picture_name(name)})"]
        if content.get("model"):
            parts.append(scaling_report.markdown(content["model"]))
            parts.append(f"![seconds per step on GPUs, projected]({where}/gpus-{picture_name(name)})")
        else:
            parts += [
                f"{task}: {caption(mine)}.\n\n{markdown_table(mine)}"
                for task, mine in by_task(records).items()
            ]
    return "\n\n".join(parts)


def _failures(records: Sequence[dict[str, Any]]) -> str:
    """What the failures of a task said, once each."""
    said = dict.fromkeys(f"{r['label']}: {r['failure']}, {r['message']}" for r in records if r["failure"])
    return "\n".join(f"- {text.replace(chr(10), ' ')}" for text in said)


def _made_by(records: Sequence[dict[str, Any]], name: str) -> str:
    """Machine, versions, threads, commits and dates of a suite."""
    machines = dict.fromkeys(_machine(r["machine"]) for r in records)
    threads = sorted({r["threads"] for r in records})
    commits = dict.fromkeys(r["commit"] or "an unknown commit" for r in records)
    dates = sorted({r["date"] for r in records})
    kinds = dict.fromkeys(r["dtype"] for r in records if r["dtype"])
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    count = " and ".join(map(str, threads))
    plural = "s" if threads != [1] else ""
    return (
        f"`sngd bench {name}` on {'; '.join(machines)}; {count} thread{plural} a process, "
        f"{', '.join(kinds) or 'unknown precision'}; commit {', '.join(commits)}; {when}."
    )


def _machine(about: Mapping[str, Any]) -> str:
    cores = f"{about['cores']} core{'s' * (about['cores'] > 1)}"
    return f"{about['gpu'] or about['cpu']}, {cores}, torch {about['torch']}, Python {about['python']}"


def _map_table(contests: Sequence[Cell]) -> str:
    """Seconds of each form to the goal of each cell."""
    forms = [f for f in ("sketched", "kernel", "exact") if any(f in c.times for c in contests)]
    header = ["N", "P", "error", *[f"{form} [s]" for form in forms], "auto [s]", "first"]
    lines = [header, ["---:"] * (len(header) - 1) + ["---"]]
    for cell in contests:
        times = [_time(cell.times.get(form)) for form in forms]
        goal = "–" if math.isnan(cell.goal) else milestone_name(cell.goal)
        size = [f"{cell.points:,}", f"{cell.parameters:,}", goal]
        lines.append([*size, *times, _time(cell.chosen), cell.winner or "–"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _time(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"
