"""The fields of a problem at points, from its network: what evaluation, pictures and export call."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sngd.jet import Jet
from sngd.leaves import field
from sngd.networks import AnyNetwork
from sngd.points import Points
from sngd.problem import Problem
from sngd.taylor import TaylorRules

__all__ = ["coefficient_values", "differentiable_fields_at", "fields_at"]


def fields_at(
    problem: Problem,
    network: AnyNetwork,
    theta: Tensor,
    x: Tensor,
    known: Mapping[str, float] | None = None,
) -> Tensor:
    """Values of a problem's fields, with its ansatz and coefficients, without gradients.

    Args:
        problem: fields, ansatz and coefficients.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        x: (m, d) points of theta's dtype and device.
        known: values of known coefficients, where they differ from the problem's.

    Returns:
        (m, fields) of theta's dtype.
    """
    with torch.no_grad():
        return differentiable_fields_at(problem, network, theta, x, known)


def differentiable_fields_at(
    problem: Problem,
    network: AnyNetwork,
    theta: Tensor,
    x: Tensor,
    known: Mapping[str, float] | None = None,
) -> Tensor:
    """As `fields_at`, (m, fields), with gradients where theta has them."""
    rules = TaylorRules(problem.value_channels)
    z = network.forward(theta, network.embed(x, rules.channels), rules)
    count = len(problem.outputs)
    outputs = [field(z, rules.channels, j, problem.domain.dim) for j in range(count)]
    p = Points(x, (), problem.coefficients_at(z[0, :, count:], known))
    u = problem.assemble(outputs, p)
    jets: tuple[Jet, ...] = u if isinstance(u, tuple) else (u,)
    return torch.stack([jet.value for jet in jets], dim=1)


def coefficient_values(problem: Problem, theta: Tensor) -> dict[str, float]:
    """The unknown coefficients at θ (P,), whose parameters are its last entries."""
    unknowns = problem.unknowns
    if not unknowns:
        return {}
    raw = theta[len(theta) - len(unknowns) :].detach().double()
    pairs = zip(unknowns.items(), raw, strict=True)
    return {name: float(coefficient.value(rho)) for (name, coefficient), rho in pairs}
