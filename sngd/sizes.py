"""What the memory of a run depends on, and how much of it there is.

Letters
    P        parameters; n rows on the rank that has most; k sketch rank; R ranks
    C, q     Taylor channels and residual components of a batch
    ω        Σ over layers of in + out
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from sngd.factors import kernel_points, make_panels, tile_numbers
from sngd.networks import AnyNetwork
from sngd.problem import Problem

__all__ = ["Sizes", "available_bytes"]

# Numbers that a QR factorisation takes at once on a CPU; a GPU takes all.
_QR_NUMBERS = 1 << 23


@dataclass(frozen=True)
class Sizes:
    """What the memory of a run depends on.

    Args:
        parameters: P.
        points: collocation points of the rank that has most.
        rows: n, its residual rows.
        dim: coordinates of a point, and what else is known there.
        channels: C, of the batch that has most.
        components: q, likewise.
        widths: ω, of the layers with inputs.
        plain: outputs of the layers without.
        ranks: R.
        itemsize: bytes of a number of θ and residuals.
        sketch_itemsize: bytes of a number of factors and sketch.
        tile: bytes of a tile of rows.
        panel: parameters of the widest panel, which a block cannot be smaller than.
        factored: numbers that a QR factorisation takes at once.
        kernel: points of a block of products between factors.
    """

    parameters: int
    points: int
    rows: int
    dim: int
    channels: int
    components: int
    widths: int
    plain: int
    ranks: int
    itemsize: int
    sketch_itemsize: int
    tile: int
    panel: int = 1
    factored: int = _QR_NUMBERS
    kernel: int = kernel_points(torch.device("cpu"))

    @classmethod
    def of(
        cls,
        problem: Problem,
        network: AnyNetwork,
        ranks: int,
        dtype: torch.dtype,
        sketch_dtype: torch.dtype,
        device: torch.device,
    ) -> Sizes:
        """The sizes of a run on so many ranks."""
        shares = [math.ceil(c.points / ranks) for c in problem.conditions]
        components = [s.components for s in problem.signatures]
        size, numbers = torch.finfo(sketch_dtype).bits // 8, tile_numbers(sketch_dtype, device)
        return cls(
            parameters=network.parameters,
            points=sum(shares),
            rows=sum(n * q for n, q in zip(shares, components, strict=True)),
            dim=problem.domain.dim + max(len(s.columns) for s in problem.signatures),
            channels=max(len(s.channels) for s in problem.signatures),
            components=max(components),
            widths=sum(o + i for o, i in network.shapes if i),
            plain=sum(o for o, i in network.shapes if not i),
            ranks=ranks,
            itemsize=torch.finfo(dtype).bits // 8,
            sketch_itemsize=size,
            tile=numbers * size,
            panel=max(panel.width for panel in make_panels(network, numbers)),
            factored=sys.maxsize if device.type == "cuda" else _QR_NUMBERS,
            kernel=kernel_points(device),
        )

    @property
    def factors_of_a_point(self) -> int:
        """Numbers that stand for the rows of one point."""
        return self.components * (self.channels * self.widths + self.plain)

    def factors_of_landmarks(self, rank: int) -> int:
        """Numbers that stand for the landmarks of a rank k: at most k rows, or those of one point."""
        return max(rank, self.components) * (self.channels * self.widths + self.plain)


def available_bytes(device: torch.device, ranks: int = 1) -> int:
    """Free memory of the device, or this rank's part of the machine's within the limit of its control group.

    Args:
        device: a GPU is taken to be this rank's alone.
        ranks: R, all taken to be on this machine unless LOCAL_WORLD_SIZE says how many are.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return max(free, 0) // int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
