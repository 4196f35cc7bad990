"""From collocation points to weighted residuals: r(θ), one entry per point and component.

Conditions that need the same Taylor channels and have the same number of components share one batch,
so that the network is evaluated once for all of them.

Letters
    #n       residual rows that live on this rank: points × components, batch after batch
    N_c      points of condition c over all ranks
    s        (#n,) row scale √(w_c / N_c), so that the loss is L(θ) = ‖s r‖² = Σ_c w_c mean(r_c²); where there
             is an emphasis, w_c has a factor of each point
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from sngd.allocation import OutOfMemoryError, first_line, is_out_of_memory, release
from sngd.condition import evaluate_residual
from sngd.leaves import field as field_jet
from sngd.networks import AnyNetwork
from sngd.points import Points
from sngd.problem import Problem
from sngd.taylor import TaylorRules

__all__ = ["Batch", "Collocation", "NonFiniteResidualError", "ResidualError"]

T = TypeVar("T")
Emphasis = Callable[[int, Tensor], Tensor | None]


class ResidualError(ValueError):
    """A residual fails on some rank's points: raised on every rank, with a text on one of them."""


class NonFiniteResidualError(ResidualError):
    """A residual is NaN or infinite; the message names the condition and the point."""


@dataclass
class Batch:
    """Points that go through the network together.

    Args:
        rules: chain rule on the batch's channels.
        components: q, residual components per point.
        points: (n, d).
        segments: (condition number, first point, one past the last), in order.
        rows: the batch's rows in the rank's residual vector.
        embedded: what the network makes of the points, when kept.
        places: the points of the segments, as residuals take them.
    """

    rules: TaylorRules
    components: int
    points: Tensor
    segments: list[tuple[int, int, int]]
    rows: slice
    embedded: Any = None
    places: dict[tuple[int, int, int], Points] = field(default_factory=dict)

    def rows_of(self, start: int, stop: int) -> slice:
        """Rows of the points start … stop − 1 in the rank's residual vector."""
        return slice(self.rows.start + start * self.components, self.rows.start + stop * self.components)


