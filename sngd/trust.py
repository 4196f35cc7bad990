"""Which step to take: damping search, chord corrections, rank adaptation, and the paper's line search.

Pure functions of small arrays. What they need of the network comes in as `evaluate` (a trial step's true
residual and loss), `predict` (A z on this rank) and `project` (Uᵀq over ranks).

Letters
    #n       residual rows on this rank; k sketch rank
    r, r⁺    (#n,) weighted residual at θ and at θ + Q z
    q        (#n,) = r⁺ − r − A z, what the linear model missed
    z        (k,) step in the sketched subspace
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

from sngd.core import Core

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


@dataclass(frozen=True)
class Model:
    """The linear model of one step.

    Args:
        core: factorisation of A.
        residual: r (#n,).
        loss: ‖r‖² over all ranks.
        predict: z (k,) → A z (#n,).
        project: q (#n,) → Uᵀq (k,).
    """

    core: Core
    residual: Tensor
    loss: float
    predict: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor]


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

        z₀ = z(λ),   z_{j+1} = −V σ/(σ²+λ) (c + Uᵀ q_j),   q_j = r(θ + Q z_j) − r − A z_j

    The factorisation is reused: a correction costs one residual evaluation and k numbers of
    communication. This is the chord (Shamanskii) form of Levenberg–Marquardt inside the sketched
    subspace; one correction alone is the geodesic acceleration of Transtrum and Sethna 2012.

    Args:
        model: the linear model.
        damping: λ.
        evaluate: z → trial.
        corrections: most corrections.

    Returns:
        The trial with the lowest loss, how many corrections it holds, evaluations spent.
    """
    z = model.core.solve(damping)
    trial = best = evaluate(z)
    used, spent, previous = 0, 1, math.inf
    for number in range(1, corrections + 1):
        if not math.isfinite(trial.loss):
            break
        q = trial.residual - model.residual - model.predict(z)
        corrected = model.core.solve(damping, model.core.c + model.project(q))
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
        evaluate: z → trial.
        corrections: most corrections per candidate.
        acceptance: least ρ.

    Returns:
        The outcome; with no trial accepted, damping is the last λ times 1000.
    """
    spent, ratio = 0, -math.inf
    candidate = damping / _LADDER
    while candidate < damping * _CEILING:
        trial, used, cost = correct(model, candidate, evaluate, corrections)
        spent += cost
        predicted = model.core.predicted_reduction(candidate)
        ratio = (model.loss - trial.loss) / predicted if predicted > 0 else -math.inf
        if ratio >= acceptance:
            return Outcome(trial, candidate, ratio, used, spent)
        candidate *= _LADDER
    return Outcome(None, damping * _CEILING, ratio, 0, spent)


def line_search(model: Model, evaluate: Callable[[Tensor], T], *, cutoff: float, halvings: int) -> Outcome[T]:
    """The published algorithm: pseudo-inverse step, then the best of the step lengths 2^{-j}.

    Args:
        model: the linear model.
        evaluate: z → trial.
        cutoff: singular values below cutoff · σ_1 are dropped.
        halvings: j = 0 … halvings.

    Returns:
        The trial of the lowest loss if that is below the present one; damping is 0.
    """
    direction = model.core.pseudo_solve(cutoff)
    trials = [evaluate(direction * 0.5**j) for j in range(halvings + 1)]
    best = min(trials, key=lambda trial: trial.loss)
    predicted = model.core.predicted_reduction(0.0)
    ratio = (model.loss - best.loss) / predicted if predicted > 0 else -math.inf
    return Outcome(best if best.loss < model.loss else None, 0.0, ratio, 0, len(trials))


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
