"""An estimate of the error from residuals, where the problem has a `Stability` and its theorem applies.

Letters
    P        parameters
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sngd.fields import differentiable_fields_at
from sngd.networks import AnyNetwork
from sngd.piecewise import Piecewise
from sngd.problem import Problem

__all__ = ["error_estimate"]

# Functions with kinks or jumps, by how autograd calls them.
_KINKED = (
    *("Abs", "Amax", "Amin", "Ceil", "Clamp", "Floor", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh"),
    *("LeakyRelu", "Max", "Min", "Prelu", "Relu", "Round", "Rrelu", "Sign", "Softshrink", "Threshold"),
    *("Trunc", "Where"),
)


def error_estimate(
    problem: Problem, network: AnyNetwork, theta: Tensor, conditions: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, list[str]]:
    """Σ_c κ_c ‖r_c‖ with norms from sampled points.

    Args:
        problem: with its stability.
        network: on the device of theta.
        theta: (P,) parameters.
        conditions: max, mean and rms of their residuals by name, as a certificate has them.

    Returns:
        value, norm, source, and by condition its share of the value; None where there is none. Then why,
        where there is a theorem which does not apply.
    """
    stability = problem.stability
    if stability is None:
        return None, []
    if isinstance(network, Piecewise):
        return None, ["no error estimate: slabs of time do not join exactly, which residuals do not show"]
    if kinked := _kinks(problem, network, theta):
        why = f"no error estimate: fields may have kinks ({', '.join(kinked)}), which residuals do not show"
        return None, [why]
    shares = {}
    for condition in problem.conditions:
        size, constant = conditions.get(condition.name, {}), float(stability.constants[condition.name])
        norm = {"max": size.get("max"), "l1": size.get("mean"), "l2": size.get("rms")}[stability.norm]
        if not constant:
            shares[condition.name] = 0.0
        elif norm is None:
            return None, ["no error estimate: a residual is not finite"]
        else:
            measure = condition.region.measure or 1.0
            factor = {"max": 1.0, "l1": measure, "l2": math.sqrt(measure)}[stability.norm]
            shares[condition.name] = constant * factor * norm
    value = sum(shares.values())
    return {"value": value, "norm": stability.norm, "source": stability.source, "shares": shares}, []


def _kinks(problem: Problem, network: AnyNetwork, theta: Tensor) -> list[str]:
    """Functions in the fields whose derivatives may jump: a theorem on smooth fields says nothing of them."""
    x = problem.domain.interior.sample(0, 2, (0,), device=theta.device)[:, : problem.domain.dim]
    with torch.enable_grad():
        leaf = theta.detach().clone().requires_grad_()
        u = differentiable_fields_at(problem, network.to(theta.dtype, theta.device), leaf, x.to(theta))
    seen, pending = set[Any](), [u.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending += [following for following, _ in node.next_functions]
    names = {node.name().partition("Backward")[0] for node in seen}
    return sorted(name.lower() for name in names if name.startswith(_KINKED))
