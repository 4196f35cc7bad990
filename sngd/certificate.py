"""What a run can say of its own answer without knowing the solution.

Letters
    P        parameters
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sngd.networks import AnyNetwork
from sngd.problem import Problem

__all__ = ["certify"]


def certify(problem: Problem, network: AnyNetwork, theta: Tensor, points: int = 10_000) -> dict[str, Any]:
    """Residuals on points that no run trains on, and an estimate of the error where one is known.

    Args:
        problem: its conditions.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        points: of every condition.
    """
    return {}
