"""What ranks agree on at the end of a step: whether to stop and why, whether to keep a checkpoint.

Clocks, errors and the run folder are rank 0's; a signal may reach any rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["REASONS", "agree"]

# Why a run stops; where several hold, the first.
REASONS = (
    "superseded",
    "target_error",
    "tolerance",
    "stalled",
    "max_steps",
    "max_seconds",
    "interrupted",
    "terminated",
    "time_limit",
)
_HEARD_ANYWHERE = ("interrupted", "terminated")


def agree(ranks: Ranks, device: torch.device, reason: str, keep: bool) -> tuple[str, bool]:
    """The reason to stop and whether a checkpoint is due, the same on every rank: 10 numbers are summed.

    Args:
        ranks: who agrees. Rank 0 decides, but a signal to any rank counts.
        device: of the numbers.
        reason: this rank's, empty for none.
        keep: a checkpoint is due on this rank's clock.
    """
    votes = torch.zeros(len(REASONS) + 1, device=device)
    if reason and (ranks.rank == 0 or reason in _HEARD_ANYWHERE):
        votes[REASONS.index(reason)] = 1
    if keep and ranks.rank == 0:
        votes[-1] = 1
    *reasons, kept = ranks.sum(votes, "control").tolist()
    return next((name for name, count in zip(REASONS, reasons, strict=True) if count), ""), bool(kept)
