"""Whether a training loss can be believed: the residual on fresh points, and whether the loss still falls.

Letters
    K        conditions; #n residual rows of this rank
"""

from __future__ import annotations

from typing import Any

import torch

from sngd.config import RunConfig
from sngd.findings import Findings
from sngd.objective import Objective, State

__all__ = ["Watch"]


class Watch:
    """Follows the loss of one stage of a run; all ranks make the same calls.

    Args:
        run: says how often to look, and at how many points.
        objective: what is minimised.
        device: of the points.
        findings: told what is found.
    """

    def __init__(
        self, run: RunConfig, objective: Objective, device: torch.device, findings: Findings
    ) -> None:
        self.run, self.objective, self.findings = run, objective, findings

    def after(self, number: int, step: int, state: State, settled: bool) -> None:
        """Look at the state after a step.

        Args:
            number: of the step in this stage.
            step: of the run.
            state: after it.
            settled: the step was one of the problem itself, not of an easier one on the way to it.
        """

    def record(self) -> dict[str, Any]:
        """What the history says of it."""
        return {"holdout": None}

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps, whatever the number of ranks."""
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
