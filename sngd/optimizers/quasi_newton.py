"""Quasi-Newton methods with a dense inverse Hessian: BFGS and the self-scaled Broyden family.

Every rank holds the same H: losses and gradients are equal on all of them bit for bit, and so are decisions.

Letters
    P        parameters, one flat vector θ; g (P,) gradient of the loss
    H        (P, P) inverse Hessian, float64
    p        (P,) direction −H g; α step length
    s, y     (P,) differences of θ and of g over one step; ρ = 1/(y·s)
    τ, φ     self-scaling and the member of the family; θ_B, the member in terms of the Hessian, is `theta_b`
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sngd.checks import one_of, require, within
from sngd.objective import Objective, State
from sngd.optimizers.base import Report
from sngd.sizes import available_bytes

__all__ = ["SSBroyden", "self_scaling", "update_inverse"]

Variant = Literal["ssbroyden", "ssbfgs", "bfgs"]

# A step whose y·s is this small beside |y||s| tells of rounding, not of curvature.
_FLAT = 1e-14
# Where no step along −g lowers the loss, the next one is shorter by this: scipy halves ten times.
_SHORTER = 1e-3


@dataclass(frozen=True)
class SSBroyden:
    """Self-scaled Broyden methods with a strong Wolfe line search.

    Source: Al-Baali, Computational Optimization and Applications 9 (1998), and Al-Baali and Khalfan,
    Optimization Methods and Software 20 (2005), for τ and φ; Urbán, Stefanou and Pons, J. Comput. Phys. 523
    (2025) 113656 (arXiv 2405.04230), for their use on physics-informed networks. The line search is
    scipy.optimize.line_search. As published, some hundred steps of Adam go first (`RunConfig.warmup_steps`):
    from the initial parameters the method may stagnate for hundreds of steps.

    Args:
        variant: "ssbroyden" (τ and φ from the curvature along the step), "ssbfgs" (τ alone, φ = 1) or "bfgs"
            (τ = φ = 1).
        initial_scaling: scale the first H, a multiple of the identity with which the first step tried has
            length 1, by the curvature along that step.
        armijo: c₁ of the Wolfe conditions, 0 < c₁ < c₂.
        curvature: c₂ of the Wolfe conditions, c₁ < c₂ < 1.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    variant: Variant = "ssbroyden"
    initial_scaling: bool = True
    armijo: float = 1e-4
    curvature: float = 0.9

    def __post_init__(self) -> None:
        checks = [
            (
                "variant",
                one_of(self.variant, ("ssbroyden", "ssbfgs", "bfgs")),
                '"ssbroyden", "ssbfgs" or "bfgs"',
            ),
            ("initial_scaling", isinstance(self.initial_scaling, bool), "True or False"),
            ("armijo", within(self.armijo, 0, 1), "between 0 and 1"),
            (
                "curvature",
                within(self.armijo, 0, 1) and within(self.curvature, self.armijo, 1),
                "between armijo and 1",
            ),
        ]
        require(self, checks, "optimizer.")

    def start(self, objective: Objective, state: State, seed: int, rows: int) -> SSBroydenStepper:
        """A stepper at a state; seed and rows play no part.

        Raises:
            ValueError: H does not fit into memory.
        """
        need = 8 * state.theta.numel() ** 2
        free = available_bytes(state.theta.device)
        if need > free:
            raise ValueError(
                f"optimizer SSBroyden keeps a P × P matrix, {need / 1e9:.1f} GB with "
                f"P={state.theta.numel():,}, and {free / 1e9:.1f} GB are free; take LBFGS or SNGD, or a "
                "smaller network"
            )
        return SSBroydenStepper(self, state)