@dataclass
class Collocation:
    """The collocation points of one rank and what the conditions ask of them.

    Args:
        problem: the conditions.
        network: the fields.
        points: per condition this rank's points (n_c, d) and further columns.
        weights: (conditions,) the weights w_c; replaced when losses are balanced.
        chunk: most points per network evaluation, None for whole batches. Where they do not fit into memory,
            it is halved and stays so.
        owner: how messages call the rank.
        crowded: the factors of all points did not fit into memory, and are no longer kept.
        known: values of known coefficients, where they differ from the problem's.
        emphasis: (condition number, its points (n, d + a)) → factors of their weight (n,), None for 1.
    """

    problem: Problem
    network: AnyNetwork
    points: Sequence[Tensor]
    weights: Tensor
    chunk: int | None = None
    owner: str = "this rank"
    crowded: bool = False
    known: dict[str, float] = field(default_factory=dict)
    emphasis: Emphasis | None = None
    batches: list[Batch] = field(init=False)
    condition_rows: list[slice] = field(init=False)

    def __post_init__(self) -> None:
        groups: dict[Any, list[int]] = {}
        for number, signature in enumerate(self.problem.signatures):
            groups.setdefault(signature, []).append(number)
        self.batches = []
        self.condition_rows = [slice(0, 0)] * len(self.problem.conditions)
        row = 0
        for signature, members in groups.items():
            q, start, segments, first = signature.components, 0, [], row
            for number in members:
                count = len(self.points[number])
                segments.append((number, start, start + count))
                self.condition_rows[number] = slice(row, row + count * q)
                start, row = start + count, row + count * q
            stacked = torch.cat([self.points[number] for number in members])
            rules = TaylorRules(signature.channels)
            self.batches.append(Batch(rules, q, stacked, segments, slice(first, row)))
        self.row_count = row

    @property
    def scale(self) -> Tensor:
        """Row scale s (#n,)."""
        s = self.weights.new_empty(self.row_count)
        for number, condition in enumerate(self.problem.conditions):
            rows = self.condition_rows[number]
            s[rows] = torch.sqrt(self.weights[number] / condition.points)
            factors = self.emphasis and self.emphasis(number, self.points[number])
            if factors is not None:
                q = self.problem.signatures[number].components
                s[rows] *= factors.to(s).sqrt().repeat_interleave(q)
        return s

    def residual(self, theta: Tensor) -> Tensor:
        """Unweighted residuals at θ (P,), (#n,)."""
        result = theta.new_empty(self.row_count)
        for batch in self.batches:
            for rows, values in self.over_chunks(batch, lambda *chunk: self._evaluate(theta, *chunk)):
                result[rows] = values
        return result

    def _evaluate(self, theta: Tensor, batch: Batch, start: int, stop: int) -> tuple[slice, Tensor]:
        """Rows of some points and their unweighted residuals."""
        z = self.network.forward(theta, self.embed(batch, start, stop), batch.rules)
        return batch.rows_of(start, stop), self.apply(batch, z, start).flatten()

    def over_chunks(
        self,
        batch: Batch,
        work: Callable[[Batch, int, int], T],
        spare: Callable[[], bool] = lambda: False,
    ) -> Iterator[T]:
        """Results of some work on the points of a batch, at most `chunk` of them at a time.

        Where memory fails, the chunk is halved, for later passes too, and the work goes on with the point
        where it failed; other ranks notice nothing but the time.

        Args:
            batch: the points.
            work: (batch, first point, one past the last) → its result; no collectives.
            spare: asked first where memory fails; lets go of what it can do without, or returns False.

        Raises:
            OutOfMemoryError: one point does not fit.
        """
        start, n = 0, len(batch.points)
        while start < n:
            stop = n if self.chunk is None else min(start + self.chunk, n)
            results: list[T] = []  # empty where memory failed
            why = ""
            try:
                results.append(work(batch, start, stop))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                why = first_line(error)
            if not results:  # the exception is gone, and with it the frames that held the chunk's arrays
                if not spare():
                    self._halve(stop - start, why)
                release()
                continue
            yield results.pop()
            start = stop

    def _halve(self, points: int, why: str) -> None:
        """Take half as many points from now on as did not fit."""
        if points == 1:
            raise OutOfMemoryError(
                f"{self.owner} has no memory for one point of a network of P={self.network.parameters:,} "
                "parameters; fewer and fewer points at a time have been tried. Lower memory_gb, so that "
                f'less is kept beside it, take more ranks, or precision="mixed" or "float32" ({why})'
            )
        self.chunk = points // 2
        logging.getLogger(__name__).warning(
            "%s: %d points at a time do not fit into memory, going on with %d (%s)",
            self.owner,
            points,
            self.chunk,
            why,
        )

    def embed(self, batch: Batch, start: int, stop: int) -> Any:
        """What the network makes of some points; kept when the batch is one chunk."""
        whole = stop - start == len(batch.points)
        if batch.embedded is not None and whole:
            return batch.embedded
        x = batch.points[start:stop, : self.problem.domain.dim]
        h = self.network.embed(x, batch.rules.channels)
        batch.embedded = h if whole else None
        return h

    def apply(self, batch: Batch, z: Tensor, first: int) -> Tensor:
        """Residuals (m, q) of the batch's points first … first+m−1 from output channels z (C, m, outputs).

        After the problem's outputs come the parameters of its unknown coefficients.
        """
        problem, stop = self.problem, first + z.shape[1]
        dim, outputs = problem.domain.dim, len(problem.outputs)
        parts = []
        for number, a, b in batch.segments:
            low, high = max(a, first), min(b, stop)
            if low >= high:
                continue
            piece = z[:, low - first : high - first]
            jets = [field_jet(piece, batch.rules.channels, j, dim) for j in range(outputs)]
            p = self._place(batch, number, low, high)
            if problem.coefficients:
                p = p.with_coefficients(problem.coefficients_at(piece[0, :, outputs:], self.known))
            parts.append(evaluate_residual(problem.conditions[number], problem.assemble(jets, p), p))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _place(self, batch: Batch, number: int, low: int, high: int) -> Points:
        """Some points of a condition; kept, with their coordinates as fields."""
        key = (number, low, high)
        if key not in batch.places:
            if len(batch.places) >= 2 * len(batch.segments):  # of other chunks
                batch.places.clear()
            batch.places[key] = Points(batch.points[low:high], self.problem.signatures[number].columns)
        return batch.places[key]

    def condition_losses(self, squares: Tensor) -> Tensor:
        """Sums of squared weighted residuals per condition on this rank, (conditions,).

        Args:
            squares: (#n,).
        """
        return torch.stack([squares[rows].sum() for rows in self.condition_rows])

    def locate(self, residual: Tensor, what: str = "residual") -> str | None:
        """Name condition and point of the first entry that is not finite; None when all are.

        Args:
            residual: one entry of every row, (#n,).
            what: they are.
        """
        bad = torch.nonzero(~torch.isfinite(residual)).flatten()
        if not len(bad):
            return None
        row = int(bad[0])
        for batch in self.batches:
            if batch.rows.start <= row < batch.rows.stop:
                index = (row - batch.rows.start) // batch.components
                for number, a, b in batch.segments:
                    if a <= index < b:
                        names = self.problem.domain.names
                        x = batch.points[index, : len(names)].tolist()
                        at = ", ".join(f"{n}={v:.6g}" for n, v in zip(names, x, strict=True))
                        name = self.problem.conditions[number].name
                        return f"condition {name!r} has {what} {float(residual[row])} at {at}"
        raise AssertionError("a row belongs to a batch")
