"""The loss over all ranks, and what it costs in memory to differentiate it.

Letters
    P        parameters; #n residual rows on this rank; K conditions
    L        = ‖s r‖² = Σ_c w_c mean(r_c²)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sngd.jacobian import FactoredJacobian
from sngd.memory import Plan
from sngd.residual import Collocation, Emphasis, NonFiniteResidualError, ResidualError

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["Objective", "State"]

# Of a message that is told to all ranks; longer ones are cut.
_TEXT_BYTES = 512
# Balancing: w_c ← w_c (L̄/(L_c + floor))^power once a step. Without the floor the weights run away once
# the loss is tiny.
_BALANCE_POWER = 0.05
_BALANCE_FLOOR = 1e-8


@dataclass(frozen=True)
class State:
    """One point in parameter space with its residual.

    Args:
        theta: (P,), the same on every rank.
        raw: (#n,) unweighted residual.
        residual: (#n,) weighted residual s r.
        losses: (K,) float64, weighted loss of each condition over all ranks.
        loss: their sum; inf when it is not finite.
    """

    theta: Tensor
    raw: Tensor
    residual: Tensor
    losses: Tensor
    loss: float


class Objective:
    """Residuals, losses and Jacobians of one problem on one rank's points.

    Args:
        collocation: points, conditions and network.
        ranks: sums the losses.
        plan: how much of the Jacobian to keep.
        sketch_dtype: of factors and sketch to begin with; that of θ when absent.

    Attributes:
        fallbacks: how often decompositions of the linear algebra failed, by what served in their place.
        lost: the last state that was evaluated if its loss or gradient was not finite.
    """

    def __init__(
        self, collocation: Collocation, ranks: Ranks, plan: Plan, sketch_dtype: torch.dtype | None = None
    ) -> None:
        self.collocation, self.ranks = collocation, ranks
        self.sketch_dtype = sketch_dtype
        self.fallbacks = Counter[str]()
        self.lost: State | None = None
        collocation.owner = f"rank {ranks.rank}"
        self.follow(plan)
        self._scale = collocation.scale

    def follow(self, plan: Plan) -> None:
        """Go on by another memory plan, the same on every rank."""
        self.plan, self.collocation.chunk = plan, plan.chunk

    @property
    def scale(self) -> Tensor:
        """Row scale s (#n,)."""
        return self._scale

    def evaluate(self, theta: Tensor) -> State:
        """Residual and loss at θ: K numbers are summed over ranks."""
        return self.state(theta, self.collocation.residual(theta))

    def evaluate_new_points(self, theta: Tensor) -> State:
        """As `evaluate`, on points that no residual has seen yet: one more number is gathered.

        Raises:
            NonFiniteResidualError: the loss is not finite; the message names condition and point.
            ResidualError: the residual raises an error on some rank's points; every rank stops, and the first
                of them that it happened to says why.
        """
        state = self.state(theta, self._first_residual(self.collocation, theta))
        if not math.isfinite(state.loss):
            raise NonFiniteResidualError(self.diagnose(state))
        return state

    def scores(self, theta: Tensor, points: list[Tensor]) -> list[Tensor]:
        """|r| at other points than those of the loss, (m_c,) of every condition: what adaptive points go by.

        They go through the network in pieces no larger than this rank's own share of a condition's points.

        Args:
            theta: (P,).
            points: (m_c, d + a) of this rank of every condition, any number of them.

        Raises:
            NonFiniteResidualError: a residual is not finite at one of them, on some rank.
            ResidualError: a residual raises an error, on some rank.
        """
        old = self.collocation
        longest = max(1, *(len(x) for x in old.points))
        other = replace(old, points=points, chunk=min(old.chunk or longest, longest))
        raw = self._first_residual(other, theta)
        found = other.locate(raw)
        if holders := self._holders(found is not None, theta):
            raise NonFiniteResidualError(found or "" if holders[0] == self.ranks.rank else "")
        pairs = zip(other.condition_rows, self.collocation.problem.signatures, strict=True)
        return [raw[rows].view(-1, signature.components).norm(dim=1) for rows, signature in pairs]

    def _first_residual(self, collocation: Collocation, theta: Tensor) -> Tensor:
        """Unweighted residual (#n,) where none has been evaluated before; one number is gathered.

        Raises:
            ResidualError: it raises an error on some rank's points.
        """
        raw, failure = None, None
        try:
            raw = collocation.residual(theta)
        except ValueError as error:
            failure = error
        holders = self._holders(failure is not None, theta)
        if holders:
            raise ResidualError(str(failure) if holders[0] == self.ranks.rank else "") from failure
        assert raw is not None
        return raw

    def _holders(self, mine: bool, like: Tensor) -> list[int]:
        """Ranks for which something holds, in order."""
        flag = like.new_tensor(float(mine), dtype=torch.float64)
        return torch.nonzero(self.ranks.gather(flag, "control")).flatten().tolist()

    def state(self, theta: Tensor, raw: Tensor) -> State:
        """State of θ (P,) and its unweighted residual (#n,): K numbers are summed over ranks.

        Its loss is inf where residuals are not finite, and where θ is not, whatever the residuals.
        """
        residual = self._scale * raw
        losses = self.collocation.condition_losses(residual.double().square())
        self.ranks.sum(losses, "losses")
        loss, finite = torch.stack([losses.sum(), torch.isfinite(theta).all().to(losses)]).tolist()
        state = State(theta, raw, residual, losses, loss if finite and math.isfinite(loss) else math.inf)
        self.lost = None if math.isfinite(state.loss) else state
        return state

    def jacobian(
        self, theta: Tensor, dtype: torch.dtype | None = None, columns: int = 64
    ) -> FactoredJacobian:
        """J of the weighted residual at θ.

        Args:
            theta: (P,).
            dtype: of factors and products, θ's when absent.
            columns: k of most products.
        """
        return FactoredJacobian(self.collocation, theta, self._scale, dtype, self.plan.keep, columns)

    def gradient(self, theta: Tensor) -> tuple[State, Tensor]:
        """State at θ and ∇L = 2 Jᵀ s r (P,), from one forward and one reverse pass.

        K and P numbers are summed over ranks; the gradient is the same on every rank, bit for bit.
        """
        jacobian = FactoredJacobian(self.collocation, theta, self._scale, keep="nothing")
        raw, gradient = jacobian.residual_and_gradient()
        state = self.state(theta, raw)
        self.ranks.sum(gradient.mul_(2.0), "gradient")
        if self.lost is None and not bool(torch.isfinite(gradient).all()):
            self.lost = state
        return state, gradient

    def replace_points(self, points: list[Tensor]) -> None:
        """Go on with other collocation points of the same numbers."""
        old = self.collocation
        self.collocation = replace(old, points=points)
        self._scale = self.collocation.scale

    def reweigh(self, weights: Tensor) -> None:
        """Go on with other weights (K,) of the conditions."""
        self.collocation.weights = weights
        self._scale = self.collocation.scale

    def emphasize(self, emphasis: Emphasis) -> None:
        """Go on with other weights of single points."""
        self.collocation.emphasis = emphasis
        self._scale = self.collocation.scale

    def know(self, known: dict[str, float]) -> None:
        """Go on with other values of known coefficients."""
        self.collocation.known = known

    def balance(self, state: State) -> State:
        """Shift weight towards the conditions that lag behind, w_c ← w_c (L̄/(L_c+10⁻⁸))^0.05, mean 1.

        Every rank computes the same weights from the losses that it already has.
        """
        old = self.collocation.weights
        losses = state.losses.to(old.dtype)
        new = old * (losses.mean() / (losses + _BALANCE_FLOOR)) ** _BALANCE_POWER
        new = new / new.mean()
        self.reweigh(new)
        balanced = state.losses * (new / old).to(state.losses.dtype)
        return replace(state, residual=self._scale * state.raw, losses=balanced, loss=float(balanced.sum()))

    def diagnose(self, state: State) -> str:
        """Why the loss is not finite: condition and point of the first bad residual.

        Only the first rank that holds one names it; the others return an empty text.
        """
        found = self.collocation.locate(state.raw)
        holders = self._holders(found is not None, state.losses)
        if not holders:
            return "the residuals are finite, but the loss overflows" if self.ranks.rank == 0 else ""
        return found or "" if holders[0] == self.ranks.rank else ""

    def explain_lost(self) -> str:
        """Why the last state had no finite loss or gradient, the same text on every rank; empty if it had.

        R texts of a fixed length are gathered.
        """
        lost = self.lost
        if lost is None:
            return ""
        if not bool(torch.isfinite(lost.theta).all()):
            return "the step overflows: it leads to parameters that are not finite"
        if math.isfinite(lost.loss):
            return self._explain_derivatives(lost.theta) or "the gradient of the loss is not finite"
        found = self._told(self.collocation.locate(lost.raw))
        return found or "the residuals are finite, but the loss overflows"

    def explain(self, theta: Tensor) -> str:
        """Why residuals at θ (P,), or their derivatives, are not finite, as `explain_lost`."""
        self.evaluate(theta)
        return self.explain_lost() if self.lost is not None else self._explain_derivatives(theta)

    def _explain_derivatives(self, theta: Tensor) -> str:
        image = self.jacobian(theta).matmul(torch.ones_like(theta))
        return self._told(self.collocation.locate(image, "a derivative by the parameters of"))

    def _told(self, found: str | None) -> str:
        """What the first rank has found that has found something, with its number, on every rank."""
        holders = self._holders(found is not None, self._scale)
        if not holders:
            return ""
        encoded = (found or "").encode()[:_TEXT_BYTES]
        text = self._scale.new_zeros(_TEXT_BYTES, dtype=torch.uint8)
        text[: len(encoded)] = text.new_tensor(list(encoded))
        told = self.ranks.gather(text, "control")[holders[0]].tolist()
        where = f" (rank {holders[0]})" if self.ranks.size > 1 else ""
        return bytes(told).rstrip(b"\0").decode(errors="ignore") + where
