"""Whether all ranks still hold the same parameters.

Letters
    P        parameters; R ranks
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from sngd.collectives import Ranks

__all__ = ["compare"]


def compare(ranks: Ranks, theta: Tensor, step: int) -> None:
    """Compare θ over ranks, bit for bit: one number of each rank is gathered.

    Args:
        ranks: who should hold the same.
        theta: (P,) this rank's.
        step: of the run, for the message.
    """
