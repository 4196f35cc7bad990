"""Whether what a run changes on its way fits its problem, its steps and each other."""

from __future__ import annotations

from sngd.adaptive import R3, RAD, chosen_conditions, movable
from sngd.causal import Causal, time_of
from sngd.curriculum import Curriculum
from sngd.marching import Marching
from sngd.problem import Problem

__all__ = ["check_changes"]


def check_changes(
    problem: Problem,
    max_steps: int,
    warmup_steps: int,
    resample_every: int,
    adaptive_points: RAD | R3 | None,
    causal: Causal | None,
    curriculum: Curriculum | None,
    marching: Marching | None,
) -> None:
    """Refuse what does not fit; the arguments are fields of a run.

    Raises:
        ValueError: naming the field.
    """
    if adaptive_points is not None:
        movable(adaptive_points, problem)
        if resample_every:
            raise ValueError(
                f"resample_every={resample_every} and adaptive_points exclude each other: both choose points"
            )
    if causal is not None:
        time_of(causal.axis, problem, "causal")
        chosen_conditions(causal.conditions, problem, "causal")
    if curriculum is not None:
        curriculum.check(problem)
        length = curriculum.length(problem.known[curriculum.coefficient])
        if length >= max_steps:
            raise ValueError(
                f"curriculum takes {length} steps, which must be below max_steps={max_steps}: the last ones "
                "have the problem's own value"
            )
    if marching is not None:
        marching.check(problem)
        share = max_steps // marching.count
        if share <= warmup_steps:
            raise ValueError(
                f"max_steps={max_steps} gives each of the {marching.count} slabs of marching {share} steps, "
                f"which must be more than warmup_steps={warmup_steps}"
            )
        if curriculum is not None:
            raise ValueError("marching and curriculum exclude each other: each slab would begin anew")
