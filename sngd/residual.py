"""From collocation points to weighted residuals: r(θ), one entry per point and component.

Conditions that need the same Taylor channels and have the same number of components share one batch,
so that the network is evaluated once for all of them.

Letters
    #n       residual rows that live on this rank: points × components, batch after batch
    N_c      points of condition c over all ranks
    s        (#n,) row scale √(w_c / N_c), so that the loss is L(θ) = ‖s r‖² = Σ_c w_c mean(r_c²)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sngd.jet import field as field_jet
from sngd.networks import Network
from sngd.problem import Points, Problem, evaluate_residual
from sngd.taylor import TaylorRules

__all__ = ["Batch", "Collocation", "NonFiniteResidualError", "ResidualError"]


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
        embedded: (C, n, in) channels of the embedded points, when kept.
    """

    rules: TaylorRules
    components: int
    points: Tensor
    segments: list[tuple[int, int, int]]
    rows: slice
    embedded: Tensor | None = None


@dataclass
class Collocation:
    """The collocation points of one rank and what the conditions ask of them.

    Args:
        problem: the conditions.
        network: the fields.
        points: per condition this rank's points (n_c, d).
        weights: (conditions,) the weights w_c; replaced when losses are balanced.
        chunk: most points per network evaluation, None for whole batches.
    """

    problem: Problem
    network: Network
    points: Sequence[Tensor]
    weights: Tensor
    chunk: int | None = None
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
            s[self.condition_rows[number]] = torch.sqrt(self.weights[number] / condition.points)
        return s

    def residual(self, theta: Tensor) -> Tensor:
        """Unweighted residuals at θ (P,), (#n,)."""
        parts = []
        for batch in self.batches:
            for start, stop in self.chunks(batch):
                h = self.embed(batch, start, stop)
                z = self.network.forward(theta, h, batch.rules)
                parts.append(self.apply(batch, z, start).flatten())
        return torch.cat(parts) if parts else theta.new_empty(0)  # a rank may have no points

    def chunks(self, batch: Batch) -> list[tuple[int, int]]:
        """Point ranges of a batch, each at most `chunk` long."""
        n = len(batch.points)
        step = n if self.chunk is None else min(self.chunk, n)
        return [(a, min(a + step, n)) for a in range(0, n, max(step, 1))]

    def embed(self, batch: Batch, start: int, stop: int) -> Tensor:
        """Embedded channels (C, m, in) of some points; kept when the batch is one chunk."""
        if batch.embedded is not None:
            return batch.embedded[:, start:stop]  # `chunk` may have changed since
        h = self.network.embedding.channels(batch.points[start:stop], batch.rules.channels)
        if stop - start == len(batch.points):
            batch.embedded = h
        return h

    def apply(self, batch: Batch, z: Tensor, first: int) -> Tensor:
        """Residuals (m, q) of the batch's points first … first+m−1 from output channels z (C, m, fields)."""
        dim, stop = self.problem.domain.dim, first + z.shape[1]
        parts = []
        for number, a, b in batch.segments:
            low, high = max(a, first), min(b, stop)
            if low >= high:
                continue
            piece = z[:, low - first : high - first]
            jets = [field_jet(piece, batch.rules.channels, j, dim) for j in range(len(self.problem.fields))]
            p = Points(batch.points[low:high])
            u = jets[0] if len(jets) == 1 else tuple(jets)
            parts.append(evaluate_residual(self.problem.conditions[number], u, p))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def condition_losses(self, squares: Tensor) -> Tensor:
        """Sums of squared weighted residuals per condition on this rank, (conditions,).

        Args:
            squares: (#n,).
        """
        return torch.stack([squares[rows].sum() for rows in self.condition_rows])

    def locate(self, residual: Tensor) -> str | None:
        """Name condition and point of the first entry that is not finite; None when all are."""
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
                        at = ", ".join(
                            f"{n}={v:.6g}" for n, v in zip(names, batch.points[index].tolist(), strict=True)
                        )
                        name = self.problem.conditions[number].name
                        return f"condition {name!r} has residual {float(residual[row])} at {at}"
        raise AssertionError("a row belongs to a batch")
