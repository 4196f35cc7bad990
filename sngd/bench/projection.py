"""What a step would take on 8 to 1024 GPUs: a projection. Nothing here was measured by this project.

The counts are those of the cost model and of the account of traffic; the rates are published ones of NVIDIA
H100 SXM GPUs, eight in a node, and of NDR InfiniBand, one 400 Gbit/s port for each GPU. Every figure has its
source beside it; what has none is said to be assumed.

Letters
    P, N, k  parameters, rows over all ranks, sketch rank
    R        GPUs, a rank each
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sngd.costs import Size, Work, sketched_work
from sngd.interconnect import Cluster, Link, payload_seconds, sketched_payloads

__all__ = ["GPUS", "PROBLEMS", "SOURCES", "Layout", "Projection", "Target", "project", "project_all"]

GPUS = (8, 64, 512, 1024)

# A figure, what it is, where it stands. Rates of computation are achieved ones where there are such.
SOURCES: Mapping[str, tuple[float, str, str]] = {
    "product": (
        55e12,
        "flop/s of float64 products on tensor cores, as HPL reaches per GPU (55 to 59); the peak, 66.9, is "
        "that of float32, too",
        "glennklockwood.com/garden/processors/h100",
    ),
    "qr": (5.5e12, "flop/s of tall QR, SVD and triangular solves: a tenth of products", "assumed"),
    "memory": (
        2.7e12,
        "bytes/s of memory: 80 % of the 3.35 TB/s of the data sheet",
        "glennklockwood.com/garden/processors/h100; the share is assumed",
    ),
    "start": (5e-3, "seconds of a step that no size changes: a thousand kernels of 5 µs", "assumed"),
    "nvlink": (
        370e9,
        "bytes/s of a ring inside of a node (line rate 450 GB/s, 20 % protocol)",
        "github.com/NVIDIA/nccl-tests/issues/212, comment of sjeaugey (NVIDIA)",
    ),
    "infiniband": (
        47e9,
        "bytes/s of one NDR port of 400 Gbit/s (46 to 48)",
        "github.com/NVIDIA/nccl-tests/issues/290, comment of AddyLaddy (NVIDIA)",
    ),
    "collective": (
        8.4e-6,
        "seconds before a ring moves anything",
        "github.com/NVIDIA/nccl, src/graph/tuning.cc, baseLat (ring, simple)",
    ),
    "hop": (
        3.4e-6,
        "seconds of a step over NVLink",
        "github.com/NVIDIA/nccl, src/graph/tuning.cc, hwLat (NVLink, ring, simple)",
    ),
    "network hop": (
        9.6e-6,
        "seconds of a step over the network",
        "github.com/NVIDIA/nccl, src/graph/tuning.cc, hwLat (net, ring, simple)",
    ),
}
# A number that is written was also read, and what it came from.
_TOUCHES = 3.0
# Operations of a parameter for a channel of a point: multiply and add, forwards and once more in reverse.
_NETWORK_FLOPS = 4.0


def _rate(name: str) -> float:
    return SOURCES[name][0]


H100_CLUSTER = Cluster(
    Link(_rate("hop"), _rate("nvlink")),
    Link(_rate("network hop"), _rate("infiniband")),
    per_node=8,
    start_seconds=_rate("collective"),
)


@dataclass(frozen=True)
class Target:
    """A problem to project.

    Args:
        about: in words.
        size: with the rows of all ranks (strong) or of each of them (weak), and ranks 1.
        rank: k.
        conditions: K.
        evaluations: of the residual in a step.
        number_bytes: of rows, sketch and basis.
        weak: rows grow with ranks.
    """

    about: str
    size: Size
    rank: int
    conditions: int = 3
    evaluations: float = 4.0
    number_bytes: int = 4
    weak: bool = False

    def on(self, ranks: int) -> Size:
        """The size on so many ranks."""
        rows = self.size.rows * (ranks if self.weak else 1)
        return dataclasses.replace(self.size, rows=rows, ranks=ranks)


@dataclass(frozen=True)
class Layout:
    """How a step is spread.

    Args:
        sharded: rows of Q over ranks, in place of Q whole on each.
        tree: triangles merged in pairs, in place of all of them gathered on every rank.
    """

    sharded: bool
    tree: bool


@dataclass(frozen=True)
class Projection:
    """Seconds of a step.

    Args:
        ranks: R.
        rows: N over all ranks.
        parts: seconds of "rows", "factorisations", "sketch", "triangles" and "rest".
        gathered_bytes: the largest buffer that triangles are gathered in.
    """

    ranks: int
    rows: int
    parts: dict[str, float]
    gathered_bytes: float

    @property
    def seconds(self) -> float:
        """All of it, one after the other."""
        return sum(self.parts.values())


# A network of 2-590-590-590-590-1; ω = Σ (in + out).
_MILLION = Size(
    parameters=1_048_431, rows=2**20, ranks=1, channels=4.0, components=1.0, widths=4723, layers=5
)
PROBLEMS: Mapping[str, Target] = {
    "strong": Target("a million points and parameters, k = 1024, shared out", _MILLION, 1024),
    "weak": Target(
        "131,072 points a GPU, a million parameters, k = 1024",
        dataclasses.replace(_MILLION, rows=2**17),
        1024,
        weak=True,
    ),
}


def project(target: Target, ranks: int, layout: Layout, cluster: Cluster = H100_CLUSTER) -> Projection:
    """Seconds of a step of a target on so many GPUs."""
    size, k = target.on(ranks), target.rank
    whole = sketched_work(size, k, target.evaluations)
    alone = sketched_work(dataclasses.replace(size, rows=0), k, target.evaluations)
    # SVD of the triangle and, replicated, QR of Y; the cost model has R triangles stacked
    qr = alone.qr - 2.0 * ranks * k**3 + _triangle_flops(k, ranks, layout.tree)
    if layout.sharded:
        qr += 4.0 * size.parameters * k**2 * (1.0 / ranks - 1.0) + _triangle_flops(k, ranks, layout.tree)
    repeated = dataclasses.replace(alone, qr=qr)
    payloads = sketched_payloads(
        size.parameters,
        k,
        ranks,
        target.conditions,
        evaluations=target.evaluations,
        number_bytes=target.number_bytes,
        sharded=layout.sharded,
    )
    sent = payload_seconds(payloads, cluster, ranks)
    triangles = [p for p in payloads if p.what == "triangles"]
    if layout.tree:
        sent["triangles"] = sum(p.calls * _tree_seconds(p.bytes / ranks, ranks, cluster) for p in triangles)
    sketch = sent.pop("sketch", 0.0) + sent.pop("basis", 0.0)
    merged = sent.pop("triangles", 0.0)
    return Projection(
        ranks,
        size.rows,
        {
            "rows": _seconds(_less(whole, alone), target.number_bytes),
            "factorisations": _seconds(repeated, target.number_bytes),
            "sketch": sketch,
            "triangles": merged,
            "rest": sum(sent.values()),
        },
        max((p.bytes for p in triangles), default=0.0) * (2.0 / ranks if layout.tree else 1.0),
    )


def _triangle_flops(k: int, ranks: int, tree: bool) -> float:
    """QR of R stacked triangles at once, or of two at a time along the longest path."""
    return 2.0 * k**3 * (2 * math.ceil(math.log2(ranks)) if tree else ranks) if ranks > 1 else 0.0


def _tree_seconds(bytes_: float, ranks: int, cluster: Cluster) -> float:
    """One triangle handed to a partner, log₂ R times: first inside of a node, then between nodes."""
    local = min(ranks, cluster.per_node)
    depths = (math.ceil(math.log2(local)), math.ceil(math.log2(ranks // local)))
    return sum(
        depth * (cluster.start_seconds + link.latency_seconds + bytes_ / link.bytes_per_second)
        for depth, link in zip(depths, (cluster.inside, cluster.between), strict=True)
    )


def _less(whole: Work, part: Work) -> Work:
    return Work(*(a - b for a, b in zip(whole.as_list(), part.as_list(), strict=True)))


def _seconds(work: Work, number_bytes: int) -> float:
    """Seconds on one GPU; products run at the same rate in float64 on tensor cores and in float32."""
    return (
        work.steps * _rate("start")
        + (work.product + _NETWORK_FLOPS * work.network) / _rate("product")
        + (work.qr + work.cholesky) / _rate("qr")
        + work.traffic * _TOUCHES * number_bytes / _rate("memory")
    )


def project_all(gpus: Sequence[int] = GPUS) -> list[dict[str, object]]:
    """Every problem in every layout on every number of GPUs, in plain values."""
    rows: list[dict[str, object]] = []
    for name, target in PROBLEMS.items():
        for layout in (Layout(False, False), Layout(True, False), Layout(True, True)):
            for ranks in gpus:
                found = project(target, ranks, layout)
                rows.append(
                    {
                        **{"problem": name, **dataclasses.asdict(layout)},
                        **{**dataclasses.asdict(found), "seconds": found.seconds},
                    }
                )
    return rows
