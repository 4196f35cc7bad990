"""Integrals of a run's fields over space, at several times: what should be conserved, and is it.

Letters
    m        nodes of a quadrature over space
    w        their weights, (m,)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sngd.evaluate import predict, time_axis
from sngd.networks import AnyNetwork
from sngd.problem import Problem

__all__ = ["integrals_over_time", "space_rule"]

# Nodes along every axis by the number of axes of space; more than three are left out.
_NODES = {1: 256, 2: 64, 3: 24}


def space_rule(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """A quadrature over the coordinates that are not time.

    Gauss and Legendre's nodes along an axis; where it is periodic, nodes at even distances, which are as
    accurate there. In a domain that is no box, nodes outside of it are left out at every time, which makes
    integrals of the accuracy of a sum.

    Args:
        problem: its domain.

    Returns:
        x (m, d) with time at its lower end, and w (m,), both float64; None where no coordinate is time, space
        has no coordinate or more than three.
    """
    domain, time = problem.domain, time_axis(problem.domain.names)
    space = [i for i in range(domain.dim) if i != time]
    if time is None or len(space) not in _NODES:
        return None
    rules = [_rule(*domain.bounds[i], _NODES[len(space)], i in domain.periodic) for i in space]
    nodes = np.meshgrid(*(rule[0] for rule in rules), indexing="ij")
    weights = np.meshgrid(*(rule[1] for rule in rules), indexing="ij")
    x = np.full((nodes[0].size, domain.dim), domain.bounds[time][0])
    for i, values in zip(space, nodes, strict=True):
        x[:, i] = values.ravel()
    return torch.from_numpy(x), torch.from_numpy(np.prod(weights, axis=0).ravel())


def _rule(low: float, high: float, nodes: int, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    if periodic:
        return low + (high - low) * np.arange(nodes) / nodes, np.full(nodes, (high - low) / nodes)
    x, w = np.polynomial.legendre.leggauss(nodes)
    return low + (high - low) * (x + 1) / 2, w * (high - low) / 2


def integrals_over_time(
    problem: Problem, network: AnyNetwork, theta: Tensor, times: int = 11
) -> dict[str, Any] | None:
    """∫ u dx of every field and ∫ Σ u² dx over all fields, at several times; needs no solution.

    Args:
        problem: names the fields; its domain has a coordinate that is time and up to three others.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        times: how many, evenly spaced from the first to the last.

    Returns:
        axis: the name of time.
        times: (times,) numbers.
        fields: ∫ u dx by the field's name, (times,) each.
        square: ∫ Σ u² dx, (times,).
        drift: how far each moves, max_t |I(t) − I(t_0)|: of every field, under its name, as a part of the
            largest √(|Ω| ∫ Σ u² dx); of the square, under "square", as a part of its largest value.
        None where `space_rule` is.
    """
    rule, domain = space_rule(problem), problem.domain
    axis = time_axis(domain.names)
    if rule is None or axis is None:
        return None
    x, w = rule
    moments = torch.linspace(*domain.bounds[axis], times, dtype=torch.float64).tolist()
    linear, square = np.zeros((times, len(problem.fields))), np.zeros(times)
    for number, moment in enumerate(moments):
        x[:, axis] = moment
        inside = domain.contains(x)
        if not inside.any():
            continue
        u = predict(problem, network, theta.detach(), x[inside].to(theta.device)).cpu()
        linear[number] = (w[inside] @ u).numpy()
        square[number] = float(w[inside] @ u.square().sum(1))
    largest = float(square.max())
    sizes = [math.sqrt(float(w.sum()) * largest)] * linear.shape[1]
    return {
        "axis": domain.names[axis],
        "times": moments,
        "fields": {name: values.tolist() for name, values in zip(problem.fields, linear.T, strict=True)},
        "square": square.tolist(),
        "drift": _drift([*problem.fields, "square"], [*linear.T, square], [*sizes, largest]),
    }


def _drift(names: Sequence[str], values: Sequence[np.ndarray], sizes: Sequence[float]) -> dict[str, float]:
    """Max |I(t) − I(t_0)| over a size, nan where that is not > 0."""
    moved = (float(np.abs(part - part[0]).max()) for part in values)
    return {n: m / s if s > 0 else math.nan for n, m, s in zip(names, moved, sizes, strict=True)}
