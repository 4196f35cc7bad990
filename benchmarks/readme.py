"""The tables of README.md, written from benchmarks/results between <!-- NAME: … --> and <!-- /NAME -->.

Run: python -m benchmarks.readme
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS

README = Path(__file__).parents[1] / "README.md"
PUBLISHED = Path(__file__).with_name("published.json")
# Where the figures of the README were measured.
MACHINE = "intel-xeon-processor-2-cores"

# Optimizers as they were published, by their labels in the suite.
_RIVALS = {
    "engd": "ENGD",
    "engd-damped": "damped ENGD",
    "engd-w": "ENGD-W",
    "spring": "SPRING",
    "ssbroyden": "SSBroyden",
    "lbfgs": "L-BFGS",
    "soap": "SOAP",
    "adam": "Adam",
}
_RACES = {
    "heat": ("heat 1+1-d", "1e-6"),
    "poisson2d": ("Poisson 2-d", "1e-6"),
    "burgers": ("Burgers, ν = 0.01", "1e-6"),
    "poisson5d": ("Poisson 5-d, resampled", "1e-4"),
}
_TARGETS = {
    "heat": ("heat 1+1-d", "1e-6", "1e-9"),
    "poisson2d": ("Poisson 2-d", "1e-6", "1e-9"),
    "poisson2d-5081": ("Poisson 2-d", "1e-6", "1e-9"),
    "burgers": ("Burgers, ν = 0.01", "1e-6", "1e-7"),
    "transport": ("transport, speed 30, resampled", "1e-4", "1e-5"),
    "nonlinear": ("nonlinear boundary-value problem", "1e-8", "1e-10"),
}
_LIBRARY = {
    "allen_cahn": ("Allen–Cahn", "the start's kink in closed form, the network is the rest"),
    "kdv": ("Korteweg–de Vries", ""),
    "schroedinger": ("Schrödinger", "smooth periodic start, see `sngd problems schroedinger`"),
    "burgers_shock": ("Burgers, ν = 0.01/π", ""),
    "wave": ("wave", ""),
    "helmholtz": ("Helmholtz, sin πx sin 4πy", ""),
    "cavity": (
        "lid-driven cavity, Re = 100, u, v and p",
        "the lid's corners in closed form, the network is the rest",
    ),
    "inverse_diffusion": ("κ from 200 measurements without errors", "the error is that of κ"),
    "inverse_diffusion_noisy": ("κ from 200 measurements with errors of 1 %", "the error is that of κ"),
}
_KAPPA = 0.3  # of both inverse problems, sngd/problems/inverse.py
_NEVER = float("inf")

Runs = Sequence[Mapping[str, Any]]


def tables(folder: Path = RESULTS / MACHINE) -> dict[str, str]:
    """All tables by the names of their marks."""
    runs = {name: json.loads((folder / f"{name}.json").read_text())["runs"] for name in ("rivals", "targets")}
    library = json.loads((folder / "library.json").read_text())["runs"]
    return {
        "rivals": races(runs["rivals"]),
        "targets": targets(runs["targets"]),
        "library": problems(library),
        "published": published(json.loads(PUBLISHED.read_text())["rows"]),
    }


def races(runs: Runs) -> str:
    """Seconds to an error by this project's step, and by the first of the published rivals."""
    rows = []
    for task, (title, goal) in _RACES.items():
        ours = [run for run in runs if (run["task"], run["label"]) == (task, "sngd")]
        about = ours[0]
        own = span([seconds_to(run, goal) for run in ours])
        cells = (title, f"{about['parameters']:,}", f"{about['points']:,}", goal, own)
        rows.append([*cells, _first_rival(runs, task, goal)])
    return table(
        ("problem", "parameters", "points", "error", "`sngd`", "first of the published rivals"), rows
    )


