"""The Jacobian of the weighted residuals, through its factors.

Row (i, j) of layer l's block is Σ_c D_l[c,i,j] ⊗ H_l[c,i]: the whole matrix is known from
C·n·Σ(q·out + in) numbers instead of n·q·P. Products with many columns form rows for a tile of points and
multiply; products with one vector stay with the factors.

Letters
    P        parameters; #n rows on this rank (points × components q); k columns
    J        (#n, P), never stored whole unless the memory budget allows it
    m        points of a tile
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sngd.residual import Batch, Collocation

Keep = Literal["rows", "factors", "nothing"]

__all__ = ["FactoredJacobian", "Tile", "Workspace", "kernel_block"]


class Workspace:
    """Buffers that live from step to step, so that large arrays are not mapped anew each time."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int], Tensor] = {}

    def take(self, key: tuple[int, int], shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A buffer of this shape with like's dtype and device; its old contents are overwritten.

        Args:
            key: (chunk, layer); one buffer is held for each.
            shape: what is asked for.
            like: dtype and device.
        """
        size, held = math.prod(shape), self._buffers.get(key)
        if held is None or len(held) < size or held.dtype != like.dtype or held.device != like.device:
            held = self._buffers[key] = torch.empty(size, dtype=like.dtype, device=like.device)
        return held[:size].view(shape)


@dataclass
class Tile:
    """Factors of the rows of one chunk of points.

    Args:
        rows: which rows of the rank's Jacobian.
        inputs: per layer H_l (C, m, in).
        cotangents: per layer D_l (C, m, q, out), row scale included.
    """

    rows: slice
    inputs: list[Tensor]
    cotangents: list[Tensor]

    def blocks(self, dtype: torch.dtype, workspace: Workspace, slot: int) -> list[Tensor]:
        """Rows as one block per layer's weights (m·q, out·in), then the biases (m·q, Σ out)."""
        result = []
        for layer, (h, dd) in enumerate(zip(self.inputs, self.cotangents, strict=True)):
            c, m, q, out = dd.shape
            left = dd.reshape(c, m, q * out).permute(1, 2, 0).to(dtype)
            right = h.permute(1, 0, 2).to(dtype)
            block = workspace.take((slot, layer), (m, q * out, h.shape[2]), left)
            torch.bmm(left, right, out=block)
            result.append(block.view(m * q, out * h.shape[2]))
        result.append(torch.cat([dd[0].reshape(-1, dd.shape[3]) for dd in self.cotangents], 1).to(dtype))
        return result

    def dense(self, dtype: torch.dtype) -> Tensor:
        """Rows as one matrix (m·q, P)."""
        return torch.cat(self.blocks(dtype, Workspace(), 0), dim=1)


class FactoredJacobian:
    """J = ∂(s r)/∂θ at one θ, for dense networks.

    Args:
        collocation: this rank's points, conditions and network.
        theta: (P,).
        scale: (#n,) row scale s.
        dtype: of the rows and of products with many columns.
        keep: "rows" stores every row block, "factors" the factors, "nothing" recomputes them in every pass.
        workspace: buffers for the rows, shared by successive Jacobians of which only the newest is in use.
    """

    def __init__(
        self,
        collocation: Collocation,
        theta: Tensor,
        scale: Tensor,
        dtype: torch.dtype | None = None,
        keep: Keep = "rows",
        workspace: Workspace | None = None,
    ) -> None:
        self.collocation, self.theta, self.scale = collocation, theta, scale
        self.dtype = theta.dtype if dtype is None else dtype
        self.keep = keep
        self._workspace = Workspace() if workspace is None else workspace
        self._tiles: list[Tile] | None = None
        self._blocks: list[list[Tensor]] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(#n, P)."""
        return self.collocation.row_count, self.theta.numel()

    @property
    def parameter_slices(self) -> list[slice]:
        """Columns of each block: the layers' weights, then all biases."""
        network = self.collocation.network
        return [*network.weight_slices, network.bias_slice]

    def _make_tile(self, batch: Batch, start: int, stop: int) -> tuple[Tile, Tensor]:
        """Factors of the rows of some points, and their unweighted residuals (m·q,)."""
        col, q = self.collocation, batch.components
        tape = col.network.record(self.theta, col.embed(batch, start, stop), batch.rules)
        z = tape.output.detach().requires_grad_()
        rows = slice(batch.rows.start + start * q, batch.rows.start + stop * q)
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
        return Tile(rows, tape.inputs, cotangents), r.detach().flatten()

    def tiles(self) -> Iterator[Tile]:
        """Factors, chunk after chunk."""
        if self._tiles is not None:
            yield from self._tiles
            return
        made = []
        for batch in self.collocation.batches:
            for start, stop in self.collocation.chunks(batch):
                tile, _ = self._make_tile(batch, start, stop)
                if self.keep != "nothing":
                    made.append(tile)
                yield tile
        if self.keep != "nothing":
            self._tiles = made

    def row_blocks(self) -> Iterator[tuple[slice, list[Tensor]]]:
        """Rows of every chunk, split by layer; unless rows are kept, valid until the next chunk."""
        if self._blocks is not None:
            yield from zip((t.rows for t in self.tiles()), self._blocks, strict=True)
            return
        made = []
        for number, tile in enumerate(self.tiles()):
            slot = number if self.keep == "rows" else 0
            blocks = tile.blocks(self.dtype, self._workspace, slot)
            if self.keep == "rows":
                made.append(blocks)
            yield tile.rows, blocks
        if self.keep == "rows":
            self._blocks = made

    def matmul(self, v: Tensor) -> Tensor:
        """J V for V (P, k), (#n, k); J v for v (P,), (#n,)."""
        if v.ndim == 1:
            return self._matvec(v)
        result = v.new_empty(self.shape[0], v.shape[1])
        for rows, blocks in self.row_blocks():
            self._times(blocks, v, result[rows])
        return result

    def rmatmul(self, w: Tensor) -> Tensor:
        """Jᵀ W for W (#n, k), (P, k): this rank's part of the sum; Jᵀ w for w (#n,), (P,)."""
        if w.ndim == 1:
            return self._rmatvec(w)
        result = w.new_zeros(self.shape[1], w.shape[1])
        for rows, blocks in self.row_blocks():
            self._transposed_times(blocks, w[rows], result)
        return result

    def normal_matmul(self, v: Tensor) -> Tensor:
        """Jᵀ J V for V (P, k), (P, k), in one pass over the rows: this rank's part of the sum."""
        result = torch.zeros_like(v)
        for rows, blocks in self.row_blocks():
            a = v.new_empty(rows.stop - rows.start, v.shape[1])
            self._times(blocks, v, a)
            self._transposed_times(blocks, a, result)
        return result

    def rows(self, index: int = 0) -> Tensor:
        """The rows of chunk `index` as one matrix (m·q, P)."""
        for number, (_, blocks) in enumerate(self.row_blocks()):
            if number == index:
                return torch.cat(blocks, dim=1)
        raise IndexError(f"chunk {index} does not exist")

    def dense(self) -> Tensor:
        """J as one matrix (#n, P); for small problems and tests."""
        rows = [torch.cat(blocks, dim=1) for _, blocks in self.row_blocks()]
        return torch.cat(rows) if rows else self.theta.new_empty(self.shape, dtype=self.dtype)

    def _times(self, blocks: list[Tensor], v: Tensor, out: Tensor) -> None:
        for number, (block, s) in enumerate(zip(blocks, self.parameter_slices, strict=True)):
            if number == 0:
                torch.mm(block, v[s], out=out)
            else:
                out.addmm_(block, v[s])

    def _transposed_times(self, blocks: list[Tensor], a: Tensor, out: Tensor) -> None:
        for block, s in zip(blocks, self.parameter_slices, strict=True):
            out[s].addmm_(block.T, a)

    def _matvec(self, v: Tensor) -> Tensor:
        weights, biases = self.collocation.network.split(v)
        result = v.new_empty(self.shape[0])
        for tile in self.tiles():
            total: Tensor | float = 0.0
            for h, dd, w, b in zip(tile.inputs, tile.cotangents, weights, biases, strict=True):
                push = h @ w.T
                push[0] += b
                total = total + (dd * push.unsqueeze(2)).sum(dim=(0, 3))
            assert isinstance(total, Tensor)
            result[tile.rows] = total.flatten()
        return result

    def _rmatvec(self, w: Tensor) -> Tensor:
        result = w.new_zeros(self.shape[1])
        for tile in self.tiles():
            self._pull(tile, w[tile.rows], result)
        return result

    def residual_and_gradient(self) -> tuple[Tensor, Tensor]:
        """Unweighted residuals (#n,) and Jᵀ(s r) (P,), this rank's part, in one pass over the points."""
        raw = self.theta.new_empty(self.shape[0])
        gradient = self.theta.new_zeros(self.shape[1])
        for batch in self.collocation.batches:
            for start, stop in self.collocation.chunks(batch):
                tile, raw[tile.rows] = self._make_tile(batch, start, stop)
                self._pull(tile, self.scale[tile.rows] * raw[tile.rows], gradient)
        return raw, gradient

    def _pull(self, tile: Tile, w: Tensor, out: Tensor) -> None:
        """Add a tile's Jᵀ w to out (P,)."""
        weights, biases = self.collocation.network.split(out)
        _, m, q, _ = tile.cotangents[0].shape
        y = w.view(1, m, q, 1)
        for h, dd, weight, bias in zip(tile.inputs, tile.cotangents, weights, biases, strict=True):
            pull = (dd * y).sum(2)
            weight.addmm_(pull.flatten(0, 1).T, h.flatten(0, 1))
            bias += pull[0].sum(0)


def kernel_block(a: Tile, b: Tile) -> Tensor:
    """J_a J_bᵀ = Σ_l Σ_{c,c'} (D_c D_c'ᵀ) ∘ (H_c H_c'ᵀ), with the biases' D_0 D_0ᵀ; no array of width P."""
    total: Tensor | None = None
    for ha, hb, da, db in zip(a.inputs, b.inputs, a.cotangents, b.cotangents, strict=True):
        qa, qb = da.shape[2], db.shape[2]
        for c in range(len(ha)):
            for e in range(len(hb)):
                dots = (ha[c] @ hb[e].T).repeat_interleave(qa, 0).repeat_interleave(qb, 1)
                if c == e == 0:
                    dots += 1.0
                part = dots.mul_(da[c].flatten(0, 1) @ db[e].flatten(0, 1).T)
                total = part if total is None else total.add_(part)
    assert total is not None
    return total
