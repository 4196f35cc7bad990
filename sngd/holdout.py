"""The loss on fresh points: those of every condition's region that no step trains on.

Letters
    K        conditions; M_c hold-out points of condition c over all ranks, #m on this one; q components
    H        (K,) hold-out losses, Σ_c H_c comparable with the training loss of the same conditions
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sngd.allocation import OutOfMemoryError
from sngd.domain import share
from sngd.objective import Objective
from sngd.residual import Collocation

__all__ = ["HoldOut"]

# Names the points; apart from the keys (seed, epoch, condition) of training points and that of evaluation.
_KEY = (0x5EED, 0x401D)
# No condition has more hold-out points than points it trains on, but for so many: a look is to stay cheap.
_FEWEST = 100
# At least so many points go through the network at once, however few a rank trains on.
_LEAST_CHUNK = 256


class HoldOut:
    """Hold-out points of a run, the same at every look and on any number of ranks.

    Conditions on given points (`Data`, point clouds) have no others and are left out.

    Args:
        objective: whose conditions; its weights, emphasis and known coefficients of the moment count.
        seed: of the run.
        points: M_c at most.
    """

    def __init__(self, objective: Objective, seed: int, points: int) -> None:
        self.objective, self.seed = objective, seed
        self.problem = objective.collocation.problem
        self.counts = [min(points, max(one.points, _FEWEST)) for one in self.problem.conditions]
        self.numbers = [c for c, one in enumerate(self.problem.conditions) if one.region.count is None]
        self._collocation: Collocation | None = None

    def losses(self, theta: Tensor) -> tuple[list[float], str]:
        """H at θ, from one forward pass; K numbers are summed over ranks.

        Args:
            theta: (P,).

        Returns:
            H, 0 for conditions that are left out; and where it is not finite, why.

        Raises:
            OutOfMemoryError: one point does not fit.
        """
        raw, fresh = None, self._now()
        try:
            raw = fresh.residual(theta)
        except OutOfMemoryError:
            raise
        except ValueError:
            pass  # told below, by all ranks
        losses = self.objective.ranks.sum(self._own(fresh, raw), "holdout").tolist()
        return losses, "" if math.isfinite(math.fsum(losses)) else self._why(fresh, raw)

    def _now(self) -> Collocation:
        """This rank's points with weights, coefficients and chunk of the moment."""
        now, ranks = self.objective.collocation, self.objective.ranks
        if self._collocation is None:
            points = [x[:0] for x in now.points]
            for c in self.numbers:
                condition, key = self.problem.conditions[c], (self.seed, *_KEY, c)
                start, stop = share(self.counts[c], ranks.rank, ranks.size)
                region, device = condition.region, points[c].device
                drawn = region.sample(start, stop, key, condition.sampling, device, total=self.counts[c])
                points[c] = drawn.to(points[c])
            most = max(_LEAST_CHUNK, *(len(x) for x in now.points))
            self._collocation = replace(now, points=points, chunk=most)
        fresh = self._collocation
        if now.chunk is not None and fresh.chunk is not None:
            fresh.chunk = min(fresh.chunk, now.chunk)
        fresh.weights, fresh.emphasis, fresh.known = now.weights, now.emphasis, now.known
        return fresh

    def _own(self, fresh: Collocation, raw: Tensor | None) -> Tensor:
        """This rank's part of H, (K,) float64; nan where there is no residual."""
        losses = fresh.weights.new_zeros(len(fresh.points), dtype=torch.float64)
        if raw is None:
            return losses.fill_(math.nan)
        for c in self.numbers:
            squares = self._by_point(fresh, raw, c).double().square().sum(1)
            factors = fresh.emphasis and fresh.emphasis(c, fresh.points[c])
            total = squares.sum() if factors is None else squares @ factors.double()
            losses[c] = fresh.weights[c].double() * total / self.counts[c]
        return losses

    def _by_point(self, fresh: Collocation, raw: Tensor, c: int) -> Tensor:
        """Residual of a condition (#m, q)."""
        return raw[fresh.condition_rows[c]].view(-1, self.problem.signatures[c].components)

    def _why(self, fresh: Collocation, raw: Tensor | None) -> str:
        """The first condition and point that are not finite; 2 + d numbers of each rank are gathered."""
        conditions, names = self.problem.conditions, self.problem.domain.names
        mine = fresh.weights.new_full((2 + len(names),), math.inf, dtype=torch.float64)
        if raw is None:
            mine[0] = len(conditions)
        else:
            residuals = ((c, self._by_point(fresh, raw, c)) for c in self.numbers)
            found = ((c, r, torch.nonzero(~torch.isfinite(r))) for c, r in residuals)
            for c, r, bad in found:
                if len(bad):
                    point, component = bad[0].tolist()
                    mine[0], mine[1], mine[2:] = c, r[point, component], fresh.points[c][point, : len(names)]
                    break
        first, value, *x = min(self.objective.ranks.gather(mine, "holdout").tolist(), key=lambda row: row[0])
        if first == math.inf:
            return "the loss on fresh points overflows, and not on those that are trained on"
        if first == len(conditions):
            return "a residual raises an error on fresh points, and none on those that are trained on"
        at = ", ".join(f"{n}={v:.6g}" for n, v in zip(names, x, strict=True))
        return (
            f"condition {conditions[int(first)].name!r} has residual {value} at the fresh point {at}, and is "
            "finite on those that are trained on: see to it that it is defined there"
        )
