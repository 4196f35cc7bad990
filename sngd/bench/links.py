"""The links that ranks talk over: which can be made here, how fast they are, and rings fitted to that."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sngd.bench.definition import LINKS, LOOPBACK, Job
from sngd.bench.netns import Hosts, obstacle
from sngd.interconnect import Kind, Link, Ring, ring_bytes, ring_steps
from sngd.local_ranks import start_local_ranks

__all__ = ["FIT_RANKS", "fit_rings", "possible", "probe_links"]

Probe = Mapping[str, Any]
FIT_RANKS = 2
_KINDS: tuple[Kind, ...] = ("all-reduce", "reduce-scatter", "all-gather")
_LARGE = 2**20  # bytes from which a rate is read


def possible(jobs: Sequence[Job]) -> tuple[list[Job], str]:
    """The jobs whose links can be made here, and why others cannot; empty where all can."""
    if all(job.link == LOOPBACK for job in jobs):
        return list(jobs), ""
    if why := obstacle():
        return [job for job in jobs if job.link == LOOPBACK], why
    return list(jobs), ""


def probe_links(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """Measure collectives over the links of jobs, on as many ranks.

    Returns:
        One entry for each kind and size: {"link", "kind", "ranks", "bytes", "seconds"}.

    Raises:
        ValueError: a link cannot be made, or a measurement fails.
    """
    wanted = dict.fromkeys((job.link, job.ranks) for job in jobs if job.ranks > 1)
    return [line for link, ranks in wanted for line in _probe(link, ranks)]


def _probe(link: str, ranks: int) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sngd-probe-"))
        lines = Path(folder) / "lines.jsonl"
        where: dict[str, Any] = {}
        if link != LOOPBACK:
            try:
                where = dataclasses.asdict(stack.enter_context(Hosts(ranks, LINKS[link])).placement())
            except OSError as error:
                raise ValueError(f"link {link!r} cannot be made: {error}") from error
        rate = str(LINKS[link] / 8)
        code = start_local_ranks(ranks, [rate, str(lines)], module="sngd.bench.probe", **where)
        if code:
            raise ValueError(f"measuring the link {link!r} on {ranks} ranks failed with exit code {code}")
        return [{"link": link, **json.loads(line)} for line in lines.read_text().splitlines()]


def fit_rings(probes: Sequence[Probe], cores: int) -> dict[str, Ring]:
    """A ring for every link, fitted to what was measured on two ranks, turns apart.

    Latency from the smallest all-reduce; handling of each kind from the large collectives over loopback; the
    rate of a limited link from what its large all-reduces take beyond both.

    Args:
        probes: of `probe_links`, loopback among them.
        cores: that ranks share.
    """
    pairs = [p for p in probes if p["ranks"] == FIT_RANKS]
    latency = {link: _latency(pairs, link) for link in dict.fromkeys(p["link"] for p in pairs)}
    turns = max(1.0, FIT_RANKS / cores)
    crowd = [p for p in probes if p["link"] == LOOPBACK and p["ranks"] > max(cores, FIT_RANKS)]
    turn = max(0.0, _latency(crowd, LOOPBACK) - latency[LOOPBACK]) if crowd else 0.0
    handling = {
        kind: statistics.median(
            _excess(p, latency[LOOPBACK]) / _wire(p) / turns for p in _large(pairs, LOOPBACK, kind)
        )
        for kind in _KINDS
    }
    rings = {}
    for link, alpha in latency.items():
        rate = math.inf
        if link != LOOPBACK:
            own = handling["all-reduce"] * turns
            rate = statistics.median(
                _wire(p) / max(_excess(p, alpha) - own * _wire(p), 1e-9)
                for p in _large(pairs, link, "all-reduce")
            )
        rings[link] = Ring(Link(alpha, rate), handling, cores, turn)
    return rings


def _latency(probes: Sequence[Probe], link: str) -> float:
    mine = [p for p in probes if p["link"] == link and p["kind"] == "all-reduce"]
    least = min(mine, key=lambda p: p["bytes"])
    return float(least["seconds"] / ring_steps("all-reduce", least["ranks"]))


def _large(probes: Sequence[Probe], link: str, kind: Kind) -> list[Probe]:
    return [p for p in probes if p["link"] == link and p["kind"] == kind and p["bytes"] >= _LARGE]


def _moved(probe: Probe) -> Kind:
    return "all-reduce" if probe["kind"] == "reduce-scatter" else probe["kind"]


def _wire(probe: Probe) -> float:
    return ring_bytes(_moved(probe), probe["bytes"], probe["ranks"])


def _excess(probe: Probe, latency: float) -> float:
    """Seconds beyond those of a message without content."""
    return max(probe["seconds"] - ring_steps(_moved(probe), probe["ranks"]) * latency, 0.0)
