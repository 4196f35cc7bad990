"""What a run will hold, keep and send, said before it starts.

Letters
    P        parameters; N rows over all ranks; k sketch rank; R ranks
    Q, A     (P, k) basis of the sketch; (N, k) = J Q
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sngd.basis import make_blocks
from sngd.config import RunConfig
from sngd.costs import Size
from sngd.factors import make_panels, tile_numbers
from sngd.interconnect import sketched_payloads
from sngd.landmarks import draw_landmarks
from sngd.memory import Arrangement, Placement, Plan, bytes_of_a_point, make_plan
from sngd.networks import AnyNetwork
from sngd.optimizers import ENGD, ENGDW, LBFGS, SNGD, SOAP, SPRING, Adam, Auto, SSBroyden
from sngd.optimizers.auto import first_rank
from sngd.optimizers.engd import gram_bytes
from sngd.residual import Collocation
from sngd.sizes import Sizes

__all__ = ["Forecast", "human"]

# Residual evaluations and chord corrections of a typical step.
EVALUATIONS, CORRECTIONS = 4, 3
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MOST_RANKS = 1 << 20


def human(count: float) -> str:
    """Bytes in three digits: 640 B, 1.05 MB, 80 GB."""
    power = 0
    while count >= 999.5 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.0f} {_UNITS[power]}" if count >= 99.5 or not power else f"{count:.3g} {_UNITS[power]}"


@dataclass(frozen=True)
class Forecast:
    """What follows from a run, a number of ranks and a memory plan.

    Args:
        run: what is to be done.
        network: that of the run.
        plan: made for it.
        device: where it is to run.
        wanted: k to start with in place of the run's own.
    """

    run: RunConfig
    network: AnyNetwork
    plan: Plan
    device: torch.device
    wanted: int | None = None

    @property
    def sizes(self) -> Sizes:
        """Sizes of the plan."""
        assert self.plan.sizes is not None
        return self.plan.sizes

    @property
    def rows(self) -> int:
        """N."""
        return self.run.problem.rows

    # -----------------------------------------------------------------------------------------
    # The sketch
    # -----------------------------------------------------------------------------------------

    @property
    def sketched(self) -> bool:
        """Whether the optimizer sketches."""
        return isinstance(self.run.optimizer, (SNGD, Auto))

    @property
    def basis(self) -> Placement:
        """Where Q is asked to be."""
        return self.run.optimizer.placement if isinstance(self.run.optimizer, SNGD) else "auto"

    @property
    def largest(self) -> int:
        """The largest rank that the optimizer takes within the budget."""
        return self.plan.largest_rank(self.bound[0], self.basis)

    @property
    def bound(self) -> tuple[int, str]:
        """The largest rank if memory were no object, and what bounds it."""
        most = getattr(self.run.optimizer, "max_rank", None)
        bounds = [(self.sizes.parameters, "P"), (self.rows, "N")]
        return min([*bounds, (most, "max_rank")] if most else bounds)

    @property
    def asked(self) -> int:
        """The rank to start with, fit or not."""
        rank = self.wanted or getattr(self.run.optimizer, "rank", None)
        if rank is None:
            problem, network = self.run.problem, self.network
            points = [torch.empty(0, problem.domain.dim) for _ in problem.conditions]
            collocation = Collocation(problem, network, points, torch.ones(len(points)))
            rank = first_rank(Size.of(collocation, self.rows, self.sizes.ranks), self.device)
        return min(rank, self.bound[0])

    @property
    def first(self) -> int:
        """The rank of the first step."""
        return min(self.asked, self.largest)

    def arrange(self, rank: int) -> Arrangement:
        """How a step of a rank is arranged."""
        return self.plan.arrange(rank, self.basis)

    # -----------------------------------------------------------------------------------------
    # Bytes
    # -----------------------------------------------------------------------------------------

    def items(self, rank: int | None) -> dict[str, int]:
        """Bytes that the busiest rank holds, by name.

        Args:
            rank: k; None for an optimizer without a sketch.
        """
        if rank is not None:
            return self.plan.items(rank, self.arrange(rank))
        optimizer, own = self.run.optimizer, self.plan.items_of_any_step()
        p, s = self.sizes.parameters, self.sizes.itemsize
        if isinstance(optimizer, ENGD):
            return own | {"Gramian, damped copy and factor (3·P²)": gram_bytes(p, s)}
        if isinstance(optimizer, (ENGDW, SPRING)):
            return own | {"kernel, damped copy and factor (3·N²)": gram_bytes(self.rows, s)}
        if isinstance(optimizer, SSBroyden):
            return own | {"inverse Hessian (P²)": 8 * p**2}
        own["factors of the Jacobian"] = 0  # a gradient takes one pass, whatever the plan
        own["work space"] = int(self.plan.points_at_once * bytes_of_a_point(self.sizes, "nothing"))
        if isinstance(optimizer, LBFGS):
            return own | {f"history ({optimizer.history} pairs)": 16 * optimizer.history * p}
        if isinstance(optimizer, SOAP):
            matrices = sum(o**2 + i**2 for o, i in self.network.shapes)
            return own | {"moments, preconditioners and their bases": (2 * p + 2 * matrices) * s}
        assert isinstance(optimizer, Adam)
        return own | {"moments": 2 * p * s}

    def total(self, rank: int | None) -> int:
        """Bytes of the busiest rank."""
        return sum(self.items(rank).values())

    @property
    def gramian(self) -> int:
        """Bytes of P² numbers, which no sketched step forms."""
        return self.sizes.parameters**2 * self.sizes.itemsize

    def traffic(
        self, rank: int, evaluations: int = EVALUATIONS, corrections: int = CORRECTIONS, step: int = 2
    ) -> dict[str, int]:
        """Bytes that travel in a sketched step under the trust region, by label; nothing on one rank.

        Without what the loop adds now and then: "control", "check" and "holdout", some numbers each.

        As collectives are accounted for: the size of their larger buffer.

        Args:
            rank: k.
            evaluations: of the residual.
            corrections: that are solved for.
            step: its number, which landmarks depend on.
        """
        sizes, how = self.sizes, self.arrange(rank)
        if sizes.ranks == 1:
            return {}
        if how.landmarks:
            return self._traffic_with_landmarks(rank, evaluations, corrections, step)
        numbers = tile_numbers(self.run.sketch_dtype, self.device, rank)
        blocks = make_blocks(make_panels(self.network, numbers, rank), how.block, sizes.ranks)
        payloads = sketched_payloads(
            sizes.parameters,
            rank,
            sizes.ranks,
            len(self.run.problem.conditions),
            evaluations=evaluations,
            projections=corrections,
            number_bytes=sizes.sketch_itemsize,
            residual_bytes=sizes.itemsize,
            given=0,
            sharded=how.sharded,
            padded=sizes.ranks * sum(block.share for block in blocks),
        )
        moved: dict[str, int] = {}
        for p in payloads:
            if p.what != "control":  # of the training loop, not of the step
                moved[p.what] = moved.get(p.what, 0) + int(p.bytes * p.calls)
        return moved

    def _traffic_with_landmarks(
        self, rank: int, evaluations: int, corrections: int, step: int
    ) -> dict[str, int]:
        """As `traffic`, where Q is spanned by rows of J; a rank that loses directions sends less."""
        sizes, s = self.sizes, self.sizes.itemsize
        given, points, rows = self.landmarks(rank, step)
        dimensions = given + rows  # points of several components need not make up k
        moved = {
            "losses": 8 * len(self.run.problem.conditions) * evaluations,
            "landmarks": points * sizes.dim * s,
            "triangles": sizes.ranks * (dimensions + 1) ** 2 * s,
            "projections": dimensions * s * corrections,
        }
        if given:
            moved["gradient"] = sizes.parameters * s
        return moved

    def landmarks(self, rank: int, step: int = 2) -> tuple[int, int, int]:
        """What spans Q: vectors, and landmarks by their points and rows.

        Args:
            rank: k.
            step: its number; the first has no displacement before it to recycle.
        """
        assert isinstance(self.run.optimizer, SNGD)
        problem, given = self.run.problem, min(self.run.optimizer.recycled(rank), step)
        points = [len(indices) for indices in draw_landmarks(problem, rank - given, self.run.seed, step)]
        rows = [n * s.components for n, s in zip(points, problem.signatures, strict=True)]
        return given, sum(points), sum(rows)

    # -----------------------------------------------------------------------------------------
    # Words
    # -----------------------------------------------------------------------------------------

    @property
    def jacobian_words(self) -> str:
        """What is kept of J and how many points go through the network at once."""
        at_once = "whole batches" if self.plan.chunk is None else f"{self.plan.chunk:,} points at once"
        kept = "factors kept" if self.plan.keep == "factors" else "factors recomputed in every pass"
        return f"{kept}, {at_once}"

    def basis_words(self, rank: int) -> str:
        """Where Q is."""
        how = self.arrange(rank)
        if how.landmarks:
            return f"spanned by {self.landmarks(rank)[2]:,} rows of J (landmarks)"
        block = "" if how.block is None else f", in blocks of {how.block:,} parameters"
        return ("sharded over ranks" if how.sharded else "whole on every rank") + block

    def product_words(self, rank: int) -> str:
        """Whether A is kept."""
        return "stored" if self.arrange(rank).stored else "recomputed"

    def lines(self) -> list[str]:
        """The plan in a few lines."""
        budget = human(self.plan.budget)
        if not self.sketched:
            return [f"memory: {human(self.total(None))} of {budget} a rank; J: {self.jacobian_words}"]
        k, most = self.first, self.largest
        lines = [
            f"memory: {human(self.total(k))} of {budget} a rank at k={k:,}, {human(self.total(most))} at "
            f"k={most:,}, the largest ({self.binding})",
            f"J: {self.jacobian_words}; Q: {self.basis_words(k)}; A: {self.product_words(k)}",
        ]
        if self.sizes.ranks > 1:
            sent = sum(self.traffic(k).values())
            lines.append(f"between ranks: about {human(sent)} a step at k={k:,}")
        return [*lines, f"the Gramian of {human(self.gramian)} is never formed"]

    @property
    def binding(self) -> str:
        """What bounds the largest rank."""
        bound, name = self.bound
        return name if self.largest >= bound else "memory"

    def shortage(self) -> str:
        """Why the run does not fit as asked for and what would do; empty where it fits."""
        budget = self.plan.budget
        if self.sketched:
            if self.asked <= self.largest:
                return ""
            needed = human(self.total(self.asked))
            return (
                f"rank k={self.asked:,} does not fit into {human(budget)} a rank ({needed}); training would "
                f"start with k={self.largest:,}. {self._remedies()}"
            )
        needed_bytes = max((b for name, b in self.items(None).items() if "²" in name), default=0)
        if needed_bytes <= budget:
            return ""
        return (
            f"optimizer {type(self.run.optimizer).__name__} does not fit into {human(budget)} a rank: its "
            f"matrices take {human(needed_bytes)}; take SNGD, which needs none of them, or raise --memory"
        )

    def _remedies(self) -> str:
        low, high = self.plan.budget, 2 * self.plan.budget
        while not self._fits(high, self.sizes.ranks):
            low, high = high, 2 * high
        while high - low > high // 100:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(middle, self.sizes.ranks) else (middle, high)
        ranks = self.sizes.ranks
        while ranks <= _MOST_RANKS and not self._fits(self.plan.budget, ranks):
            ranks *= 2
        more = f", or --ranks {ranks}" if ranks <= _MOST_RANKS else ""
        return f"It fits with --memory {math.ceil(high / 1e7) / 100:.2f}GB{more}"

    def _fits(self, budget: int, ranks: int) -> bool:
        run = self.run
        sizes = Sizes.of(run.problem, self.network, ranks, run.dtype, run.sketch_dtype, self.device)
        try:
            return make_plan(sizes, budget).largest_rank(self.asked, self.basis) >= self.asked
        except ValueError:
            return False
