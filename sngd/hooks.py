"""What the training loop tells others of, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from sngd.networks import AnyNetwork

__all__ = ["Hook", "Trained"]


class Hook(Protocol):
    """Who wants to follow a run; called on rank 0."""

    def start(self, info: dict[str, Any]) -> None:
        """Before the first step."""

    def step(self, record: dict[str, Any]) -> None:
        """After every step, with the line of history.jsonl and some of its singular values."""

    def saved(self, path: Path, step: int) -> None:
        """After a checkpoint."""

    def end(self, result: dict[str, Any]) -> None:
        """After the last step, with the content of result.json."""


@dataclass
class Trained:
    """What a run leaves behind.

    Args:
        result: content of result.json on rank 0; elsewhere its stop_reason alone.
        theta: (P,) final parameters.
        network: what they are parameters of.
        spectra: (step, σ (k,)) at steps 1, 2, 4, 8, … and the last.
    """

    result: dict[str, Any]
    theta: Tensor
    network: AnyNetwork
    spectra: list[tuple[int, Tensor]] = field(default_factory=list)
