"""What every optimizer offers to the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from sngd.objective import Objective, State

__all__ = ["Optimizer", "Report", "Stepper"]


@dataclass(frozen=True)
class Report:
    """What one step did; fields that an optimizer does not have stay None.

    Args:
        accepted: whether θ moved.
        damping: λ.
        rank: sketch rank k.
        reduction_ratio: ρ, actual over predicted reduction.
        corrections: chord corrections in the accepted step.
        evaluations: residual evaluations.
        sigma: (k,) singular values of the sketched Jacobian.
        effective_dimension: Σ σ²/(σ²+λ).
        note: what a reader of the log must know of this step; empty for most.
    """

    accepted: bool
    damping: float | None = None
    rank: int | None = None
    reduction_ratio: float | None = None
    corrections: int = 0
    evaluations: int = 0
    sigma: Tensor | None = None
    effective_dimension: float | None = None
    note: str = ""


class Stepper(Protocol):
    """A running optimizer: it holds a state and moves it."""

    state: State

    def step(self, objective: Objective, number: int) -> Report:
        """Take step `number` (from 1) and leave the result in `state`."""
        ...

    def save(self) -> dict[str, Any]:
        """What `load` needs to go on, as numbers and tensors."""
        ...

    def load(self, saved: dict[str, Any]) -> None:
        """Go on like the stepper that saved this, from `state`, the one that it stood at."""
        ...


class Optimizer(Protocol):
    """Settings of an optimizer: a frozen dataclass whose fields the command line can replace."""

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> Stepper:
        """A stepper at a state.

        Args:
            objective: what is minimised.
            state: where to start.
            seed: of whatever is random.
            rows: N, residual rows over all ranks.
        """
        ...
