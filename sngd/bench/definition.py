"""What a benchmark runs: tasks × entries × seeds, as data.

A job is one run. Its `spec` holds plain values alone, so that it travels to another process as JSON, and
`build` makes a RunConfig of it there as here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sngd import problems
from sngd.config import RunConfig, describe
from sngd.networks import MLP, SIREN
from sngd.optimizers import OPTIMIZERS

__all__ = ["LINKS", "LOOPBACK", "Entry", "Form", "Job", "Suite", "Task", "build", "jobs_of"]

Form = Literal["sketched", "kernel", "exact", ""]
# What a suite is drawn as: error over time and steps, a map over N and P, time over ranks.
Kind = Literal["race", "map", "scaling"]

# What ranks talk over, and its bits per second in each direction: the loopback device, or links between
# network namespaces.
LOOPBACK = "loopback"
LINKS: Mapping[str, float] = {LOOPBACK: math.inf, "1gbit": 1e9, "100mbit": 1e8}

# A run ends by its budget; this stands in for none.
_ENDLESS = 1_000_000_000
_NETWORKS = {"MLP": MLP, "SIREN": SIREN}
# Beside its budget a run takes the start of Python and torch, the last step and the last comparison.
START_SECONDS = 5.0
# A step that is under way when the budget ends may take so much longer before the run is killed.
_GRACE_SECONDS, _GRACE_SHARE = 60.0, 0.5


@dataclass(frozen=True)
class Task:
    """A problem with its network, budget and target.

    Args:
        problem: name of a function of `sngd.problems`.
        points: that function's arguments.
        network: what is trained.
        seconds: budget of training.
        target: relative L2 error at which a run ends.
        run: other fields of RunConfig, e.g. balance or resample_every.
        ranks: local processes.
        link: that they talk over, a name of LINKS.
        tuned: settings of single entries for this task, by their labels.
    """

    problem: str
    points: Mapping[str, Any]
    network: MLP | SIREN
    seconds: float
    target: float
    run: Mapping[str, Any] = field(default_factory=dict)
    ranks: int = 1
    link: str = LOOPBACK
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """An optimizer with settings, under a label of its own.

    Args:
        optimizer: name in `sngd.optimizers.OPTIMIZERS`.
        settings: fields of it that differ from their defaults.
        form: of the natural-gradient step; the forms are compared with each other.
        run: other fields of RunConfig, e.g. evaluate_every where steps cost less than comparisons.
    """

    optimizer: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    form: Form = ""
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Every entry on every task, so many seeds each.

    Args:
        about: one line for readers.
        tasks: by name.
        entries: by label, in the order of tables.
        seeds: 0 … seeds − 1.
        kind: how it is drawn.
    """

    about: str
    tasks: Mapping[str, Task]
    entries: Mapping[str, Entry]
    seeds: int = 3
    kind: Kind = "race"


@dataclass(frozen=True)
class Job:
    """One run of a suite.

    Args:
        task: name of the task.
        label: of the entry.
        seed: of everything random.
        form: of the entry.
        ranks: local processes.
        threads: of each.
        spec: what `build` makes a RunConfig of, in plain values.
        config: the RunConfig's fields, as `describe` has them.
        link: that the processes talk over.
    """

    task: str
    label: str
    seed: int
    form: Form
    ranks: int
    threads: int
    spec: dict[str, Any]
    config: dict[str, Any]
    link: str = LOOPBACK

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells the job from the others of its suite."""
        return self.task, self.label, self.seed

    @property
    def hash(self) -> str:
        """Of everything that the suite says about the run."""
        said = {"spec": self.spec, "ranks": self.ranks, "threads": self.threads}
        if self.link != LOOPBACK:  # most runs have none, and kept their hashes when links came
            said["link"] = self.link
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def seconds(self) -> float:
        """Budget of training."""
        return float(self.spec["run"]["max_seconds"])

    @property
    def limit(self) -> float:
        """Seconds after which the process is killed."""
        return self.seconds * (1 + _GRACE_SHARE) + _GRACE_SECONDS


def build(spec: Mapping[str, Any]) -> RunConfig:
    """The run that plain values describe.

    Raises:
        ValueError: a name is unknown or a value is out of range.
    """
    name, optimizer = spec["problem"], spec["optimizer"]
    if name not in problems.__all__:
        raise ValueError(f"problem {name!r} must be one of sngd.problems: {', '.join(problems.__all__)}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer {optimizer!r} must be one of sngd.optimizers.OPTIMIZERS: {', '.join(OPTIMIZERS)}"
        )
    network = dict(spec["network"])
    try:
        return RunConfig(
            problem=getattr(problems, name)(**_tuples(spec["points"])),
            network=_NETWORKS[network.pop("type")](**_tuples(network)),
            optimizer=OPTIMIZERS[optimizer](**_tuples(spec["settings"])),
            **_tuples(spec["run"]),
        )
    except TypeError as error:  # a field that does not exist
        raise ValueError(str(error)) from error


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with JSON's lists as the tuples they were."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _spec(task: Task, label: str, entry: Entry, seed: int, device: str, scale: float) -> dict[str, Any]:
    budget = {"max_seconds": task.seconds * scale, "target_error": task.target, "max_steps": _ENDLESS}
    spec = {
        "problem": task.problem,
        "points": dict(task.points),
        "network": {"type": type(task.network).__name__, **dataclasses.asdict(task.network)},
        "optimizer": entry.optimizer,
        "settings": {**entry.settings, **task.tuned.get(label, {})},
        "run": {**budget, **task.run, **entry.run, "seed": seed, "device": device},
    }
    return json.loads(json.dumps(spec))  # as the worker will read it


def jobs_of(
    suite: Suite,
    *,
    seeds: int | None = None,
    tasks: Sequence[str] = (),
    labels: Sequence[str] = (),
    device: str = "auto",
    threads: int = 1,
    scale: float = 1.0,
) -> Iterator[Job]:
    """The runs of a suite, seeds outermost: what is there when a run is broken off covers every task.

    Args:
        suite: what to run.
        seeds: instead of the suite's.
        tasks: only these; all when empty.
        labels: only these entries; all when empty.
        device: of RunConfig.
        threads: of a process.
        scale: of the budgets.

    Raises:
        ValueError: a name is unknown or a run cannot be built, named by task and label.
    """
    _known("--only", tasks, suite.tasks)
    _known("--optimizers", labels, suite.entries)
    for seed in range(suite.seeds if seeds is None else seeds):
        for name, task in suite.tasks.items():
            for label, entry in suite.entries.items():
                if (tasks and name not in tasks) or (labels and label not in labels):
                    continue
                spec = _spec(task, label, entry, seed, device, scale)
                try:
                    config = describe(build(spec))
                except ValueError as error:
                    raise ValueError(f"task {name!r}, entry {label!r}: {error}") from error
                yield Job(name, label, seed, entry.form, task.ranks, threads, spec, config, task.link)


def _known(flag: str, wanted: Sequence[str], there: Mapping[str, Any]) -> None:
    for name in wanted:
        if name not in there:
            raise ValueError(f"{flag} {name}: this suite has {', '.join(there)}")
