"""Scaling over ranks: a model fitted to few measurements and held against the rest.

    fitted to                                    parameters
    collectives by themselves, 2 ranks           latency and rate of each link; handling of each kind
    small ones on more ranks than cores          waiting for a turn
    training on one rank, three sizes            speed of what is shared out, speed of what is not

Everything else is predicted: training on several ranks over every link, collectives on more than two.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from sngd.assembly import build_objective
from sngd.bench.definition import LOOPBACK, build
from sngd.bench.links import FIT_RANKS, fit_rings
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.config import RunConfig
from sngd.costs import Size, predict_seconds, sketched_work
from sngd.interconnect import Ring, payload_seconds, sketched_payloads
from sngd.optimizers import SNGD

__all__ = ["Point", "Speeds", "fit_speeds", "model_of", "size_of"]

Record = Mapping[str, Any]
_CPU = torch.device("cpu")


# ---------------------------------------------------------------------------------------------
# The computation
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speeds:
    """How much longer than the cost model says a rank takes, by kind of work.

    Args:
        shared: for what is shared out among ranks: rows and their products.
        repeated: for what every rank does alike: factorisations of Y and of triangles.
    """

    shared: float
    repeated: float

    def seconds(self, size: Size, rank: int, evaluations: float) -> tuple[float, float]:
        """Seconds of both kinds on one rank that has a core to itself."""
        shared, repeated = _work(size, rank, evaluations)
        return self.shared * shared, self.repeated * repeated


def _work(size: Size, rank: int, evaluations: float) -> tuple[float, float]:
    """Seconds by the cost model: of the work that grows with rows, and of the rest."""
    repeated = predict_seconds(sketched_work(dataclasses.replace(size, rows=0), rank, evaluations), _CPU)
    return predict_seconds(sketched_work(size, rank, evaluations), _CPU) - repeated, repeated


def fit_speeds(runs: Sequence[tuple[Size, int, float, float]]) -> Speeds:
    """Least squares in relative error.

    Args:
        runs: on one rank: size, sketch rank, evaluations and seconds of a step.
    """
    counts = np.array([_work(size, rank, evaluations) for size, rank, evaluations, _ in runs])
    seconds = np.array([run[3] for run in runs])
    solution, _ = nnls(counts / seconds[:, None], np.ones(len(runs)))
    return Speeds(float(solution[0]), float(solution[1]))


def size_of(run: RunConfig, ranks: int = 1) -> Size:
    """What the cost model sees of a run on so many ranks."""
    network = build_network(run.problem, run.network, run.seed)
    objective = build_objective(run, network, LocalRanks(), _CPU)
    return Size.of(objective.collocation, run.problem.rows, ranks)


# ---------------------------------------------------------------------------------------------
# Measured beside predicted
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A task, measured and predicted.

    Args:
        task: its name.
        how: alone, strong or weak.
        link: that ranks talk over.
        ranks: R.
        points: N.
        measured: seconds of a step, median over seeds of the median over steps.
        low: least of the seeds.
        high: greatest.
        predicted: seconds by the model.
        parts: of the prediction: "shared", "repeated", and labels of traffic.
        busy: share of the time that rank 0 had a processor; below 1 on one rank, something else had it.
        waited: seconds that rank 0 waited for others, by label.
        bytes_moved: by the account, in a step.
        efficiency: time of one rank over that of R, per core and per point; nan without a run on one rank.
    """

    task: str
    how: str
    link: str
    ranks: int
    points: int
    measured: float
    low: float
    high: float
    predicted: float
    parts: dict[str, float]
    busy: float
    waited: dict[str, float]
    bytes_moved: float
    efficiency: float

    @property
    def deviation(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted / self.measured - 1.0


def model_of(
    records: Sequence[Record], specs: Mapping[str, Mapping[str, Any]], probes: Sequence[Record]
) -> Any:
    """Fit, and every task measured and predicted, in plain values; None where too little was measured.

    Args:
        records: of the runs.
        specs: a task's run, as `build` takes it.
        probes: of `probe_links`.
    """
    done = [r for r in records if r["pace"] and not r["failure"] and r["task"] in specs]
    tasks = {task: [r for r in done if r["task"] == task] for task in dict.fromkeys(r["task"] for r in done)}
    alone = {task: mine for task, mine in tasks.items() if mine[0]["ranks"] == 1}
    if len(alone) < 2 or not any(p["link"] == LOOPBACK and p["ranks"] == FIT_RANKS for p in probes):
        return None
    cores = int(done[0]["machine"]["cores"])
    rings = fit_rings(probes, cores)
    runs = {task: build(specs[task]) for task in tasks}
    speeds = fit_speeds(
        [
            (size_of(runs[t]), _rank(runs[t]), _typical(m, "evaluations"), _typical(m, "seconds"))
            for t, m in alone.items()
        ]
    )
    points = [
        _point(mine, runs[task], speeds, rings, _single(alone, mine[0]))
        for task, mine in tasks.items()
        if mine[0]["ranks"] == 1 or mine[0].get("link", LOOPBACK) in rings
    ]
    return {
        "cores": cores,
        "turn_seconds": rings[LOOPBACK].turn_seconds,
        "speeds": dataclasses.asdict(speeds),
        "links": {link: _plain(ring) for link, ring in rings.items()},
        "points": [{**dataclasses.asdict(p), "deviation": p.deviation} for p in points],
        "collectives": [{**p, "predicted": _predicted(p, rings)} for p in probes if p["link"] in rings],
    }


def _plain(ring: Ring) -> dict[str, Any]:
    rate = ring.link.bytes_per_second
    return {
        "latency_seconds": ring.link.latency_seconds,
        "bytes_per_second": rate if math.isfinite(rate) else None,
        "handling_seconds_per_byte": dict(ring.handling),
    }


def _predicted(probe: Record, rings: Mapping[str, Ring]) -> float:
    return rings[probe["link"]].seconds(probe["kind"], probe["bytes"], probe["ranks"])


def _rank(run: RunConfig) -> int:
    assert isinstance(run.optimizer, SNGD)
    return run.optimizer.rank


def _typical(records: Sequence[Record], key: str) -> float:
    return statistics.median(r["pace"][key] for r in records)


def _single(alone: Mapping[str, Sequence[Record]], record: Record) -> Sequence[Record]:
    """The run on one rank that a run is judged by: of the same points, or of the points of one rank."""
    share = record["points"] // (record["ranks"] if record["task"].startswith("weak") else 1)
    return next((mine for mine in alone.values() if mine[0]["points"] == share), ())


def _point(
    mine: Sequence[Record],
    run: RunConfig,
    speeds: Speeds,
    rings: Mapping[str, Ring],
    single: Sequence[Record],
) -> Point:
    first = mine[0]
    ranks, link, how = first["ranks"], first.get("link", LOOPBACK), first["task"].split()[0]
    evaluations, rank = _typical(mine, "evaluations"), _rank(run)
    cores = next(iter(rings.values())).cores
    size = size_of(run, ranks)
    turns = max(1.0, ranks / cores)
    shared, repeated = (turns * s for s in speeds.seconds(size, rank, evaluations))
    payloads = sketched_payloads(
        size.parameters, rank, ranks, len(run.problem.conditions), evaluations=evaluations
    )
    sent = payload_seconds(payloads, rings[link], ranks) if ranks > 1 else {}
    seconds = [r["pace"]["seconds"] for r in mine]
    measured = statistics.median(seconds)
    traffic = [r["pace"]["traffic"] for r in mine]
    labels = dict.fromkeys(label for t in traffic for label in t)
    ideal = _typical(single, "seconds") if single else math.nan
    busy = min(ranks, cores)
    work = ranks if how == "weak" else 1
    return Point(
        **{"task": first["task"], "how": how, "link": link, "ranks": ranks, "points": first["points"]},
        **{"measured": measured, "low": min(seconds), "high": max(seconds)},
        predicted=shared + repeated + sum(sent.values()),
        parts={"shared": shared, "repeated": repeated, **sent},
        busy=_typical(mine, "cpu_seconds") / measured,
        waited={
            label: statistics.median(t.get(label, {}).get("seconds", 0.0) for t in traffic)
            for label in labels
        },
        bytes_moved=statistics.median(sum(v["bytes"] for v in t.values()) for t in traffic),
        efficiency=ideal * work / (busy * measured),
    )
