"""Whether a training loss can be believed: the residual on fresh points, and whether the loss still falls.

Letters
    K        conditions; #n residual rows of this rank; P parameters
    T        training loss of the conditions that have fresh points; H their loss on hold-out points
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from sngd.allocation import OutOfMemoryError
from sngd.causal import TimeWeights
from sngd.config import RunConfig
from sngd.domain import unit_points
from sngd.findings import Findings
from sngd.holdout import HoldOut
from sngd.objective import Objective, State
from sngd.optimizers import SNGD, Report
from sngd.progress import FALL, HALVED, Generalization, Stagnation

__all__ = ["Watch"]

# Names the direction in which θ is rounded.
_KEY = 0x0FF
# Weights in time that change by this part are progress, whatever the loss.
_CHANGED = 0.05
# Points that move overfit between two moves; no more than so many moves on.
_MOVES = 5
# A loss below so many times the square of its residual's change by a unit of rounding is rounding.
_AT_ROUNDING = 100.0


@dataclass(frozen=True)
class Look:
    """What a look has seen.

    Args:
        losses: (K,) H of every condition; 0 where there are no fresh points.
        training: (K,) T of the same.
    """

    losses: list[float]
    training: list[float]

    @property
    def loss(self) -> float:
        """H."""
        return math.fsum(self.losses)

    @property
    def ratio(self) -> float | None:
        """H/T; None where T is 0."""
        below = math.fsum(self.training)
        return self.loss / below if below > 0 else None


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
        self.run, self.objective, self.device, self.findings = run, objective, device, findings
        self.hold_out = HoldOut(objective, run.seed, run.holdout_points)
        self.generalization, self.stagnation = Generalization(), Stagnation()
        self.open: dict[str, float] = {}  # findings that are not over, by kind; H when one was told
        self.last: Look | None = None
        self._looked = False  # in the step that is recorded
        self._emphasis = math.nan  # mean weight in time when the loss was last remembered

    # -----------------------------------------------------------------------------------------
    # Looks
    # -----------------------------------------------------------------------------------------

    def after(self, number: int, step: int, state: State, report: Report, settled: bool, last: bool) -> None:
        """Look at the state after a step.

        Args:
            number: of the step in this stage.
            step: of the run.
            state: after it.
            report: of the optimizer.
            settled: the step was one of the problem itself, not of an easier one on the way to it.
            last: the stage ends with it.
        """
        self._looked = False
        every = self.run.holdout_every
        if settled and every and self.hold_out.numbers and (number == 1 or number % every == 0 or last):
            self._look(step, state)
        self._progress(step, state, report, settled)

    def _look(self, step: int, state: State) -> None:
        losses, failure = self.hold_out.losses(state.theta)
        if failure:
            self.last = None
            self._tell("non_finite", step, failure)
            return
        self.open.pop("non_finite", None)
        training = [t if c in self.hold_out.numbers else 0.0 for c, t in enumerate(state.losses.tolist())]
        self.last, self._looked = Look(losses, training), True
        self._generalize(step, state, self.last)

    # -----------------------------------------------------------------------------------------
    # Findings
    # -----------------------------------------------------------------------------------------

    def _tell(self, kind: str, step: int, text: str, level: float = 0.0) -> None:
        """Report what is found, unless it has been and is not over yet."""
        if kind not in self.open:
            self.open[kind] = level
            self.findings.add(kind, step, text)

    def _generalize(self, step: int, state: State, look: Look) -> None:
        """Overfitting, and whether it is over: the hold-out loss has halved since it was told."""
        above = self.generalization.look(step, look.loss, math.fsum(look.training))
        if look.loss < self.open.get("overfitting", 0.0) / HALVED:
            del self.open["overfitting"]
        moving = self.run.adaptive_points
        every = self.run.resample_every if moving is None else moving.every
        # points anew before every step are fresh themselves; others that move are to have moved some times
        if above is None or "overfitting" in self.open or self.run.resample_every == 1:
            return
        if step - above[0] < _MOVES * every or look.loss <= _AT_ROUNDING * self._rounding(state, step):
            return
        since, hold_out, training = above
        excess = [h - t for h, t in zip(look.losses, look.training, strict=True)]
        worst = self.run.problem.conditions[excess.index(max(excess))].name
        here = math.fsum(look.training)
        ratio = "" if look.ratio is None else f", {look.ratio:.0e} times as much"
        often = " more often" if self.run.resample_every else ""
        moved = "" if moving else ", or move them (adaptive_points=RAD())"
        text = (
            f"overfitting: since step {since} the training loss has fallen from {training:.1e} to "
            f"{here:.1e}, and the loss on fresh points gone from {hold_out:.1e} to {look.loss:.1e}{ratio}, "
            f"most of it in condition {worst!r}: give it more points, draw them anew{often} "
            f"(resample_every){moved}"
        )
        self._tell("overfitting", step, text, look.loss)

    def _progress(self, step: int, state: State, report: Report, settled: bool) -> None:
        """Stagnation, and whether it is over."""
        if not settled:
            self.stagnation = Stagnation()
            return
        emphasis, rule = self.objective.collocation.emphasis, self.stagnation
        if isinstance(emphasis, TimeWeights):
            mean = float(emphasis.weights.mean())
            if not abs(mean - self._emphasis) < _CHANGED * mean:
                self._emphasis = mean
                rule.forget()
        if not rule.after(state.loss, report.accepted):
            for kind in ("stagnation", "rounding"):
                self.open.pop(kind, None)
        elif not {"stagnation", "rounding"} & self.open.keys():
            since = step - (rule.steps - rule.since)
            if state.loss <= _AT_ROUNDING * self._rounding(state, step):
                self._tell("rounding", step, self._at_rounding(state, since))
            else:
                self._tell("stagnation", step, self._stagnant(state, report, since))

    def _rounding(self, state: State, step: int) -> float:
        """‖s (r(θ′) − r(θ))‖² where θ′ is θ with every number rounded up or down; one number is summed."""
        theta, collocation = state.theta, self.objective.collocation
        lots = unit_points(0, len(theta), 1, (_KEY, step), "uniform", self.device).flatten()
        other = theta * (1 + torch.finfo(theta.dtype).eps * torch.where(lots < 0.5, -1.0, 1.0).to(theta))
        try:
            change = self.objective.scale * (collocation.residual(other) - state.raw)
            square = change.double().square().sum()
        except OutOfMemoryError:
            raise
        except ValueError:
            square = torch.tensor(math.nan, dtype=torch.float64, device=self.device)
        return float(self.objective.ranks.sum(square, "holdout"))

    def _at_rounding(self, state: State, since: int) -> str:
        further = '; precision="mixed" or "float64" goes further' if self.run.precision == "float32" else ""
        name = str(self.run.dtype).removeprefix("torch.")
        return (
            f"the loss of {state.loss:.1e} is rounding of {name} since step {since}, it falls no "
            f"further{further}"
        )

    def _stagnant(self, state: State, report: Report, since: int) -> str:
        """What is known of why the loss stagnates, and what may help."""
        rule, optimizer = self.stagnation, self.run.optimizer
        parameters, plan = len(state.theta), self.objective.plan
        bound = min(parameters, self.run.problem.rows)
        why, remedy = "", "try a larger network, other weights (balance=True) or other points"
        if 2 * rule.refused > rule.steps - rule.since:
            why = f", {rule.refused} of {rule.steps - rule.since} steps were refused"
        elif report.rank is None:
            remedy = "try another rate, or a second-order optimizer, e.g. SNGD()"
        elif isinstance(optimizer, SNGD):
            most = plan.largest_rank(min(optimizer.max_rank or bound, bound), optimizer.placement)
            if report.rank < bound and (report.rank >= most or not optimizer.adaptive_rank):
                why = f", with the rank at {report.rank} of {bound} and no way up"
                remedy = "raise optimizer.max_rank or memory_gb"
        return (
            f"stagnation: the loss has not fallen by more than {FALL:.0%} since step {since}, it is "
            f"{state.loss:.1e}{why}: {remedy}"
        )

    # -----------------------------------------------------------------------------------------
    # Records
    # -----------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """What the history says of it."""
        return {"holdout": self.last.loss if self.last is not None and self._looked else None}

    def result(self) -> dict[str, Any]:
        """What result.json says of it, from the look at the last step."""
        if self.last is None:
            return {"holdout_loss": None, "generalization_ratio": None}
        return {"holdout_loss": self.last.loss, "generalization_ratio": self.last.ratio}

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps, whatever the number of ranks."""
        return {
            "lows": [list(low) for low in self.generalization.lows],
            "stagnation": vars(self.stagnation).copy(),
            "open": dict(self.open),
            "emphasis": self._emphasis,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.generalization = Generalization([(step, h, t) for step, h, t in saved["lows"]])
        self.stagnation = Stagnation(**saved["stagnation"])
        self.open, self._emphasis = dict(saved["open"]), saved["emphasis"]
