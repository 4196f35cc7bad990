"""Jets that all others are made of: network outputs, coordinates, and fields that note what they are asked.

Letters
    n        points
    C        channels; m outputs
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from sngd.jet import Jet, sum_of_parts
from sngd.taylor import Channel, Laplacian

__all__ = ["coordinate", "field", "recorder"]


def field(values: Tensor, channels: tuple[Channel, ...], component: int, dim: int) -> Jet:
    """The jet of one network output.

    Args:
        values: (C, n, m) channels of all outputs.
        channels: what each of the C channels is.
        component: which of the m outputs.
        dim: number of coordinates.
    """
    index = {channel: number for number, channel in enumerate(channels)}

    def evaluate(channel: Channel) -> Tensor:
        if isinstance(channel, Laplacian) and channel not in index:  # all of its parts are channels
            return sum_of_parts(evaluate, channel)
        if channel not in index:
            raise ValueError(
                f"derivative {channel} was not asked for when the problem was built: which derivatives are "
                "asked for must not depend on values; write branches with torch.where"
            )
        return values[index[channel], :, component]

    return Jet(evaluate, dim, True)


def recorder(n: int, dim: int, log: set[Channel], dtype: torch.dtype, device: torch.device) -> Jet:
    """A jet of arbitrary values near 1 that notes in `log` which derivatives are asked of it.

    The values depend on channel and point alone: fewer points show the first ones of more.
    """
    points = torch.arange(n, dtype=dtype, device=device)

    def note(channel: Channel) -> Tensor:
        log.add(channel)
        return 1 + 0.5 * torch.sin(points * (1 + len(str(channel))) + zlib.crc32(str(channel).encode()))

    return Jet(note, dim, True)


def coordinate(values: Tensor, axis: int, dim: int) -> Jet:
    """The coordinate x_axis as a field: value (n,), first derivative 1 along its axis, else 0."""
    column = values[:, axis]

    def evaluate(alpha: Channel) -> Tensor:
        if not alpha:
            return column
        return torch.ones_like(column) if alpha == (axis,) else torch.zeros_like(column)

    return Jet(evaluate, dim, True)
