"""L-BFGS: torch's, with a strong Wolfe line search, one iteration per step.

Losses and gradients are equal on all ranks bit for bit, and so are the steps.

Letters
    P        parameters, one flat vector θ
    s, y     (P,) differences of θ and of the gradient over one step
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sngd.checks import require, whole
from sngd.objective import Objective, State
from sngd.optimizers.base import Report

__all__ = ["LBFGS"]

# torch.optim.LBFGS forgets a pair (s, y) unless y·s > 1e-10, whatever the size of the loss. The loss it is
# shown is larger by this factor, a power of two, so that the threshold lies below rounding: nothing else in
# the method depends on the loss's scale.
_SCALE = 2.0**80
# Most gradients of one line search, as torch has it.
_LINE_SEARCH = 25
# What stands for a loss that is not finite, in units of the loss at the start of the line search.
_WALL = 1e3


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS with a strong Wolfe line search: torch.optim.LBFGS, one iteration per step.

    Source: Liu and Nocedal, Mathematical Programming 45 (1989); Nocedal and Wright, Numerical Optimization,
    algorithms 7.5 and 3.5.

    Args:
        history: pairs (s, y) that are kept; 2 · history · P numbers in float64.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    history: int = 100

    def __post_init__(self) -> None:
        require(self, [("history", whole(self.history, 1), "a whole number ≥ 1")], "optimizer.")

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> LBFGSStepper:
        """A stepper at a state; seed and rows play no part."""
        return LBFGSStepper(self, state)


class LBFGSStepper:
    """L-BFGS on the way, in float64 whatever the dtype of θ.

    Args:
        config: its settings.
        state: where it stands.
    """

    def __init__(self, config: LBFGS, state: State) -> None:
        self.config, self.state = config, state
        self._theta = state.theta.double().clone()
        self._gradient: Tensor | None = None
        self._known: State | None = None  # the state that _gradient belongs to
        self.optimizer = self._build()

    def _build(self) -> torch.optim.LBFGS:
        # tolerances are for a loop of many iterations; here every call is one, and the run says when to stop
        return torch.optim.LBFGS(
            [self._theta],
            max_iter=1,
            max_eval=1 + _LINE_SEARCH,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=self.config.history,
            line_search_fn="strong_wolfe",
        )

    def step(self, objective: Objective, number: int) -> Report:
        """One iteration: direction and line search; the history is dropped where no lower loss is found."""
        evaluations = 0
        if self._known is not self.state:
            self._renew(*objective.gradient(self.state.theta))
            evaluations = 1
        assert self._gradient is not None
        start, trials = self.state, [(self.state, self._gradient)]

        def closure() -> float:
            state, gradient = self._at(objective, trials)
            if math.isfinite(state.loss) and bool(torch.isfinite(gradient).all()):
                self._theta.grad = gradient * _SCALE
                return state.loss * _SCALE
            self._theta.grad = torch.zeros_like(gradient)  # a flat wall: torch makes NaN of inf
            return _WALL * start.loss * _SCALE

        self.optimizer.step(closure)
        state, gradient = self._at(objective, trials)
        evaluations += len(trials) - 1
        if not state.loss < start.loss:
            self._theta.copy_(start.theta)
            self.optimizer = self._build()
            return Report(accepted=False, evaluations=evaluations, note="no lower loss: history dropped")
        self.state, self._gradient, self._known = state, gradient, state
        return Report(accepted=True, evaluations=evaluations)

    def _at(self, objective: Objective, trials: list[tuple[State, Tensor]]) -> tuple[State, Tensor]:
        """State and gradient at the optimizer's θ, looked up among those of this step first."""
        theta = self._theta.to(self.state.theta.dtype, copy=True)
        for state, gradient in reversed(trials):
            if torch.equal(state.theta, theta):
                return state, gradient
        state, gradient = objective.gradient(theta)
        trials.append((state, gradient.double()))
        return trials[-1]

    def _renew(self, state: State, gradient: Tensor) -> None:
        """Go on from a state whose points or weights have changed, or from another θ.

        torch forms y as the new gradient less the one it remembers. The remembered one is shifted by what the
        change alone does to the gradient, so that y stays a difference of gradients of one and the same loss.
        """
        gradient = gradient.double()
        entry = self.optimizer.state[self._theta]
        if self._gradient is not None and "prev_flat_grad" in entry:
            entry["prev_flat_grad"] += (gradient - self._gradient) * _SCALE
        if not torch.equal(self._theta.to(state.theta.dtype), state.theta):
            self._theta.copy_(state.theta)
            self.optimizer = self._build()
        self.state, self._gradient, self._known = state, gradient, state

    def save(self) -> dict[str, Any]:
        """θ in float64, its gradient, and the torch optimizer's own state: history and last direction."""
        return {
            "theta": self._theta,
            "gradient": self._gradient,
            "known": self._known is self.state,
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take them."""
        self._theta.copy_(saved["theta"])
        if not torch.equal(self._theta.to(self.state.theta.dtype), self.state.theta):  # kept in float32
            self._theta.copy_(self.state.theta)
        self._gradient = None if saved["gradient"] is None else saved["gradient"].to(self._theta)
        self._known = self.state if saved["known"] else None
        self.optimizer.load_state_dict(saved["optimizer"])
