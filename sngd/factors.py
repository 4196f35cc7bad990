"""Factors of the rows of the Jacobian, and rows formed from them a tile at a time.

Row (i, j) of layer l's block of J is Σ_c D_l[c,i,j] ⊗ H_l[c,i]: C·n·Σ(q·out + in) numbers stand for n·q·P. A
tile of rows, some points × a panel of columns, is formed where it is multiplied and never leaves the
processor's cache: forming it anew in every pass costs less than reading it back from memory.

Letters
    P        parameters; n points, q residual components per point; C Taylor channels
    H_l      (C, n, in_l) channels that enter layer l
    D_l      (C, n, q, out_l) ∂(residual component)/∂Z_l, row scale included
    m        points of a tile
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sngd.networks import AnyNetwork

__all__ = ["Factors", "Panel", "kernel_block", "kernel_points", "make_panels", "tile_numbers"]

# Bytes of a tile: half of a core's second-level cache; on a GPU enough to outlast the launch of a kernel.
_TILE_BYTES, _TILE_BYTES_ON_GPU = 1 << 20, 1 << 28
# That is for so many columns of a product. With more of them it is the result, panel × columns, that leaves
# the cache: tiles of more points touch it less often, up to so many times as many.
_COLUMNS, _MOST_GROWTH = 64, 8
# Products of a tile run at full speed from so many points on, and forming it from so many outputs on.
_POINTS, _OUTPUTS = 48, 3
# Points of a block of J Jᵀ: its temporaries stay in the cache of a processor, or keep a GPU busy.
_BLOCK, _BLOCK_ON_GPU = 256, 4096
# Share of a tile's room, one part in so many, that each of three arrays of a Khatri–Rao product takes.
_KHATRI_RAO_SHARE = 4


@dataclass(frozen=True)
class Panel:
    """Neighbouring columns of J whose rows are formed together.

    Args:
        columns: parameters.
        layer: whose parameters they are.
        outputs: of the layer: all weights into these, or their biases.
        bias: which of the two.
    """

    columns: slice
    layer: int
    outputs: slice
    bias: bool = False

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.columns.stop - self.columns.start


def tile_numbers(dtype: torch.dtype, device: torch.device, columns: int = _COLUMNS) -> int:
    """Entries of a tile.

    Args:
        dtype: of the rows.
        device: whose caches or launches they suit.
        columns: k of the products.
    """
    size = torch.finfo(dtype).bits // 8
    if device.type == "cuda":
        return _TILE_BYTES_ON_GPU // size
    return int(_TILE_BYTES * _growth(columns)) * torch.get_num_threads() // size


def _growth(columns: int) -> float:
    return min(max(1.0, columns / _COLUMNS), _MOST_GROWTH)


def kernel_points(device: torch.device) -> int:
    """Points of a block of J Jᵀ."""
    return _BLOCK_ON_GPU if device.type == "cuda" else _BLOCK


def make_panels(network: AnyNetwork, numbers: int, columns: int = _COLUMNS) -> list[Panel]:
    """All columns of J in order, as panels of layers.

    Args:
        network: its layers.
        numbers: entries of a tile.
        columns: k of the products.
    """
    panels, height = [], int(_POINTS * _growth(columns))
    for layer, (out, width) in enumerate(network.shapes):
        where = network.weight_slices[layer].start
        most = max(_OUTPUTS, numbers // (height * width)) if width else 1
        for outputs in _pieces(out, most) if width else ():
            part = slice(where + outputs.start * width, where + outputs.stop * width)
            panels.append(Panel(part, layer, outputs))
        where = network.bias_slices[layer].start
        for outputs in _pieces(out, max(1, numbers // height)):
            part = slice(where + outputs.start, where + outputs.stop)
            panels.append(Panel(part, layer, outputs, bias=True))
    return sorted(panels, key=lambda panel: panel.columns.start)


def _pieces(count: int, most: int) -> list[slice]:
    """0 … count − 1 in pieces of about equal length, at most so long."""
    pieces = math.ceil(count / most)
    return [slice(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]


@dataclass
class Factors:
    """Factors of the rows of one chunk of points.

    Args:
        rows: which rows of the rank's Jacobian.
        inputs: per layer H_l (C, n, in).
        cotangents: per layer D_l (C, n, q, out), row scale included.
    """

    rows: slice
    inputs: list[Tensor]
    cotangents: list[Tensor]

    def to(self, dtype: torch.dtype) -> Factors:
        """The factors in another precision."""
        return Factors(
            self.rows, [h.to(dtype) for h in self.inputs], [dd.to(dtype) for dd in self.cotangents]
        )

    @property
    def components(self) -> int:
        """Q."""
        return self.cotangents[0].shape[2]

    def split(self, points: int) -> list[Factors]:
        """Pieces of at most so many points, views."""
        q, count = self.components, self.cotangents[0].shape[1]
        pieces = []
        for first in range(0, count, points):
            where, last = slice(first, first + points), min(first + points, count)
            pieces.append(
                Factors(
                    slice(self.rows.start + first * q, self.rows.start + last * q),
                    [h[:, where] for h in self.inputs],
                    [dd[:, where] for dd in self.cotangents],
                )
            )
        return pieces

    def spans(self, panel: Panel, numbers: int) -> Iterator[tuple[slice, slice]]:
        """Points of each tile of a panel, and their rows counted from the chunk's first."""
        q, points = self.components, self.cotangents[0].shape[1]
        most = points if panel.bias else max(1, numbers // (q * panel.width))
        pieces = math.ceil(points / max(most, 1)) if points else 0
        for piece in range(pieces):  # of equal length: a short last one would run slowly
            first, last = points * piece // pieces, points * (piece + 1) // pieces
            yield slice(first, last), slice(first * q, last * q)

    def tile(self, panel: Panel, points: slice, buffer: Tensor) -> Tensor:
        """Rows of some points in a panel's columns, (m·q, width), valid until the buffer's next use."""
        dd = self.cotangents[panel.layer][:, points]
        if panel.bias:
            return dd[0][..., panel.outputs].flatten(0, 1)
        h = self.inputs[panel.layer][:, points]
        c, m, q, width = *dd.shape[:3], h.shape[2]
        left = dd[..., panel.outputs].permute(1, 2, 3, 0).reshape(m, -1, c)
        rows = buffer[: m * q * panel.width].view(m, -1, width)
        torch.bmm(left, h.permute(1, 0, 2), out=rows)
        return rows.view(m * q, panel.width)

    def khatri_rao_product(
        self, outer: list[Tensor], inner: list[Tensor], bias: Tensor, numbers: int
    ) -> Tensor:
        """Rows times a matrix whose column j has layer blocks a_j ⊗ b_j and biases β_j a_j, (n·q, k).

            Σ_l Σ_c (D_c a_j) (H_c b_j + [c=0] β_j)

        It costs 2 C n k Σ(q·out + in) operations in place of 2 n q k P.

        Args:
            outer: per layer a (out, k).
            inner: per layer b (in, k).
            bias: β (layers, k).
            numbers: entries of a tile; points are taken in pieces, whose products stay in the cache.
        """
        points, q, k = *self.cotangents[0].shape[1:3], bias.shape[1]
        total = bias.new_zeros(points, q, k)
        most = max(1, numbers // (_KHATRI_RAO_SHARE * q * k))
        for first in range(0, points, most):
            where = slice(first, first + most)
            for h, dd, a, b, beta in zip(self.inputs, self.cotangents, outer, inner, bias, strict=True):
                for channel in range(len(h)):
                    push = h[channel, where] @ b
                    if channel == 0:
                        push += beta
                    total[where].addcmul_(dd[channel, where] @ a, push.unsqueeze(1))
        return total.flatten(0, 1)

    def dense(self, network: AnyNetwork) -> Tensor:
        """All columns, (n·q, P).

        Args:
            network: whose parameters they belong to.
        """
        like = self.cotangents[0]
        rows = like.new_empty(*like.shape[1:3], network.parameters)
        for layer, (h, dd) in enumerate(zip(self.inputs, self.cotangents, strict=True)):
            rows[..., network.weight_slices[layer]] = torch.einsum("cmqo,cmi->mqoi", dd, h).flatten(2)
            rows[..., network.bias_slices[layer]] = dd[0]
        return rows.flatten(0, 1)


def kernel_block(a: Factors, b: Factors) -> Tensor:
    """J_a J_bᵀ = Σ_l Σ_{c,c'} (D_c D_c'ᵀ) ∘ (H_c H_c'ᵀ), with the biases' D_0 D_0ᵀ; no array of width P.

    Args:
        a: of some points, whose rows are #a.
        b: of others.

    Returns:
        (#a, #b).
    """
    (ma, qa), (mb, qb) = a.cotangents[0].shape[1:3], b.cotangents[0].shape[1:3]
    channels = max(len(h) for h in b.inputs)
    total = a.inputs[0].new_zeros(ma, qa, channels * mb, qb)
    for ha, hb, da, db in zip(a.inputs, b.inputs, a.cotangents, b.cotangents, strict=True):
        right, right_cotangents = hb.flatten(0, 1).T, db.flatten(0, 2).T  # all c' at once
        part = total[:, :, : right.shape[1]]  # a layer without inputs has one channel
        for c in range(len(ha)):
            dots = ha[c] @ right
            if c == 0:
                dots[:, :mb] += 1.0
            part.addcmul_(
                (da[c].flatten(0, 1) @ right_cotangents).view_as(part), dots.view(ma, 1, right.shape[1], 1)
            )
    return total.view(ma * qa, channels, mb * qb).sum(1)
