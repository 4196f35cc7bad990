"""Adam's moments where they are spread over ranks: what a checkpoint keeps of them, on any number of ranks.

Letters
    P        parameters; R ranks
    m, v     means of the gradient and of its square, (P,) each in θ's order
    s        numbers of a vector of length n that one rank holds, R·s ≥ n: the vector is padded to R·s
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sngd.checkpoint import Share

__all__ = ["Held", "own_part", "restore_moments", "save_moments"]

_NAMES = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Held:
    """A tensor that Adam steps on: parts of some vectors, one after another.

    Args:
        tensor: Adam's parameter on this rank.
        parts: (s, n) of each vector, in θ's order over all tensors.
        split: this rank holds a part of them; otherwise the whole, s = n.
    """

    tensor: Tensor
    parts: list[tuple[int, int]]
    split: bool


def own_part(x: Tensor, s: int, rank: int) -> Tensor:
    """Numbers rank·s … (rank + 1)·s − 1 of x (n,), which is followed by zeros."""
    part = x[rank * s : (rank + 1) * s]
    return torch.nn.functional.pad(part, (0, s - len(part)))


def save_moments(
    adam: torch.optim.Optimizer, held: list[Held], rank: int, ranks: int
) -> dict[str, Any] | None:
    """Moments as vectors, each rank's share of them where they are split; None before the first update.

    Args:
        adam: holds them.
        held: what it steps on.
        rank: this one.
        ranks: R.
    """
    if any(one.tensor not in adam.state for one in held):
        return None
    saved: dict[str, Any] = {"lengths": [n for one in held for _, n in one.parts]}
    for name in _NAMES:
        saved[name] = []
        for one in held:
            flat = adam.state[one.tensor][name].flatten()
            for part in flat.split([s for s, _ in one.parts]):
                saved[name].append(Share(part, rank, ranks) if one.split and ranks > 1 else part)
    return {**saved, "step": float(adam.state[held[0].tensor]["step"])}


def restore_moments(adam: torch.optim.Optimizer, held: list[Held], saved: dict[str, Any], rank: int) -> None:
    """Take moments that any number of ranks has saved, however they were split.

    Args:
        adam: is to hold them.
        held: what it steps on.
        saved: whole vectors.
        rank: this one.
    """
    for name in _NAMES:
        whole = torch.cat([x[:n] for x, n in zip(saved[name], saved["lengths"], strict=True)])
        vectors = iter(whole.split([n for one in held for _, n in one.parts]))
        for one in held:
            parts = [own_part(next(vectors), s, rank if one.split else 0) for s, _ in one.parts]
            entry = adam.state.setdefault(one.tensor, {"step": torch.tensor(saved["step"])})
            entry[name] = torch.cat(parts).to(one.tensor).view_as(one.tensor)
