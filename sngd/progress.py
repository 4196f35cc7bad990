"""Rules that read a run's losses: does training still get anywhere, and does the hold-out loss follow?

Pure functions of numbers, so every rank comes to the same end.

Letters
    T        training loss; H loss on hold-out points of the same conditions, with the same weights
    g        H/T, the generalisation ratio
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Generalization", "Stagnation"]

# Thresholds; benchmarks/NOTES.md, "Warnings", has the runs that they were chosen by.
# g must be above this, and ...
RATIO = 100.0
# ... have grown so many times since ...
GROWTH = 30.0
# ... H was last above so many times its present value: in the meantime it has not even halved.
HALVED = 2.0
# A low of H is remembered once it is so much below the one before.
_FINER = 0.9

# Losses are smoothed over so many steps (a mean of their logarithms), ...
_SMOOTHED_OVER = 10
# ... must fall by this part ...
FALL = 0.05
# ... within so many steps, ...
WINDOW = 100
# ... or this share of all that were taken before, if that is more.
SHARE = 0.5
# In place of a loss of 0, which has no logarithm.
_TINY = 1e-300


@dataclass
class Generalization:
    """Overfitting: T falls and H does not.

    Found at a look where g > 100 and g has grown thirtyfold since H first was below twice its present value.
    That covers a hold-out loss that rises, and one that creeps down while T falls by decades. Weights that
    change, of conditions or in time, are in T and H alike and cancel in g.

    Source: early stopping by validation compares H with its lowest value so far, GL(t) = H(t)/min H − 1,
    alone or over the progress of T (Prechelt 1998, Neural Networks 11:761). For PDEs, residuals that vanish
    at the collocation points and nowhere else are what Andersen and Matsubara 2026 (arXiv 2605.30910) find
    behind the failures of Krishnapriyan et al. 2021 (arXiv 2109.01050).

    Args:
        lows: (step, H, T) whenever H was lower than ever.
    """

    lows: list[tuple[int, float, float]] = field(default_factory=list)

    def look(self, step: int, hold_out: float, training: float) -> tuple[int, float, float] | None:
        """The look since which T has fallen alone, (step, H, T); None where all is well.

        Args:
            step: of the run.
            hold_out: H, finite.
            training: T.
        """
        if not self.lows or hold_out < _FINER * self.lows[-1][1]:
            self.lows.append((step, hold_out, training))
        since = next(low for low in self.lows if low[1] <= HALVED * hold_out or low is self.lows[-1])
        # a product: T may be 0
        grown = hold_out * since[2] > GROWTH * training * since[1]
        return since if grown and hold_out > RATIO * training else None


@dataclass
class Stagnation:
    """The loss does not fall any more.

    The smoothed loss is remembered whenever it is 5 % below what was remembered last. Found once that is 100
    steps ago, or half of the steps before it if that is more: a slow optimizer has the more time the longer
    it has been at work. That is the rule of torch.optim.lr_scheduler.ReduceLROnPlateau and of DeepXDE's
    EarlyStopping (a least change, a patience) with a patience that grows.

    Args:
        smoothed: logarithm of the loss, averaged over the last ten steps or so.
        lowest: what is remembered of it.
        since: steps taken when it was.
        refused: steps since then that were refused.
        steps: taken.
    """

    smoothed: float = 0.0
    lowest: float = 0.0
    since: int = 0
    refused: int = 0
    steps: int = 0

    def after(self, loss: float, accepted: bool) -> bool:
        """Whether the loss stagnates after one more step.

        Args:
            loss: T ≥ 0.
            accepted: the step was taken.
        """
        self.steps += 1
        self.refused += not accepted
        now = math.log(max(loss, _TINY))
        self.smoothed += (now - self.smoothed) / min(self.steps, _SMOOTHED_OVER)
        # the first steps are too few for a mean of noise
        if self.steps <= _SMOOTHED_OVER or self.smoothed < self.lowest + math.log1p(-FALL):
            self.forget()
        return self.steps - self.since >= max(WINDOW, SHARE * self.since)

    def forget(self) -> None:
        """Begin anew from here: the loss has fallen, or is another one from now on."""
        self.lowest = self.smoothed
        self.since, self.refused = self.steps, 0
