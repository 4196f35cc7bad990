"""What a sketched step sends between ranks, and how long collectives take: a model of both.

A collective costs steps × latency + bytes over the wire / rate. A ring of R ranks needs R − 1 steps for a
gather or a reduce-scatter of S bytes and moves (R−1)/R · S over every link; an all-reduce is one of each
(Thakur, Rabenseifner and Gropp 2005; Patarasu and Yuan 2009).

Letters
    P, k, K  parameters, sketch rank, conditions of the problem
    R        ranks: m nodes of g each
    S        bytes of the larger buffer of a collective
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Cluster", "Kind", "Link", "Network", "Payload", "Ring", "payload_seconds", "sketched_payloads"]

Kind = Literal["all-reduce", "reduce-scatter", "all-gather"]
_FLOAT64 = 8
# Votes on whether to go on: one float32 for each reason to stop, one for a checkpoint.
_VOTES_BYTES = 40


@dataclass(frozen=True)
class Payload:
    """Collectives of one label in one step.

    Args:
        what: the label, as in `Ranks.traffic`.
        kind: the collective.
        bytes: S of one call.
        calls: how many.
    """

    what: str
    kind: Kind
    bytes: float
    calls: float = 1.0


def sketched_payloads(
    parameters: int,
    rank: int,
    ranks: int,
    conditions: int,
    *,
    evaluations: float,
    projections: float | None = None,
    number_bytes: int = _FLOAT64,
    residual_bytes: int = _FLOAT64,
    given: int = 1,
    sharded: bool = False,
    padded: int | None = None,
) -> list[Payload]:
    """What a sketched step sends; nothing on one rank.

    Nothing of the size of N, N·k or P² travels. Replicated, every rank factors Y (P, k) whole; sharded, P/R
    rows of it, which a reduce-scatter of Y and a gather of Q make possible.

    Args:
        parameters: P.
        rank: k.
        ranks: R.
        conditions: K.
        evaluations: of the residual.
        projections: from which corrections come; one after each evaluation when absent.
        number_bytes: of the numbers of sketch and basis: 8, or 4 in mixed precision.
        residual_bytes: of the numbers of θ and residuals.
        given: columns of the basis that every rank knows: the last displacement.
        sharded: share the rows of Q out.
        padded: sharded only: parameters with those that make the shares of every block equal; of one block
            when absent.
    """
    if ranks == 1:
        return []
    if padded is None:
        padded = ranks * math.ceil(parameters / ranks)
    sent, fresh = padded if sharded else parameters, rank - given
    found = [
        Payload("losses", "all-reduce", float(conditions * _FLOAT64), evaluations),
        Payload("sketch", "reduce-scatter" if sharded else "all-reduce", float(sent * fresh * number_bytes)),
        Payload("triangles", "all-gather", float(ranks * (rank + 1) ** 2 * residual_bytes)),
        Payload(
            "projections",
            "all-reduce",
            float(rank * residual_bytes),
            evaluations if projections is None else projections,
        ),
        Payload("control", "all-reduce", float(_VOTES_BYTES)),
    ]
    found.append(Payload("triangles", "all-gather", float(ranks * fresh**2 * number_bytes)))
    if sharded:
        found.append(Payload("triangles", "all-gather", float(ranks * rank**2 * number_bytes)))
        found.append(Payload("basis", "all-gather", float(padded * rank * number_bytes)))
        found.append(Payload("displacement", "all-gather", float(padded * number_bytes), evaluations))
    return found


class Network(Protocol):
    """Whatever lies between ranks."""

    def seconds(self, kind: Kind, bytes_: float, ranks: int) -> float:
        """Seconds of one collective."""
        ...


def payload_seconds(payloads: Iterable[Payload], network: Network, ranks: int) -> dict[str, float]:
    """Seconds a step waits for the collectives of each label when nothing goes on meanwhile."""
    total: dict[str, float] = {}
    for p in payloads:
        total[p.what] = total.get(p.what, 0.0) + p.calls * network.seconds(p.kind, p.bytes, ranks)
    return total


@dataclass(frozen=True)
class Link:
    """A wire with its ends.

    Args:
        latency_seconds: of a message without content, from one process to the next.
        bytes_per_second: in each direction; inf where the wire is no limit.
    """

    latency_seconds: float
    bytes_per_second: float

    def __post_init__(self) -> None:
        if not self.latency_seconds >= 0:
            raise ValueError(f"latency_seconds={self.latency_seconds} must be ≥ 0")
        if not self.bytes_per_second > 0:
            raise ValueError(f"bytes_per_second={self.bytes_per_second} must be > 0")


def ring_steps(kind: Kind, ranks: int) -> int:
    """Messages that follow one another."""
    return (2 if kind == "all-reduce" else 1) * (ranks - 1)


def ring_bytes(kind: Kind, bytes_: float, ranks: int) -> float:
    """Bytes that leave every rank."""
    return ring_steps(kind, ranks) * bytes_ / ranks


@dataclass(frozen=True)
class Ring:
    """Processes in one ring, as gloo arranges them; their processors copy and add what passes.

    Gloo's reduce-scatter is a whole all-reduce of which a part is kept (measured on limited links).

    Args:
        link: between neighbours.
        handling: seconds per byte that a processor spends on a collective of each kind.
        cores: what ranks share; more ranks than cores take turns at whatever a processor does.
        turn_seconds: that every message waits where they do, for its receiver to come to its turn.
    """

    link: Link
    handling: Mapping[Kind, float]
    cores: int
    turn_seconds: float = 0.0

    def seconds(self, kind: Kind, bytes_: float, ranks: int) -> float:
        """Latency, handling and wire, one after the other."""
        if ranks == 1:
            return 0.0
        moved: Kind = "all-reduce" if kind == "reduce-scatter" else kind
        steps, wire = ring_steps(moved, ranks), ring_bytes(moved, bytes_, ranks)
        crowd = ranks > self.cores
        latency = self.link.latency_seconds + (self.turn_seconds if crowd else 0.0)
        handling = self.handling[kind] * (ranks / self.cores if crowd else 1.0)
        return steps * latency + wire * (handling + 1.0 / self.link.bytes_per_second)


@dataclass(frozen=True)
class Cluster:
    """Nodes of g GPUs, every GPU with a port to the network of its own.

    A collective goes through the levels one after the other: g ranks over the links inside of their node,
    then the GPUs of equal place in their nodes, each group over its own ports with S/g bytes. An upper bound
    for a library that runs both levels at once.

    Args:
        inside: links between the GPUs of a node.
        between: ports of the nodes.
        per_node: g.
        start_seconds: of any collective.
    """

    inside: Link
    between: Link
    per_node: int
    start_seconds: float = 0.0

    def seconds(self, kind: Kind, bytes_: float, ranks: int) -> float:
        """Seconds of one collective.

        Raises:
            ValueError: the ranks do not fill whole nodes.
        """
        if ranks == 1:
            return 0.0
        if ranks > self.per_node and ranks % self.per_node:
            raise ValueError(f"ranks={ranks} must be a multiple of per_node={self.per_node}")
        local = min(ranks, self.per_node)
        nodes = ranks // local
        within = _ring_seconds(kind, bytes_, local, self.inside)
        return self.start_seconds + within + self._across(kind, bytes_ / local, nodes)

    def _across(self, kind: Kind, bytes_: float, nodes: int) -> float:
        """Between nodes: the faster of ring and tree for an all-reduce, a ring for the rest."""
        ring = _ring_seconds(kind, bytes_, nodes, self.between)
        if kind != "all-reduce" or nodes == 1:
            return ring
        depth = math.ceil(math.log2(nodes))  # up and down; pipelined, so that bytes count once each way
        tree = 2 * (depth * self.between.latency_seconds + bytes_ / self.between.bytes_per_second)
        return min(ring, tree)


def _ring_seconds(kind: Kind, bytes_: float, ranks: int, link: Link) -> float:
    wire = ring_bytes(kind, bytes_, ranks)
    return ring_steps(kind, ranks) * link.latency_seconds + wire / link.bytes_per_second