def self_scaling(variant: Variant, b: float, h: float, parameters: int, first: bool) -> tuple[float, float]:
    """τ and φ of an update.

    With a = b h − 1 ≥ 0, c = √(a/(1+a)), ρ⁻ = min(1, h (1−c)), θ⁻ = (ρ⁻−1)/a, θ⁺ = 1/ρ⁻:
    θ_B = max(θ⁻, min(θ⁺, (1−b)/b)), σ = 1 + a θ_B, and

        τ = min(1, 1/b) · min(σ^{1/(1−P)}, 1/θ_B)          θ_B > 0
        τ = min(min(1, 1/b) · σ^{1/(1−P)}, σ)               θ_B ≤ 0
        φ = (1 − θ_B)/(1 + a θ_B)

    Urbán et al. 2025 (arXiv 2405.04230), equations 13–23; SSBFGS has θ_B = 0 and τ = min(1, 1/b) (equation
    11), BFGS θ_B = 0 and τ = 1.

    Args:
        variant: of the method.
        b: s·H⁻¹s/(y·s) > 0.
        h: y·Hy/(y·s) > 0.
        parameters: P.
        first: H is a multiple of the identity, which is to be chosen: τ = h/σ, and for θ_B = 0 the H that
            is updated becomes (y·s)/(y·y) times the identity.

    Returns:
        (τ, φ), τ > 0.
    """
    # a ≥ 0 by Cauchy and Schwarz; rounding must not make it 0, where H y and s are parallel
    a = max(b * h - 1, 1e-16)
    theta_b = 0.0
    if variant == "ssbroyden":
        low = min(1.0, h * (1 - math.sqrt(a / (1 + a))))
        theta_b = max((low - 1) / a, min(1 / low, (1 - b) / b))
    sigma = 1 + a * theta_b
    phi = (1 - theta_b) / sigma
    if first:
        return h / sigma, phi
    if variant == "bfgs":
        return 1.0, phi
    tau = min(1.0, 1 / b)
    if variant == "ssbfgs":
        return tau, phi
    root = sigma ** (1 / (1 - parameters)) if parameters > 1 else 1.0
    return (min(tau * root, sigma) if theta_b <= 0 else tau * min(root, 1 / theta_b)), phi


def update_inverse(inverse: Tensor, s: Tensor, y: Tensor, hy: Tensor, tau: float, phi: float) -> None:
    """H ← (H − H y yᵀH/(y·Hy) + φ (y·Hy) v vᵀ)/τ + ρ s sᵀ with v = ρ s − H y/(y·Hy), in place.

    The new H maps y to s whatever τ and φ are; τ = φ = 1 is BFGS.

    Args:
        inverse: (P, P), H.
        s: (P,) step.
        y: (P,) change of the gradient, y·s > 0.
        hy: (P,) H y.
        tau: τ > 0.
        phi: φ; H stays positive definite for φ > −1/a.
    """
    yhy, rho = y @ hy, 1 / (y @ s)
    columns = torch.stack([hy, rho * s - hy / yhy, s], dim=1)
    factors = torch.stack([-1 / (yhy * tau), phi * yhy / tau, rho])
    inverse.addmm_(columns * factors, columns.T, beta=1 / tau)


@dataclass
class _Line:
    """The loss along θ + α p, with every α that was tried."""

    objective: Objective
    start: State
    origin: Tensor
    direction: Tensor
    tried: dict[float, tuple[State, Tensor]] = field(default_factory=dict)

    def at(self, alpha: float) -> tuple[State, Tensor]:
        """State and gradient (P,) float64 at α; a loss without a finite gradient counts as inf."""
        if alpha not in self.tried:
            theta = (self.origin + alpha * self.direction).to(self.start.theta.dtype)
            state, gradient = self.objective.gradient(theta)
            if not bool(torch.isfinite(gradient).all()):
                state = replace(state, loss=math.inf)
            self.tried[alpha] = state, gradient.double()
        return self.tried[alpha]

    def loss(self, x: np.ndarray) -> float:
        """For scipy: the loss at x = [α]."""
        return self.at(float(x[0]))[0].loss

    def slope(self, x: np.ndarray) -> np.ndarray:
        """For scipy: [g·p] at x = [α]."""
        return np.array([float(self.at(float(x[0]))[1] @ self.direction)])


