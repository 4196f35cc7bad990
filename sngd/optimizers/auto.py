"""The form that costs least, chosen anew in every step: sketched, exact or kernel.

All forms solve the same damped problem, and under one trust region they take the same number of steps
(benchmarks/NOTES.md), so the cheapest step wins. The sketch grows as the damping falls; where its step would
cost more than one with the Gramian or the kernel, that serves, until rounding spoils it.

Letters
    P        parameters; N rows over all ranks; k sketch rank
    λ        damping; σ_1² the largest eigenvalue of the Gramian
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sngd.checks import require, whole, within
from sngd.costs import Size, exact_work, kernel_work, predict_seconds, sketched_work
from sngd.objective import Objective, State
from sngd.optimizers.engd import ExactForm, fits
from sngd.optimizers.gauss_newton import GaussNewton, LinearModel, TrustRegion
from sngd.optimizers.kernel import KernelForm
from sngd.optimizers.sngd import SNGD, SketchedForm
from sngd.trust import Outcome

__all__ = ["Auto"]

# A Gram matrix serves while λ is this many times above its rounding; closer, its steps begin to fail.
_SAFETY = 10.0
# Another form must save this share of a step before the present one is left.
_GAIN = 0.15
# The first rank is the largest of these that costs at most so many times the least.
_FIRST_RANKS = (16, 32, 64, 128, 256)
_FIRST_COST = 1.5


@dataclass(frozen=True)
class Auto:
    """Sketched, exact or kernel form, whichever costs least, under the trust region.

    Args:
        rank: sketch rank to start with; chosen from the sizes when absent.
        max_rank: greatest rank; P, N and memory bound it in any case.
        corrections: most chord corrections per candidate.
        acceptance: least ratio of actual to predicted reduction.
        damping: first λ in units of σ_1².

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    rank: int | None = None
    max_rank: int | None = None
    corrections: int = 8
    acceptance: float = 0.075
    damping: float = 1e-3

    def __post_init__(self) -> None:
        least = self.rank if self.rank is not None and whole(self.rank, 1) else 1
        checks = [
            ("rank", self.rank is None or whole(self.rank, 1), "a whole number ≥ 1"),
            (
                "max_rank",
                self.max_rank is None or whole(self.max_rank, least),
                "a whole number, at least rank",
            ),
            ("corrections", whole(self.corrections, 0), "a whole number ≥ 0"),
            ("acceptance", within(self.acceptance, 0, 1), "between 0 and 1"),
            ("damping", within(self.damping, 0, math.inf), "finite and > 0"),
        ]
        require(self, checks, "optimizer.")

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> GaussNewton[LinearModel]:
        """A stepper at a state; what it chooses depends on sizes and damping alone, never on clocks."""
        ranks, plan = objective.ranks, objective.plan
        size = Size.of(objective.collocation, rows, ranks.size)
        device, parameters = state.theta.device, size.parameters
        largest = min(self.max_rank or parameters, parameters, rows)
        largest = plan.largest_rank(largest)
        first = min(self.rank or first_rank(size, device), largest)
        config = SNGD(rank=first, max_rank=largest)
        rule = TrustRegion(self.damping, self.corrections, self.acceptance)
        form = CheapestForm(SketchedForm(config, objective, seed, rows), size, rule, state.theta)
        form.allowed = [
            name
            for name, order in (("exact", parameters), ("kernel", rows))
            if fits(order, state.theta, objective)
        ]
        return GaussNewton(form, rule, state)


def first_rank(size: Size, device: torch.device) -> int:
    """The largest rank whose sketch costs little more than the smallest: what is cheap is taken."""
    seconds = [predict_seconds(sketched_work(size, rank), device) for rank in _FIRST_RANKS]
    return max(rank for rank, s in zip(_FIRST_RANKS, seconds, strict=True) if s <= _FIRST_COST * seconds[0])


