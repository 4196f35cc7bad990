"""Which step to take: damping search, chord corrections, rank adaptation, and the paper's line search.

Pure functions: what they need of the network comes in as `evaluate` (a trial step's true residual and loss),
what they need of the linear algebra as a `Model`, be its form sketched, kernel or exact.

Letters
    #n       residual rows on this rank; k sketch rank
    δ        (P,) step; z its coordinates in the form at hand: (k,) in a sketched subspace, else δ itself
    r, r⁺    (#n,) weighted residual at θ and at θ + δ
    q        (#n,) = r⁺ − r − J δ, what the linear model missed
    λ        damping
    ρ        actual over predicted reduction of the loss
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

__all__ = ["Model", "Outcome", "Trial", "correct", "line_search", "next_rank", "search_damping"]


class Trial(Protocol):
    """What an evaluation of the true residual gives."""

    @property
    def residual(self) -> Tensor:
        """Weighted residual (#n,)."""
        ...

    @property
    def loss(self) -> float:
        """Its squared norm over all ranks; inf when it is not finite."""
        ...


T = TypeVar("T", bound=Trial)


class Model(Protocol):
    """The linear model of one step, ‖J δ + r‖², in coordinates z that its form chooses."""

    @property
    def loss(self) -> float:
        """‖r‖² over all ranks."""
        ...

    @property
    def largest(self) -> float:
        """σ_1², the largest eigenvalue of the Gramian as far as the form sees it: the scale of dampings."""
        ...

    @property
    def least_damping(self) -> float:
        """λ below which rounding decides the solution; 0 where the condition number is not squared."""
        ...

    def solve(self, damping: float) -> Tensor:
        """The z that minimises ‖J δ + r‖² + λ‖δ‖²."""
        ...

    def correct(self, damping: float, z: Tensor, residual: Tensor) -> Tensor:
        """The z⁺ that minimises ‖J δ⁺ + r + q‖² + λ‖δ⁺‖² with q = r⁺ − r − J δ.

        Args:
            damping: λ.
            z: coordinates of δ.
            residual: r⁺ (#n,), the true residual at θ + δ.
        """
        ...

    def predicted_reduction(self, damping: float) -> float:
        """p(λ) = ‖r‖² − ‖J δ(λ) + r‖²."""
        ...


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a search found.

    Args:
        trial: the accepted trial, None when every candidate was rejected.
        damping: λ to remember for the next step.
        ratio: ρ of the accepted trial, or of the last rejected one.
        corrections: chord corrections inside the accepted trial.
        evaluations: residual evaluations spent.
    """

    trial: T | None
    damping: float
    ratio: float
    corrections: int
    evaluations: int


# Dampings are tried at two per decade; a rejected search raises λ by three decades at the most.
_LADDER = math.sqrt(10.0)
_CEILING = 1e3
# A correction that does not shrink the update by this factor will not converge: stop before paying for it.
_CONTRACTION = 0.9
# A corrected trial whose loss exceeds the best by this factor is on its way out.
_DIVERGENCE = 2.0


def correct(
    model: Model, damping: float, evaluate: Callable[[Tensor], T], corrections: int
) -> tuple[T, int, int]:
    """Solve the damped problem at one λ and correct it for what the linear model missed.

        z₀ = z(λ),   z_{j+1} = argmin ‖J δ + r + q_j‖² + λ‖δ‖²,   q_j = r(θ + δ_j) − r − J δ_j

    The factorisation is reused: a correction costs one residual evaluation and, in the sketched form, k
    numbers of communication. This is the chord (Shamanskii) form of Levenberg–Marquardt inside the sketched
    subspace; one correction alone is the geodesic acceleration of Transtrum and Sethna 2012.

    Args:
        model: the linear model.
        damping: λ.
        evaluate: z → trial.
        corrections: most corrections.

    Returns:
        The trial with the lowest loss, how many corrections it holds, evaluations spent.
    """
    z = model.solve(damping)
    trial = best = evaluate(z)
    used, spent, previous = 0, 1, math.inf
    for number in range(1, corrections + 1):
        if not math.isfinite(trial.loss):
            break
        corrected = model.correct(damping, z, trial.residual)
        update = float(torch.linalg.vector_norm(corrected - z))
        if not update < _CONTRACTION * previous:
            break
        z, previous = corrected, update
        trial, spent = evaluate(z), spent + 1
        if trial.loss < best.loss:
            best, used = trial, number
        elif not trial.loss < _DIVERGENCE * best.loss:
            break
    return best, used, spent


def search_damping(
    model: Model,
    damping: float,
    evaluate: Callable[[Tensor], T],
    *,
    corrections: int,
    acceptance: float,
) -> Outcome[T]:
    """Half a decade below the last λ, then upwards until the corrected step keeps its promise.

    A candidate is judged after its chord corrections: ρ(λ) = (L − L⁺)/p(λ) ≥ acceptance, with p the
    reduction that the linear model predicts. Judged before them, damping stalls many decades too high
    (benchmarks/NOTES.md has the figures).

    Args:
        model: the linear model.
        damping: last λ > 0.
        evaluate: z → trial, z with one number for each unknown of the model.
        corrections: most corrections per candidate.
        acceptance: least ρ.

    Returns:
        The outcome; with no trial accepted, damping is the last λ times 1000.
    """
    spent, ratio = 0, -math.inf
    damping = max(damping, model.least_damping)
    candidate = max(damping / _LADDER, model.least_damping)
    while candidate < damping * _CEILING:
        trial, used, cost = correct(model, candidate, evaluate, corrections)
        spent += cost
        predicted = model.predicted_reduction(candidate)
        ratio = (model.loss - trial.loss) / predicted if predicted > 0 else -math.inf
        if ratio >= acceptance:
            return Outcome(trial, candidate, ratio, used, spent)
        candidate *= _LADDER
    return Outcome(None, damping * _CEILING, ratio, 0, spent)


def line_search(
    model: Model, direction: Tensor, evaluate: Callable[[Tensor], T], *, damping: float, halvings: int
) -> Outcome[T]:
    """The published step rule: the best of the step lengths 2^{-j} along a direction.

    Args:
        model: the linear model.
        direction: full step z, one number for each unknown of the model.
        evaluate: z → trial.
        damping: λ that the direction was solved with.
        halvings: j = 0 … halvings.

    Returns:
        The trial of the lowest loss if that is below the present one.
    """
    trials = [evaluate(direction * 0.5**j) for j in range(halvings + 1)]
    best = min(trials, key=lambda trial: trial.loss)
    predicted = model.predicted_reduction(damping)
    ratio = (model.loss - best.loss) / predicted if predicted > 0 else -math.inf
    return Outcome(best if best.loss < model.loss else None, damping, ratio, 0, len(trials))


# A direction is worth its place in the sketch while σ² exceeds λ over this …
_SIGNIFICANCE = 10.0
# … the sketch holds this many times the significant directions, and a few more …
_OVERSAMPLING = 1.1
_EXTRA = 8
# … and changes by at most these factors a step.
_GROWTH = 1.5
_SHRINKAGE = 0.9


def next_rank(sigma: Tensor, damping: float, smallest: int, largest: int) -> int:
    """Sketch rank for the next step, from the spectrum that this one saw.

    When every direction of the sketch has σ² > λ/10, the sketch limits the step, not the damping: the rank
    grows by half. Otherwise it moves to a tenth more than the directions that matter, falling by at most a
    tenth a step.

    Args:
        sigma: (k,) singular values of A.
        damping: accepted λ.
        smallest: least rank.
        largest: greatest rank (P, N or memory).
    """
    rank = len(sigma)
    significant = int((sigma.square() > damping / _SIGNIFICANCE).sum())
    if significant == rank:
        wanted = int(_GROWTH * rank)
    else:
        wanted = max(int(_OVERSAMPLING * significant) + _EXTRA, int(_SHRINKAGE * rank))
    return max(min(wanted, largest), min(smallest, largest))