class SSBroydenStepper:
    """The method on the way: the state, its gradient and H, None while it is a multiple of the identity.

    Args:
        config: its settings.
        state: where it stands.
    """

    def __init__(self, config: SSBroyden, state: State) -> None:
        self.config, self.state = config, state
        self.inverse: Tensor | None = None
        self._gradient = torch.empty(0)
        self._known: State | None = None  # the state that _gradient belongs to
        self._before: float | None = None  # loss one step ago, for the first α of the line search
        self._length = 1.0  # of the first step tried where H begins anew

    def step(self, objective: Objective, number: int) -> Report:
        """One iteration; where the line search fails, H begins anew."""
        evaluations = 0
        if self._known is not self.state:  # new points, new weights or the first step; H stays
            self.state, gradient = objective.gradient(self.state.theta)
            self._gradient, self._known, self._before = gradient.double(), self.state, None
            evaluations = 1
        g, origin = self._gradient, self.state.theta.double()
        p = -g * (self._length / g.norm()) if self.inverse is None else -(self.inverse @ g)
        slope = float(g @ p)
        line = _Line(objective, self.state, origin, p)
        alpha = self._search(line, slope) if slope < 0 and math.isfinite(slope) else None
        evaluations += len(line.tried)
        if alpha is None:
            self._length *= 1.0 if self.inverse is not None else _SHORTER
            self.inverse = self._before = None
            return Report(accepted=False, evaluations=evaluations, note="line search failed: H begins anew")
        state, gradient = line.at(alpha)
        s, y = state.theta.double() - origin, gradient - g
        self._update(s, y, g, alpha)
        self._before, self._length = self.state.loss, float(s.norm())
        self.state, self._gradient, self._known = state, gradient, state
        return Report(accepted=True, evaluations=evaluations)

    def _search(self, line: _Line, slope: float) -> float | None:
        """A step length that meets the Wolfe conditions, or else the best that was tried if it is lower."""
        from scipy.optimize import line_search  # takes half a second to load, which only this method needs

        loss = line.start.loss
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # that it failed is in its answer
            alpha, *_ = line_search(
                line.loss,
                line.slope,
                np.zeros(1),
                np.ones(1),
                np.array([slope]),
                loss,
                self._before,  # the first α would repeat the last decrease, and is 1 at most
                c1=self.config.armijo,
                c2=self.config.curvature,
            )
        if alpha is not None and math.isfinite(line.at(float(alpha))[0].loss):
            return float(alpha)
        best = min(line.tried, key=lambda a: line.tried[a][0].loss, default=None)
        return best if best is not None and line.tried[best][0].loss < loss else None

    def _update(self, s: Tensor, y: Tensor, g: Tensor, alpha: float) -> None:
        """Put the step's curvature into H, unless it has none; s·H⁻¹s = −α s·g."""
        ys = float(y @ s)
        if not ys > _FLAT * float(y.norm() * s.norm()):
            return
        first = self.inverse is None
        if self.inverse is None:
            eye = torch.eye(len(s), dtype=torch.float64, device=s.device)
            self.inverse = eye * (self._length / g.norm())
        hy = self.inverse @ y
        b, h = -alpha * float(s @ g) / ys, float(y @ hy) / ys
        scale = first and self.config.initial_scaling
        tau, phi = self_scaling(self.config.variant, b, h, len(s), scale)
        if math.isfinite(tau) and tau > 0 and math.isfinite(phi):
            update_inverse(self.inverse, s, y, hy, tau, phi)

    def save(self) -> dict[str, Any]:
        """H, once a step has shaped it, the gradient, and where the next line search begins."""
        return {
            "inverse": self.inverse,
            "gradient": self._gradient,
            "known": self._known is self.state,
            "before": self._before,
            "length": self._length,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take them."""
        device, inverse = self.state.theta.device, saved["inverse"]
        self.inverse = None if inverse is None else inverse.to(device)
        self._gradient, self._known = saved["gradient"].to(device), self.state if saved["known"] else None
        self._before, self._length = saved["before"], saved["length"]