class CheapestForm:
    """A form that hands each step to the one with the least predicted cost.

    Args:
        sketched: the sketched form, which keeps the rank.
        size: what costs depend on.
        rule: knows the damping.
        theta: its device's speeds count, and its dtype's rounding.
    """

    def __init__(self, sketched: SketchedForm, size: Size, rule: TrustRegion, theta: Tensor) -> None:
        self.sketched, self.size, self.rule, self.device = sketched, size, rule, theta.device
        self.eps = torch.finfo(theta.dtype).eps
        self.forms: dict[str, Any] = {"sketched": sketched, "exact": ExactForm(), "kernel": KernelForm()}
        self.allowed: list[str] = []
        self.chosen, self.note = "", ""
        self._trace: float | None = None
        self._seen: tuple[int, float] | None = None  # rank that was wanted and log10 (10 σ_1²/λ) then
        self._scale = 0.0  # σ_1²

    def linearize(self, objective: Objective, state: State, number: int) -> LinearModel:
        """The linear model of the form that is chosen for this step."""
        if self.chosen != "sketched":
            self.sketched.rank = self._wanted_rank()
        costs = self.predict()
        best = min(costs, key=lambda name: costs[name])
        keep = self.chosen in costs and costs[best] > (1 - _GAIN) * costs[self.chosen]
        now, self.note = self.chosen if keep else best, ""
        if now != self.chosen:
            self.chosen, self.note = now, self._explain(now, costs)
        model: LinearModel = self.forms[now].linearize(objective, state, number)
        return model

    def predict(self) -> dict[str, float]:
        """Seconds of a step by each form that can serve now."""
        works = {"sketched": sketched_work(self.size, self.sketched.rank)}
        if self._gram_serves():
            both = {"exact": exact_work(self.size), "kernel": kernel_work(self.size)}
            works |= {name: both[name] for name in self.allowed}
        return {name: predict_seconds(work, self.device) for name, work in works.items()}

    def _gram_serves(self) -> bool:
        """Whether λ is well above the rounding of a Gram matrix."""
        damping = self.rule.damping
        return self._trace is None or damping is None or damping > _SAFETY * self.eps * self._trace

    def _wanted_rank(self) -> int:
        """The rank for the present λ while no sketch sees the spectrum, whose decay is taken as geometric."""
        if self._seen is None:
            return self.sketched.rank
        rank, decades = self._seen
        grown = rank * max(1.0, self._decades() / decades)
        return max(1, min(int(grown), self.sketched.largest))

    def _decades(self) -> float:
        """log₁₀ (10 σ_1²/λ): how far down the spectrum counts."""
        damping = self.rule.damping
        return 1.0 if not damping or self._scale <= 0 else max(1.0, math.log10(10 * self._scale / damping))

    def _explain(self, name: str, costs: dict[str, float]) -> str:
        size = self.size
        what = {
            "sketched": f"sketched form, rank {self.sketched.rank}",
            "exact": "exact form",
            "kernel": "kernel form",
        }
        others = ", ".join(f"{what[n]} {s:.3g} s" for n, s in sorted(costs.items()) if n != name)
        missing = [n for n in ("exact", "kernel") if n not in costs]
        why = "does not fit or λ is near rounding"
        return (
            f"{what[name]} for N={size.rows:,}, P={size.parameters:,}: predicted {costs[name]:.3g} s a step"
            + (f"; {others}" if others else "")
            + (f" ({', '.join(missing)}: {why})" if missing else "")
        )

    def learn(self, model: LinearModel, outcome: Outcome[State]) -> None:
        """Note the spectrum's scale and, of a sketch, how many directions count."""
        self._scale = model.largest if self._scale == 0.0 or model.core is not None else self._scale
        form = self.forms[self.chosen]
        form.learn(model, outcome)
        self.note = "; ".join(text for text in (self.note, form.note) if text)
        if model.core is not None:
            self._trace = float(model.core.sigma.square().sum())
            self._seen = (self.sketched.rank, self._decades())
        else:
            self._trace = model.least_damping / self.eps  # as the matrix has it

    def save(self) -> dict[str, Any]:
        """The form of the last step, what it saw of the spectrum, and what the sketch keeps."""
        seen = {"trace": self._trace, "seen": self._seen, "scale": self._scale}
        return {"form": self.chosen, **seen, **self.sketched.save()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take them."""
        self.chosen, self._scale = saved["form"], saved["scale"]
        self._trace, self._seen = saved["trace"], saved["seen"]
        self.sketched.load(saved)
