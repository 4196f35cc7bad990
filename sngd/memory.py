"""What a rank holds in memory, and how a step is arranged so that it fits.

Letters
    P        parameters; n rows on the rank that has most; k sketch rank; R ranks
    C, q     Taylor channels and residual components of a batch
    ω        Σ over layers of in + out
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from sngd.jacobian import Keep
from sngd.sizes import Sizes

__all__ = ["Arrangement", "BasisName", "Placement", "Plan", "make_plan"]

# Where Q is asked to be; with landmarks it is nowhere, but known through rows of J that span it.
BasisName = Literal["auto", "replicated", "sharded"]
Placement = Literal["auto", "replicated", "sharded", "landmarks"]

# Shares of the budget: factors that are kept, one chunk in flight.
_KEPT_SHARE, _CHUNK_SHARE = 0.4, 0.125
# What a chunk's way through the network and back holds, in units of its factors: pre-activations, derivatives
# of the activation, one layer's temporaries.
_TEMPORARIES = 1.75
# Where factors are not kept, those of the chunk before are still alive while a chunk's own are made.
_CHUNKS = 2
# Arrays of a chunk's rows and k columns: a product, its parts, and what their factorisation copies.
_PRODUCTS = 5
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
# Copies of what a QR factorisation takes at once (of the basis; of [A | r], whose rows come in pieces).
_QR_COPIES, _TRIANGLE_COPIES, _TRIANGLE_ROWS = 4, 3, 1 << 14
# Landmarks are float64 whatever the run: factors, and vectors of parameters (two that Q holds, a step).
_DOUBLE, _LANDMARK_VECTORS = 8, 3
# Arrays of a block of points and the landmarks' rows × channels: sum, products of inputs and of cotangents.
_KERNEL_ARRAYS = 3


@dataclass(frozen=True)
class Arrangement:
    """How a step of a certain rank is arranged.

    Args:
        sharded: rows of Q spread over ranks.
        block: parameters whose collective runs while the next block is computed; None for one block.
        stored: keep A = J Q; otherwise products with it are recomputed from the factors.
        landmarks: Q is spanned by rows of J and not formed.
    """

    sharded: bool
    block: int | None
    stored: bool
    landmarks: bool = False


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

    def with_sketch(self, itemsize: int) -> Plan:
        """The plan for a sketch in another precision: what is kept may be less, a chunk smaller.

        Args:
            itemsize: bytes of a number of factors and sketch.

        Raises:
            ValueError: not even one point and a sketch of one column fit.
        """
        if self.sizes is None:
            return self
        sizes = replace(self.sizes, sketch_itemsize=itemsize)
        return make_plan(sizes, self.budget) if self.budget else replace(self, sizes=sizes)

    def arrange(self, rank: int, basis: Placement = "auto") -> Arrangement:
        """How to arrange a step of this rank.

        Args:
            rank: k.
            basis: where Q is; "auto" decides by size.
        """
        if basis == "landmarks":
            return Arrangement(False, None, True, landmarks=True)
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
        most = max(1, bytes_of_basis // _LEAST_BLOCK_BYTES)
        # factors that are recomputed would be so for every block
        count = min(_BLOCKS if sizes.ranks > 1 and self.keep == "factors" else 2 if sharded else 1, most)
        while True:
            block = None if count == 1 else math.ceil(sizes.parameters / count)
            how = Arrangement(sharded, block, True)
            if not self.budget or self.total(rank, how) <= self.budget:
                return how
            if not sharded:
                return Arrangement(sharded, block, False)
            if count == most or (block is not None and block <= sizes.panel):
                return how
            count = min(2 * count, most)  # two blocks and more are held at a time: smaller ones

    @property
    def points_at_once(self) -> int:
        """Points that go through the network together."""
        assert self.sizes is not None
        return self.sizes.points if self.chunk is None else min(self.chunk, self.sizes.points)

    def items_of_any_step(self) -> dict[str, int]:
        """Bytes by name of what has nothing to do with a sketch."""
        sizes = self.sizes
        assert sizes is not None
        kept = sizes.points * sizes.factors_of_a_point * sizes.sketch_itemsize
        return {
            "parameters": _PARAMETER_VECTORS * sizes.parameters * sizes.itemsize,
            "points and residuals": (sizes.points * sizes.dim + _ROW_VECTORS * sizes.rows) * sizes.itemsize,
            "factors of the Jacobian": kept if self.keep == "factors" else 0,
            "work space": int(self.points_at_once * bytes_of_a_point(sizes, self.keep)),
        }

    def items(self, rank: int, arrangement: Arrangement | None = None) -> dict[str, int]:
        """Bytes of what the busiest rank holds at its peak, by name.

        Args:
            rank: k.
            arrangement: of the step; `arrange(rank)` when absent.
        """
        sizes = self.sizes
        assert sizes is not None
        how = self.arrange(rank) if arrangement is None else arrangement
        if how.landmarks:
            return self._items_with_landmarks(rank)
        small = sizes.sketch_itemsize
        block = sizes.parameters if how.block is None else max(how.block, sizes.panel)
        own = sizes.parameters * rank
        basis = own
        if how.sharded:
            own = math.ceil(sizes.parameters / sizes.ranks) * rank
            basis = own + 3 * min(block, sizes.parameters) * rank
        elif sizes.ranks > 1:
            basis = own + 2 * min(block, sizes.parameters) * rank
        return {
            **self.items_of_any_step(),
            "work space": self._work_space(rank, how, own, basis),
            "a tile of rows": sizes.tile,
            "basis Q": basis * small,
            "product A": sizes.rows * rank * small if how.stored else 0,
            "core": (10 + sizes.ranks) * (rank + 1) ** 2 * 8,
        }

    def _items_with_landmarks(self, rank: int) -> dict[str, int]:
        """As `items`, where Q is spanned by rows of J: no P·k numbers, no tile of rows."""
        sizes = self.sizes
        assert sizes is not None
        rows, numbers = self.points_at_once * sizes.components, sizes.factors_of_landmarks(rank)
        rounded = 0 if sizes.itemsize == _DOUBLE else sizes.itemsize  # once more in J's precision
        landmarks = numbers * (_DOUBLE + rounded)
        vectors = _LANDMARK_VECTORS * sizes.parameters * (_DOUBLE + rounded)
        passed = self.items_of_any_step()["work space"]
        block = min(sizes.kernel * sizes.components, rows) * max(rank, sizes.components) * sizes.channels
        products = (_PRODUCTS * rows * rank + _KERNEL_ARRAYS * block) * _DOUBLE
        if self.keep == "factors":  # made before there are landmarks
            passed -= landmarks + vectors
        else:
            products += passed
        made = int(_TEMPORARIES * _DOUBLE * min(self.points_at_once * sizes.factors_of_a_point, numbers))
        return {
            **self.items_of_any_step(),
            "work space": max(passed, made, products, self._triangle_space(rank)),
            "landmarks": landmarks,
            "vectors in Q": vectors,
            "product A": sizes.rows * rank * sizes.itemsize,
            "core": (12 + sizes.ranks) * (rank + 1) ** 2 * _DOUBLE,
        }

    def _triangle_space(self, rank: int) -> int:
        """Bytes of a QR factorisation of some rows of [A | r]."""
        sizes = self.sizes
        assert sizes is not None
        return _TRIANGLE_COPIES * min(_TRIANGLE_ROWS, sizes.rows) * (rank + 1) * sizes.itemsize

    def _work_space(self, rank: int, how: Arrangement, own: int, basis: int) -> int:
        """Bytes of what comes and goes: a chunk of points or a factorisation, whichever is more.

        Args:
            rank: k.
            how: the step is arranged.
            own: numbers of Q that this rank factors.
            basis: numbers of Q, Y and blocks of them that are held.
        """
        sizes = self.sizes
        assert sizes is not None
        s, small, rows = sizes.itemsize, sizes.sketch_itemsize, self.points_at_once * sizes.components
        chunk = self.items_of_any_step()["work space"] + _PRODUCTS * rows * rank * small
        if self.keep == "factors":  # made before there is a basis
            chunk = max(chunk - basis * small, _PRODUCTS * rows * rank * small)
        if not how.stored:
            chunk += _TRIANGLE_COPIES * rows * (rank + 1) * s
        return max(chunk, _QR_COPIES * min(sizes.factored, own) * small, self._triangle_space(rank))

    def total(self, rank: int, arrangement: Arrangement | None = None) -> int:
        """Bytes of the busiest rank at its peak."""
        return sum(self.items(rank, arrangement).values())

    def largest_rank(self, most: int, basis: Placement = "auto") -> int:
        """The largest k ≤ most whose step fits into the budget, at least 1.

        Args:
            most: bound.
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


def bytes_of_a_point(sizes: Sizes, keep: Keep) -> float:
    """What the way through the network and back holds of a point beside factors that are kept.

    Args:
        sizes: of the run.
        keep: whether they are.
    """
    s, small = sizes.itemsize, sizes.sketch_itemsize
    units = _TEMPORARIES * s
    if small < s:  # the factors in both precisions
        units += s
    if keep == "nothing":
        units += _CHUNKS * small
    return units * sizes.factors_of_a_point


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
    chunk = max(1, int(_CHUNK_SHARE * budget / bytes_of_a_point(sizes, keep)))
    plan = Plan(keep, None if chunk >= sizes.points else chunk, budget, sizes)
    needed = Plan("nothing", 1, budget, sizes).total(1, Arrangement(sizes.ranks > 1, None, False))
    if needed > budget:
        raise ValueError(
            f"a memory budget of {budget:,} bytes is below the {needed:,} bytes that a rank needs at the "
            f"least with P={sizes.parameters:,} and {sizes.points:,} points; raise memory_gb or take more "
            "ranks"
        )
    return plan
