"""Quantities that a solution keeps over time: what a problem declares, and evaluation checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sngd.checks import told, within

if TYPE_CHECKING:
    from sngd.points import Points

__all__ = ["Conserved"]


@dataclass(frozen=True)
class Conserved:
    """An integral I(t) = ∫ density dx over space that does not change in time.

    Conserved("mass", lambda u, p: u), Conserved("energy", lambda u, p: d(u, T) ** 2 + d(u, X) ** 2).

    Args:
        name: how reports call it.
        density: (u, p) → one number per point, written as a residual is.
        scale: a drift is relative to |I(0)|, or to this where that is smaller; ∫ |density| dx at the first
            time when absent, which does not vanish where positive and negative parts cancel.

    Raises:
        ValueError: an argument is out of range, each named with its value.
    """

    name: str
    density: Callable[[Any, Points], Any]
    scale: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"Conserved name={told(self.name)} must be a non-empty string")
        where = f"Conserved({self.name!r})"
        if not callable(self.density):
            raise ValueError(f"{where}: density={told(self.density)} must be a function (u, p) -> density")
        if self.scale is not None and not within(self.scale, 0, math.inf):
            raise ValueError(f"{where}: scale={told(self.scale)} must be finite and > 0, or None")
