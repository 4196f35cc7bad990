"""What a rank holds in memory, and how a step is arranged so that it fits.

Letters
    P        parameters; n rows on the rank that has most; k sketch rank; R ranks
    C, q     Taylor channels and residual components of a batch
    ω        Σ over layers of in + out
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sngd.factors import tile_numbers
from sngd.jacobian import Keep
from sngd.networks import Network
from sngd.problem import Problem

__all__ = ["Arrangement", "BasisName", "Plan", "Sizes", "available_bytes", "make_plan"]

BasisName = Literal["auto", "replicated", "sharded"]

# Shares of the budget: factors that are kept, one chunk in flight.
_KEPT_SHARE, _CHUNK_SHARE = 0.4, 0.125
# What one chunk holds beside its factors, in units of them: derivatives, cotangents, temporaries.
_TEMPORARIES = 4
# Vectors of parameters: θ, the trial, the best trial, initial values, displacement, gradient.
_PARAMETER_VECTORS = 6
# Vectors of rows: coordinates apart, residuals of three states raw and weighted, scale, what is missed.
_ROW_VECTORS = 8
# A basis from so many bytes on is spread over ranks: its factorisation is then worth sharing out.
_WORTH_SHARDING = 8_000_000
# … and each rank must have so many times more rows of it than columns.
_SHARD_ASPECT = 4
# Blocks of parameters whose collectives and computation overlap.
_BLOCKS = 6
# A block that takes less than this to send is not worth cutting further.
_LEAST_BLOCK_BYTES = 1_000_000
# Copies of pieces that a QR factorisation makes, in numbers.
_QR_NUMBERS = 3 * (1 << 23)


@dataclass(frozen=True)
class Sizes:
    """What the memory of a run depends on.

    Args:
        parameters: P.
        points: collocation points of the rank that has most.
        rows: n, its residual rows.
        dim: coordinates of a point.
        channels: C, of the batch that has most.
        components: q, likewise.
        widths: ω.
        ranks: R.
        itemsize: bytes of a number of θ and residuals.
        sketch_itemsize: bytes of a number of factors and sketch.
        tile: bytes of a tile of rows.
    """

    parameters: int
    points: int
    rows: int
    dim: int
    channels: int
    components: int
    widths: int
    ranks: int
    itemsize: int
    sketch_itemsize: int
    tile: int

    @classmethod
    def of(
        cls,
        problem: Problem,
        network: Network,
        ranks: int,
        dtype: torch.dtype,
        sketch_dtype: torch.dtype,
        device: torch.device,
    ) -> Sizes:
        """The sizes of a run on so many ranks."""
        shares = [math.ceil(c.points / ranks) for c in problem.conditions]
        components = [s.components for s in problem.signatures]
        size = torch.finfo(sketch_dtype).bits // 8
        return cls(
            parameters=network.parameters,
            points=sum(shares),
            rows=sum(n * q for n, q in zip(shares, components, strict=True)),
            dim=problem.domain.dim,
            channels=max(len(s.channels) for s in problem.signatures),
            components=max(components),
            widths=sum(o + i for o, i in network.shapes),
            ranks=ranks,
            itemsize=torch.finfo(dtype).bits // 8,
            sketch_itemsize=size,
            tile=tile_numbers(sketch_dtype, device) * size,
        )

    @property
    def factors_of_a_point(self) -> int:
        """Numbers that stand for the rows of one point."""
        return self.channels * self.components * self.widths


@dataclass(frozen=True)
class Arrangement:
    """How a step of a certain rank is arranged.

    Args:
        sharded: rows of Q spread over ranks.
        block: parameters whose collective runs while the next block is computed; None for one block.
        stored: keep A = J Q; otherwise products with it are recomputed from the factors.
    """

    sharded: bool
    block: int | None
    stored: bool


@dataclass(frozen=True)
class Plan:
    """A memory plan, the same on every rank.

    Args:
        keep: what a step keeps of the Jacobian between its passes.
        chunk: points per network evaluation, None for whole batches.
        budget: bytes it was made for; 0 for no bound.
        sizes: of the run; None where no bound is asked for.
    """

    keep: Keep
    chunk: int | None
    budget: int
    sizes: Sizes | None = None

    def arrange(self, rank: int, basis: BasisName = "auto") -> Arrangement:
        """How to arrange a step of this rank.

        Args:
            rank: k.
            basis: where Q is; "auto" decides by size.
        """
        sizes = self.sizes
        if sizes is None:
            return Arrangement(basis == "sharded", None, True)
        bytes_of_basis = sizes.parameters * rank * sizes.sketch_itemsize
        sharded = basis == "sharded" or (
            basis == "auto"
            and sizes.ranks > 1
            and bytes_of_basis >= _WORTH_SHARDING
            and sizes.parameters >= _SHARD_ASPECT * rank * sizes.ranks
        )
        # factors that are recomputed would be so for every block
        count = _BLOCKS if sizes.ranks > 1 and self.keep == "factors" else 2 if sharded else 1
        count = min(count, max(1, bytes_of_basis // _LEAST_BLOCK_BYTES))
        block = None if count == 1 else math.ceil(sizes.parameters / count)
        if not self.budget:
            return Arrangement(sharded, block, True)
        stored = Arrangement(sharded, block, True)
        if sharded or self.total(rank, stored) <= self.budget:
            return stored
        return Arrangement(sharded, block, False)

    def items(self, rank: int, arrangement: Arrangement | None = None) -> dict[str, int]:
        """Bytes of what the busiest rank holds at its peak, by name.

        Args:
            rank: k.
            arrangement: of the step; `arrange(rank)` when absent.
        """
        sizes = self.sizes
        assert sizes is not None
        how = self.arrange(rank) if arrangement is None else arrangement
        s, small = sizes.itemsize, sizes.sketch_itemsize
        chunk = sizes.points if self.chunk is None else min(self.chunk, sizes.points)
        block = sizes.parameters if how.block is None else how.block
        if how.sharded:
            basis = math.ceil(sizes.parameters / sizes.ranks) * rank + 3 * block * rank
        else:
            basis = (sizes.parameters + (block if how.block is None else 2 * block)) * rank
        rows = sizes.rows if how.stored else 2 * chunk * sizes.components
        copies = 2 * min(_QR_NUMBERS, 2 * max(basis, rows * rank))
        return {
            "parameters": _PARAMETER_VECTORS * sizes.parameters * s,
            "points and residuals": (sizes.points * sizes.dim + _ROW_VECTORS * sizes.rows) * s,
            "factors of the Jacobian": sizes.points * sizes.factors_of_a_point * small
            if self.keep == "factors"
            else 0,
            "a chunk on its way": chunk * _TEMPORARIES * sizes.factors_of_a_point * s,
            "a tile of rows": sizes.tile,
            "basis Q": basis * small,
            "product A": rows * (rank + 1) * small,
            "factorisations": copies * small,
            "core": (10 + sizes.ranks) * (rank + 1) ** 2 * 8,
        }

    def total(self, rank: int, arrangement: Arrangement | None = None) -> int:
        """Bytes of the busiest rank at its peak."""
        return sum(self.items(rank, arrangement).values())

    def largest_rank(self, most: int, basis: BasisName = "auto") -> int:
        """The largest k ≤ most whose step fits into the budget, at least 1.

        Args:
            most: bound of k.
            basis: where Q is.
        """
        if not self.budget or self.sizes is None:
            return most
        low, high = 1, most + 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.total(middle, self.arrange(middle, basis)) <= self.budget:
                low = middle
            else:
                high = middle
        return low


def make_plan(sizes: Sizes, budget: int) -> Plan:
    """Choose what to keep and how many points to take at once so that a step stays within the budget.

    Args:
        sizes: of the run.
        budget: bytes.

    Raises:
        ValueError: not even one point and a sketch of one column fit.
    """
    kept = sizes.points * sizes.factors_of_a_point * sizes.sketch_itemsize
    keep: Keep = "factors" if kept <= _KEPT_SHARE * budget else "nothing"
    per_point = _TEMPORARIES * sizes.factors_of_a_point * sizes.itemsize
    chunk = max(1, int(_CHUNK_SHARE * budget / per_point))
    plan = Plan(keep, None if chunk >= sizes.points else chunk, budget, sizes)
    needed = Plan("nothing", 1, budget, sizes).total(1, Arrangement(sizes.ranks > 1, None, False))
    if needed > budget:
        raise ValueError(
            f"a memory budget of {budget:,} bytes is below the {needed:,} bytes that a rank needs at the "
            f"least with P={sizes.parameters:,} and {sizes.points:,} points; raise memory_gb or take more "
            "ranks"
        )
    return plan


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
