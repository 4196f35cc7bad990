"""A curriculum: a known coefficient of the equation goes from an easy value to the problem's own.

Source: the curriculum regularization of Krishnapriyan, Gholami, Zhe, Kirby, Mahoney, NeurIPS 2021 (arXiv
2109.01050), there for the speed of transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sngd.checks import finite, one_of, require, whole
from sngd.objective import Objective
from sngd.problem import Problem

__all__ = ["Curriculum", "KnownCoefficient"]


@dataclass(frozen=True)
class Curriculum:
    """Values of one known coefficient, one after another; in the end that of the problem.

    Errors are not taken before the last value is reached: the known solution is that of the problem.

    Args:
        coefficient: its name in Problem(coefficients={"nu": 0.01}), read by residuals as p["nu"].
        values: before the problem's own.
        steps: how many each value is good for, or a tuple with one number for each.
        interpolation: "step" keeps a value for its steps; "linear" and "log" change it before every step, so
            that after its steps the next value is reached ("log": by the same factor each time).

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    coefficient: str
    values: tuple[float, ...]
    steps: int | tuple[int, ...] = 100
    interpolation: Literal["step", "linear", "log"] = "step"

    def __post_init__(self) -> None:
        numbers = isinstance(self.values, tuple) and all(finite(v) for v in self.values)
        several = isinstance(self.steps, tuple)
        steps = (
            all(whole(n, 1) for n in self.steps) and (not numbers or len(self.steps) == len(self.values))
            if isinstance(self.steps, tuple)
            else whole(self.steps, 1)
        )
        wanted = "whole numbers ≥ 1, one for each value" if several else "a whole number ≥ 1"
        checks = [
            ("coefficient", isinstance(self.coefficient, str), "the name of a coefficient"),
            ("values", numbers and bool(self.values), "a tuple of finite numbers, one or more"),
            ("steps", steps, wanted),
            (
                "interpolation",
                one_of(self.interpolation, ("step", "linear", "log")),
                '"step", "linear" or "log"',
            ),
        ]
        require(self, checks, "curriculum.")

    def check(self, problem: Problem) -> None:
        """Refuse a problem that has no such known coefficient.

        Raises:
            ValueError: it has none, it is unknown, or "log" cannot lead to its value.
        """
        found = problem.known.get(self.coefficient)
        if found is None:
            raise ValueError(
                f"curriculum.coefficient={self.coefficient!r} must be a known coefficient of problem "
                f"{problem.name!r}, which has {', '.join(problem.known) or 'none'}: give Problem(..., "
                f"coefficients={{{self.coefficient!r}: number}})"
            )
        path = (*self.values, found)
        if self.interpolation == "log" and not (min(path) > 0 or max(path) < 0):
            raise ValueError(
                f'curriculum.values={self.values!r} must, for "log", all have the sign of '
                f"{self.coefficient}={found}, and none be 0"
            )

    def _stages(self, final: float) -> list[tuple[float, float, int]]:
        """(value, next value, steps) up to the first step from which on the value is final."""
        given = self.steps if isinstance(self.steps, tuple) else (self.steps,) * len(self.values)
        stages = list(zip(self.values, (*self.values[1:], final), given, strict=True))
        while stages and stages[-1][0] == final:
            stages.pop()
        return stages

    def length(self, final: float) -> int:
        """Steps that are taken with other values than the final one."""
        return sum(steps for *_, steps in self._stages(final))

    def at(self, number: int, final: float) -> float:
        """The value in step `number` ≥ 1, exactly the final one after the last stage."""
        begun = 1
        for value, following, steps in self._stages(final):
            share = (number - begun) / steps
            if share < 1:
                if self.interpolation == "linear":
                    return value + share * (following - value)
                if self.interpolation == "log":
                    return value * (following / value) ** share
                return value
            begun += steps
        return final


class KnownCoefficient:
    """The coefficient of a run that changes.

    Args:
        config: how.
        objective: whose residuals read it.
    """

    def __init__(self, config: Curriculum, objective: Objective) -> None:
        self.config, self.objective = config, objective
        self.final = objective.collocation.problem.known[config.coefficient]

    def settled(self, number: int) -> bool:
        """Whether step `number` has the final value."""
        return number > self.config.length(self.final)

    def before(self, number: int) -> bool:
        """Take the value of step `number`; whether it is another one."""
        value, name = self.config.at(number, self.final), self.config.coefficient
        if self.objective.collocation.known.get(name) == value:
            return False
        self.objective.know({name: value})
        return True

    def record(self) -> dict[str, Any]:
        """What the history says of it."""
        return {"known": dict(self.objective.collocation.known)}