def _first_rival(runs: Runs, task: str, goal: str) -> str:
    """The rival of the least median time, and those that are earlier than it with some of their seeds."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if run["task"] == task and run["label"] in _RIVALS:
            found.setdefault(run["label"], []).append(seconds_to(run, goal))
    whole = {label: times for label, times in found.items() if max(times) < _NEVER}
    first = min(whole, key=lambda label: statistics.median(whole[label]), default=None)
    bound = _NEVER if first is None else min(whole[first])
    some = [
        f"{_RIVALS[label]} {span([min(times)])} in {sum(t < _NEVER for t in times)} of {len(times)} seeds"
        for label, times in found.items()
        if label not in whole and min(times) < bound
    ]
    budget = next(run["budget"] for run in runs if run["task"] == task)
    told = f"none in {budget:g} s" if first is None else f"{span(whole[first])}, {_RIVALS[first]}"
    return told + (f" ({', '.join(some)})" if some else "")


def targets(runs: Runs) -> str:
    """Seconds of the configs to two errors, median and range over the seeds."""
    rows = []
    for task, (title, *goals) in _TARGETS.items():
        own = [run for run in runs if run["task"] == task]
        times = [[seconds_to(run, goal) for run in own] for goal in goals]
        cells = [
            f"{goal}: {statistics.median(t):.1f} s ({min(t):.1f}–{max(t):.1f})"
            for goal, t in zip(goals, times, strict=True)
        ]
        rows.append([title, f"{own[0]['parameters']:,}", f"{own[0]['points']:,}", *cells])
    return table(("problem", "parameters", "points", "time to a relative L2 error of", ""), rows)


def problems(runs: Runs) -> str:
    """Where runs of the library end, and after how long."""
    rows = []
    for name, (title, remark) in _LIBRARY.items():
        own = [run for run in runs if run["config"] == name]
        errors = [_error_of(run) for run in own]
        seconds = [run["seconds"] for run in own]
        about = f"{statistics.median(errors):.1e} ({min(errors):.1e}–{max(errors):.1e})".replace("e-0", "e-")
        rows.append([title, about, f"{statistics.median(seconds):.0f}", remark])
    return table(("problem", "relative L2 error, median (range)", "seconds, median", ""), rows)


def _error_of(run: Mapping[str, Any]) -> float:
    """The relative error of the solution, or of κ where that is what was looked for."""
    found = run.get("coefficients")
    return float(run["relative_l2"]) if found is None else abs(found["kappa"] - _KAPPA) / _KAPPA


def published(rows: Runs) -> str:
    """What others have published of the same problems, with their hardware and the source."""
    heads = ("problem", "method", "parameters", "on", "error at the end", "time to 1e-4", "source")
    assert all(row["goal"] == "1e-4" for row in rows)
    return table(
        heads,
        [
            [
                row["problem"],
                row["method"],
                f"{row['parameters']:,}",
                row["hardware"],
                f"{row['error']:.1e}".replace("e-0", "e-"),
                f"{row['seconds']} s",
                row["source"],
            ]
            for row in rows
        ],
    )


def seconds_to(run: Mapping[str, Any], goal: str) -> float:
    """Seconds after which a run first had an error; infinite where it never had."""
    hit = run["reached"].get(goal)
    return _NEVER if hit is None else float(hit["seconds"])


def span(times: Sequence[float]) -> str:
    """The least and the largest, in seconds."""
    low, high = (f"{t:.1f}" if max(times) < 10 else f"{t:.0f}" for t in (min(times), max(times)))
    return f"{low} s" if low == high else f"{low}–{high} s"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("| --- ", "|---").replace("--- |", "---|")
        for cells in lines
    )


def rewritten(text: str, found: Mapping[str, str]) -> str:
    """A text with its tables replaced.

    Raises:
        ValueError: a mark is missing, or there twice.
    """
    for name, content in found.items():
        pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the text must hold <!-- {name}: … --> and <!-- /{name} --> once")
        text = pattern.sub(lambda match, new=content: f"{match[1]}\n{new}\n{match[2]}", text)  # type: ignore[misc]
    return text


def main() -> None:
    """Rewrite README.md."""
    README.write_text(rewritten(README.read_text(), tables()))
    print(f"written to {README}")


if __name__ == "__main__":
    main()
