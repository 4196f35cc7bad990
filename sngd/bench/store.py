"""results/DEVICE/SUITE.json: a head, then one run a line. Rewritten whole after every run.

A run's record holds what was asked (config, its hash, budget, threads, ranks), where (machine, commit, date),
and what came out: first seconds and steps to each error of MILESTONES, how it ended, and a thinned curve.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sngd.bench.definition import Job, Suite
from sngd.tracking import write_whole

__all__ = ["MILESTONES", "Outcome", "Store", "milestone_name", "record_of", "thin"]

# 1.5e-7 is in earlier tables.
MILESTONES = sorted([1.5e-7, *(10.0**-k for k in range(1, 13))], reverse=True)
CURVE_POINTS = 300
_DIGITS = 5
_HEAD = ("suite", "about", "kind", "runs")
_NOTES = 8  # different notes that are kept
Row = Sequence[Any]  # seconds, step, error, loss; error and loss may be None


@dataclass
class Outcome:
    """What a worker left behind.

    Args:
        start: its first line.
        rows: seconds, step, error and loss of every step.
        notes: what steps said, and how many did.
        pace: what a typical step took.
        end: its last line; None when it did not get there.
        failure: "error", "out of memory" or "time-out"; empty when there was none.
        message: of the failure.
        wall_seconds: of the whole process.
    """

    start: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    pace: dict[str, Any] | None = None
    end: dict[str, Any] | None = None
    failure: str = ""
    message: str = ""
    wall_seconds: float = 0.0


def milestone_name(error: float) -> str:
    """An error as tables have it: "1e-6", "1.5e-7"."""
    mantissa, exponent = f"{error:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def thin(rows: Sequence[Row], count: int = CURVE_POINTS) -> list[Row]:
    """At most `count` rows: first, last, and those nearest before equal steps of log time."""
    if len(rows) <= count:
        return list(rows)
    first, last = max(float(rows[0][0]), 1e-6), float(rows[-1][0])
    ratio = math.log(last / first) / (count - 1) if last > first else 0.0
    kept, due = [rows[0]], first
    for row, following in itertools.pairwise(rows[1:]):
        if following[0] > due * math.exp(ratio):
            kept.append(row)
            due = max(due * math.exp(ratio), float(row[0]))
    return [*kept[: count - 1], rows[-1]]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS - 1}e}")


def record_of(job: Job, outcome: Outcome, about: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run.

    Args:
        job: what was asked.
        outcome: what came out.
        about: machine, commit and date.
    """
    known = [row for row in outcome.rows if row[2] is not None]
    reached: dict[str, Any] = {}
    for goal in [*MILESTONES, float(job.spec["run"]["target_error"])]:
        hit = next((row for row in known if row[2] <= goal), None)
        reached[milestone_name(goal)] = None if hit is None else {"seconds": hit[0], "step": hit[1]}
    last = outcome.rows[-1] if outcome.rows else [None, 0, None, None]
    end = outcome.end or {
        "relative_l2": known[-1][2] if known else None,
        "loss": last[3],
        "steps": last[1],
        "seconds": last[0],
        "peak_memory_bytes": None,
        "stop_reason": None,
    }
    points = known
    if known and outcome.end and outcome.end["relative_l2"] is not None and known[-1][1] < end["steps"]:
        points = [*known, [end["seconds"], end["steps"], end["relative_l2"], end["loss"]]]
    columns = zip(*thin(points), strict=True) if points else ([], [], [], [])
    names = ("seconds", "step", "error", "loss")
    curve = {n: [v if n == "step" else _rounded(v) for v in c] for n, c in zip(names, columns, strict=True)}
    return {
        **{"task": job.task, "label": job.label, "seed": job.seed, "hash": job.hash},
        **{"problem": job.spec["problem"], "optimizer": job.spec["optimizer"], "form": job.form},
        **{"ranks": job.ranks, "link": job.link, "threads": job.threads, "budget": job.seconds},
        "target": job.spec["run"]["target_error"],
        **{key: outcome.start.get(key) for key in ("parameters", "points", "device", "dtype")},
        **end,
        "notes": dict(outcome.notes.most_common(_NOTES)),
        "warmup_seconds": outcome.start.get("warmup_seconds"),
        "wall_seconds": round(outcome.wall_seconds, 2),
        "pace": outcome.pace,
        **{"failure": outcome.failure, "message": outcome.message},
        **about,
        "config": job.config,
        "reached": reached,
        "curve": curve,
    }


class Store:
    """The results of one suite on one device.

    Args:
        path: the JSON file; it need not exist.
        name: of the suite.
        suite: gives the order of tasks and entries, and what is of the suite at all.

    Raises:
        ValueError: the file is damaged, or its folder cannot be written to.
    """

    def __init__(self, path: Path, name: str, suite: Suite) -> None:
        self.path, self.name, self.suite = path, name, suite
        self.records: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.extra: dict[str, Any] = {}  # what the file holds beside its runs, e.g. a model fitted to them
        if path.exists():
            content = read(path)
            self.extra = {name: value for name, value in content.items() if name not in _HEAD}
            for record in content["runs"]:
                if record["task"] in suite.tasks and record["label"] in suite.entries:
                    self.records[record["task"], record["label"], record["seed"]] = record

    def done(self, job: Job) -> dict[str, Any] | None:
        """The record that answers a job: asked for in the same words, by defaults that have not changed."""
        record = self.records.get(job.key)
        same = record is not None and record["hash"] == job.hash and not _clash(record["config"], job.config)
        return record if same else None

    def add(self, record: dict[str, Any]) -> None:
        """Take a record in and write the file."""
        self.records[record["task"], record["label"], record["seed"]] = record
        self.write()

    def drop(self, jobs: Sequence[Job]) -> None:
        """Forget what is known of jobs."""
        for job in jobs:
            self.records.pop(job.key, None)

    def content(self) -> dict[str, Any]:
        """What the file holds."""
        tasks, labels = list(self.suite.tasks), list(self.suite.entries)
        ordered = sorted(
            self.records.values(), key=lambda r: (tasks.index(r["task"]), labels.index(r["label"]), r["seed"])
        )
        head = {"suite": self.name, "about": self.suite.about, "kind": self.suite.kind}
        return {**head, **self.extra, "runs": ordered}

    def write(self) -> None:
        """Write the file whole."""
        content = self.content()
        runs = content.pop("runs")
        head = json.dumps(content, indent=1, ensure_ascii=False)[:-2]
        lines = ",\n".join(json.dumps(run, ensure_ascii=False, allow_nan=False) for run in runs)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, f'{head},\n "runs": [\n{lines}\n ]\n}}\n')
        except OSError as error:
            raise ValueError(f"results {str(self.path)!r} cannot be written: {error.strerror}") from error


def read(path: Path) -> dict[str, Any]:
    """The content of a results file.

    Raises:
        ValueError: it cannot be read or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"results {str(path)!r} cannot be read: {error}; remove or restore the file"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("runs"), list):
        raise ValueError(f"{str(path)!r} holds no results of a suite")
    return content


def _clash(old: Any, new: Any) -> bool:
    """Whether two configs disagree on a field that both have; what only the newer has was not there then."""
    if isinstance(old, dict) and isinstance(new, dict):
        return any(_clash(old[key], new[key]) for key in old.keys() & new.keys())
    return json.dumps(old) != json.dumps(new)
