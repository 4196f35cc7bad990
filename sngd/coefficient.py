"""Unknown coefficients of an equation, which are trained along with the network.

A coefficient c with bounds is a function of a parameter ρ that has none:

    no bounds          c = ρ
    lower a            c = a + softplus(ρ)
    upper b            c = b − softplus(ρ)
    both               c = a + (b − a) / (1 + e^{−ρ})
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sngd.checks import finite, require

__all__ = ["Coefficient"]

# Below it softplus is computed, above it is ρ to rounding.
_THRESHOLD = 40.0


@dataclass(frozen=True)
class Coefficient:
    """A scalar of the equation that is not known.

    Args:
        initial: where training starts, strictly between the bounds.
        lower: it stays above.
        upper: it stays below.
        exact: its true value where that is known, to report errors against.

    Raises:
        ValueError: a bound or the initial value is out of range, named with its value.
    """

    initial: float
    lower: float | None = None
    upper: float | None = None
    exact: float | None = None

    def __post_init__(self) -> None:
        optional = {n: getattr(self, n) for n in ("lower", "upper", "exact")}
        checks = [
            ("initial", finite(self.initial), "a finite number"),
            *((n, value is None or finite(value), "finite or None") for n, value in optional.items()),
        ]
        require(self, checks, "Coefficient.")
        low = -math.inf if self.lower is None else self.lower
        high = math.inf if self.upper is None else self.upper
        if not low < self.initial < high:
            raise ValueError(f"Coefficient.initial={self.initial} must lie strictly between {low} and {high}")
        if not math.isfinite(self.start):
            raise ValueError(
                f"Coefficient.initial={self.initial} is too close to {low} or {high}, or these are too far "
                "apart, for float64 to tell them apart"
            )

    @property
    def start(self) -> float:
        """The parameter ρ that the initial value belongs to; infinite at a bound, to rounding."""
        if self.lower is not None and self.upper is not None:
            share = (self.initial - self.lower) / (self.upper - self.lower)
            return math.log(share) - math.log1p(-share) if 0 < share < 1 else math.inf
        if self.lower is not None:
            return _inverse_softplus(self.initial - self.lower)
        if self.upper is not None:
            return _inverse_softplus(self.upper - self.initial)
        return self.initial

    def value(self, rho: Tensor) -> Tensor:
        """The coefficient c(ρ), of ρ's shape."""
        if self.lower is not None and self.upper is not None:
            return self.lower + (self.upper - self.lower) * torch.sigmoid(rho)
        if self.lower is not None:
            return self.lower + functional.softplus(rho, threshold=_THRESHOLD)
        if self.upper is not None:
            return self.upper - functional.softplus(rho, threshold=_THRESHOLD)
        return rho


def _inverse_softplus(y: float) -> float:
    """ρ with log(1 + e^ρ) = y."""
    return y + math.log(-math.expm1(-y))
