"""The Jacobian of the weighted residuals, through its factors.

Products with many columns form rows a tile at a time and multiply; products with one vector stay with the
factors. J is never stored, and its factors only where the memory plan allows it.

Letters
    P        parameters; #n rows on this rank (points × components q); k columns
    J        (#n, P)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from sngd.factors import Factors, Panel, make_panels, tile_numbers
from sngd.residual import Batch, Collocation

Keep = Literal["factors", "nothing"]

__all__ = ["FactoredJacobian", "Keep"]


class FactoredJacobian:
    """J = ∂(s r)/∂θ at one θ, for dense networks.

    Args:
        collocation: this rank's points, conditions and network.
        theta: (P,).
        scale: (#n,) row scale s.
        dtype: of the factors and of products; θ's when absent.
        keep: "factors" keeps the factors of all points, "nothing" recomputes them in every pass; what is
            kept is given up where memory fails.
        columns: k of most products, which tiles are made for.
    """

    def __init__(
        self,
        collocation: Collocation,
        theta: Tensor,
        scale: Tensor,
        dtype: torch.dtype | None = None,
        keep: Keep = "factors",
        columns: int = 64,
    ) -> None:
        self.collocation, self.theta, self.scale = collocation, theta, scale
        self.dtype = theta.dtype if dtype is None else dtype
        self.keep: Keep = "nothing" if collocation.crowded else keep
        self.tile = tile_numbers(self.dtype, theta.device, columns)
        self.panels = make_panels(collocation.network, self.tile, columns)
        self._buffer: Tensor | None = None
        self._kept: list[Factors] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(#n, P)."""
        return self.collocation.row_count, self.theta.numel()

    def _make_factors(self, batch: Batch, start: int, stop: int) -> tuple[Factors, Tensor]:
        """Factors of the rows of some points, and their unweighted residuals (m·q,), in θ's precision."""
        col, q = self.collocation, batch.components
        tape = col.network.record(self.theta, col.embed(batch, start, stop), batch.rules)
        z = tape.output.detach().requires_grad_()
        rows = batch.rows_of(start, stop)
        with torch.enable_grad():
            r = col.apply(batch, z, start)
            totals = r.sum(0)
        seeds = [
            torch.autograd.grad(totals[j], z, retain_graph=j + 1 < q, allow_unused=True)[0]
            if totals.requires_grad
            else None
            for j in range(q)
        ]
        d_out = torch.stack([torch.zeros_like(z) if s is None else s for s in seeds], dim=2)
        d_out *= self.scale[rows].view(1, stop - start, q, 1)
        cotangents = col.network.pull_back(self.theta, tape, d_out, batch.rules)
        return Factors(rows, tape.inputs, cotangents), r.detach().flatten()

    def _rounded_factors(self, batch: Batch, start: int, stop: int) -> Factors:
        return self._make_factors(batch, start, stop)[0].to(self.dtype)

    def factors(self) -> Iterator[Factors]:
        """Factors of the rows, chunk after chunk."""
        if self._kept is not None:
            yield from self._kept
            return
        made: list[Factors] = []

        def give_up() -> bool:
            if not made:
                return False
            made.clear()
            self.keep, self.collocation.crowded = "nothing", True
            logging.getLogger(__name__).warning(
                "%s: the factors of all points do not fit into memory, they are no longer kept",
                self.collocation.owner,
            )
            return True

        for batch in self.collocation.batches:
            for factors in self.collocation.over_chunks(batch, self._rounded_factors, give_up):
                if self.keep == "factors":
                    made.append(factors)
                yield factors
        if self.keep == "factors":
            self._kept = made

    # -----------------------------------------------------------------------------------------
    # One chunk
    # -----------------------------------------------------------------------------------------

    def times(self, chunk: Factors, v: Tensor, panels: Sequence[Panel] | None = None) -> Tensor:
        """The chunk's rows times V, (m·q, k).

        Args:
            chunk: factors of the rows.
            v: (P, k), or the rows of V that belong to the panels.
            panels: neighbouring columns of J; all when absent.
        """
        panels = self.panels if panels is None else panels
        result = v.new_zeros(chunk.rows.stop - chunk.rows.start, v.shape[1])
        first = panels[0].columns.start
        for panel, points, rows in self._tiles(chunk, panels):
            part = v[panel.columns.start - first : panel.columns.stop - first]
            result[rows].addmm_(chunk.tile(panel, points, self._scratch()), part)
        return result

    def add_transposed_times(
        self, chunk: Factors, w: Tensor, out: Tensor, panels: Sequence[Panel] | None = None
    ) -> None:
        """Add the chunk's rowsᵀ W to out.

        Args:
            chunk: factors of the rows.
            w: (m·q, k).
            out: (P, k), or the rows of it that belong to the panels.
            panels: neighbouring columns of J; all when absent.
        """
        panels = self.panels if panels is None else panels
        first = panels[0].columns.start
        for panel, points, rows in self._tiles(chunk, panels):
            part = out[panel.columns.start - first : panel.columns.stop - first]
            part.addmm_(chunk.tile(panel, points, self._scratch()).T, w[rows])

    def _tiles(self, chunk: Factors, panels: Sequence[Panel]) -> Iterator[tuple[Panel, slice, slice]]:
        """Panel, points and rows of every tile; the array that is longer, of P or of n, is walked once."""
        columns = panels[-1].columns.stop - panels[0].columns.start
        if columns >= chunk.rows.stop - chunk.rows.start:
            for panel in panels:
                for points, rows in chunk.spans(panel, self.tile):
                    yield panel, points, rows
            return
        widest = max(panels, key=lambda panel: 0 if panel.bias else panel.width)
        for points, rows in chunk.spans(widest, self.tile):
            for panel in panels:
                yield panel, points, rows

    def _scratch(self) -> Tensor:
        """Where tiles are formed: one buffer, so that it stays in the cache."""
        if self._buffer is None:
            widest = max((panel.width for panel in self.panels if not panel.bias), default=0)
            q = max((batch.components for batch in self.collocation.batches), default=1)
            self._buffer = self.theta.new_empty(max(self.tile, widest * q), dtype=self.dtype)
        return self._buffer

    # -----------------------------------------------------------------------------------------
    # All rows of this rank
    # -----------------------------------------------------------------------------------------

    def matmul(self, v: Tensor, panels: Sequence[Panel] | None = None) -> Tensor:
        """J V for V (P, k), (#n, k); J v for v (P,), (#n,).

        Args:
            v: one or more columns, or the rows of V that belong to the panels.
            panels: neighbouring columns of J, with V of several columns; all when absent.
        """
        if v.ndim == 1:
            return self._matvec(v)
        result = v.new_empty(self.shape[0], v.shape[1])
        for chunk in self.factors():
            result[chunk.rows] = self.times(chunk, v, panels)
        return result

    def rmatmul(self, w: Tensor, panels: Sequence[Panel] | None = None) -> Tensor:
        """Jᵀ W for W (#n, k), (P, k): this rank's part of the sum; Jᵀ w for w (#n,), (P,).

        Args:
            w: one or more columns.
            panels: neighbouring columns of J, with W of several columns; all when absent.
        """
        if w.ndim == 1:
            return self._rmatvec(w)
        chosen = self.panels if panels is None else panels
        result = w.new_zeros(chosen[-1].columns.stop - chosen[0].columns.start, w.shape[1])
        for chunk in self.factors():
            self.add_transposed_times(chunk, w[chunk.rows], result, panels)
        return result

    def normal_matmul(self, v: Tensor) -> Tensor:
        """Jᵀ J V for V (P, k), (P, k), in one pass over the points: this rank's part of the sum."""
        result = torch.zeros_like(v)
        for chunk in self.factors():
            self.add_transposed_times(chunk, self.times(chunk, v), result)
        return result

    def row_blocks(self, numbers: int) -> Iterator[tuple[slice, Tensor]]:
        """Rows as matrices (m·q, P) of at most so many numbers, or of one point.

        Args:
            numbers: entries of a block.
        """
        for chunk in self.factors():
            for piece in chunk.split(max(1, numbers // (chunk.components * self.shape[1]))):
                yield piece.rows, piece.dense(self.collocation.network)

    def dense(self) -> Tensor:
        """J as one matrix (#n, P); for small problems and tests."""
        rows = [chunk.dense(self.collocation.network) for chunk in self.factors()]
        return torch.cat(rows) if rows else self.theta.new_empty(self.shape, dtype=self.dtype)

    def _matvec(self, v: Tensor) -> Tensor:
        result = v.new_empty(self.shape[0], dtype=self.dtype)
        for chunk in self.factors():
            result[chunk.rows] = self.times_vector(chunk, v)
        return result

    def times_vector(self, chunk: Factors, v: Tensor) -> Tensor:
        """The chunk's rows times v (P,), (m·q,), without forming them."""
        weights, biases = self.collocation.network.split(v.to(self.dtype))
        total: Tensor | float = 0.0
        for h, dd, w, b in zip(chunk.inputs, chunk.cotangents, weights, biases, strict=True):
            push = h @ w.T
            push[0] += b
            total = total + (dd * push.unsqueeze(2)).sum(dim=(0, 3))
        assert isinstance(total, Tensor)
        return total.flatten()

    def _rmatvec(self, w: Tensor) -> Tensor:
        result = w.new_zeros(self.shape[1], dtype=self.dtype)
        for chunk in self.factors():
            self._pull(chunk, w[chunk.rows].to(self.dtype), result)
        return result

    def residual_and_gradient(self) -> tuple[Tensor, Tensor]:
        """Unweighted residuals (#n,) and Jᵀ(s r) (P,), this rank's part, in one pass over the points."""
        raw = self.theta.new_empty(self.shape[0])
        gradient = self.theta.new_zeros(self.shape[1])
        for batch in self.collocation.batches:
            for chunk, values in self.collocation.over_chunks(batch, self._make_factors):
                raw[chunk.rows] = values
                self._pull(chunk, self.scale[chunk.rows] * raw[chunk.rows], gradient)
        return raw, gradient

    def _pull(self, chunk: Factors, w: Tensor, out: Tensor) -> None:
        """Add a chunk's Jᵀ w to out (P,)."""
        weights, biases = self.collocation.network.split(out)
        _, m, q, _ = chunk.cotangents[0].shape
        y = w.view(1, m, q, 1)
        for h, dd, weight, bias in zip(chunk.inputs, chunk.cotangents, weights, biases, strict=True):
            pull = (dd * y).sum(2)
            weight.addmm_(pull.flatten(0, 1).T, h.flatten(0, 1))
            bias += pull[0].sum(0)
