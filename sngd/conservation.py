"""How well a network keeps integrals over space that should not change in time.

Letters
    I(t)     integral of a density over space
    m        points
    k        axes that are integrated over, n nodes along each
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sngd.conserved import Conserved
from sngd.domain import Box
from sngd.networks import AnyNetwork
from sngd.norms import quantities_at
from sngd.points import Points
from sngd.problem import Problem

__all__ = ["MOST_AXES", "Drift", "conservation", "integral", "quadrature"]

# Of space that are integrated over: more leave too few nodes along each.
MOST_AXES = 4
# Nodes of a quadrature over space in all, and most along one axis.
_NODES, _AXIS_NODES = 2**14, 512


def quadrature(box: Box, axes: Sequence[int], nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a tensor-product rule over some axes of a box.

    Gauss–Legendre, and the trapezoidal rule along periodic axes: both converge exponentially for analytic
    functions.

    Args:
        box: gives bounds and periodic axes.
        axes: numbers of those that are integrated over, k of them.
        nodes: n of every axis.

    Returns:
        (n^k, k) and (n^k,), float64.
    """
    points, weights = [], []
    for axis in axes:
        low, high = box.bounds[axis]
        if axis in box.periodic:
            x, w = np.arange(nodes) / nodes, np.full(nodes, 1 / nodes)
        else:
            x, w = _gauss_legendre(nodes)
        points.append(torch.from_numpy(low + (high - low) * x))
        weights.append(torch.from_numpy((high - low) * w))
    grid = torch.stack([g.flatten() for g in torch.meshgrid(*points, indexing="ij")], dim=1)
    product = torch.stack([w.flatten() for w in torch.meshgrid(*weights, indexing="ij")]).prod(0)
    return grid, product


@cache
def _gauss_legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, w / 2


def integral(
    box: Box, function: Callable[[Tensor], Tensor], fixed: Mapping[int, float], nodes: int
) -> Tensor:
    """∫ f over a box or a slice of it.

    Args:
        box: the domain.
        function: points (m, d) float64 → values (m, quantities).
        fixed: values of the axes that are not integrated over, by their numbers.
        nodes: of the quadrature along every other axis.

    Returns:
        (quantities,) float64.
    """
    axes = [i for i in range(box.dim) if i not in fixed]
    grid, weights = quadrature(box, axes, nodes)
    x = grid.new_empty(len(grid), box.dim)
    x[:, axes] = grid
    for axis, value in fixed.items():
        x[:, axis] = value
    values = function(x)
    return weights.to(values.device) @ values.double()


@dataclass(frozen=True)
class Drift:
    """How an integral that should stay constant changes.

    Args:
        drift: max_t |I(t) − I(t₀)| / scale, relative.
        quadrature: the same of the integrals' own errors, by half as many nodes; a drift below it says
            nothing.
        times: at which it was taken.
        values: I(t).
    """

    drift: float
    quadrature: float
    times: tuple[float, ...]
    values: tuple[float, ...]


def conservation(
    problem: Problem,
    network: AnyNetwork,
    theta: Tensor,
    conserved: Sequence[Conserved],
    time: int,
    times: int = 21,
    known: Mapping[str, float] | None = None,
) -> dict[str, Drift]:
    """Relative drifts of integrals over space, on slices of time.

    Args:
        problem: on a `Box`.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        conserved: the densities.
        time: number of the axis that is time.
        times: equidistant slices, both ends of the time axis among them.
        known: values of known coefficients, where they differ from the problem's.

    Returns:
        By names of the densities; the integrals in float64 whatever the network's precision.

    Raises:
        ValueError: the domain is no box, has no or more than four axes beside time, times < 2, or two
            densities of one name.
    """
    box = problem.domain
    if not isinstance(box, Box):
        raise ValueError(f"conservation needs a Box, whose slices have a quadrature, the domain is {box!r}")
    space = box.dim - 1
    if not 1 <= space <= MOST_AXES:
        raise ValueError(f"conservation needs one to {MOST_AXES} axes beside time, this domain has {space}")
    names = [c.name for c in conserved]
    if len(set(names)) < len(names):
        raise ValueError(f"names of conserved quantities must differ, got {names}")
    if times < 2:
        raise ValueError(f"times={times} must be at least 2, to compare one with another")
    nodes = min(_AXIS_NODES, int(_NODES ** (1 / space)))
    slices = np.linspace(*box.bounds[time], times).tolist()

    def densities(u: Any, p: Points) -> list[Any]:
        return [c.density(u, p) for c in conserved]

    def with_moduli(x: Tensor) -> Tensor:
        values = quantities_at(problem, network, theta.detach(), x.to(theta.device), densities, known)
        return torch.cat([values, values.abs()], dim=1)

    def over_time(count: int) -> Tensor:
        return torch.stack([integral(box, with_moduli, {time: t}, count) for t in slices])

    fine, coarse = over_time(nodes), over_time(nodes // 2)
    moduli = fine[0, len(conserved) :]
    return {
        c.name: _drift(c, fine[:, n], coarse[:, n], float(moduli[n]), slices) for n, c in enumerate(conserved)
    }


def _drift(c: Conserved, fine: Tensor, coarse: Tensor, modulus: float, slices: list[float]) -> Drift:
    """How far an integral goes from where it began, and how far two quadratures (times,) of it are apart."""
    scale = modulus if c.scale is None else max(float(fine[0].abs()), c.scale)
    changes = (fine - fine[0]).abs().max(), (fine - coarse).abs().max()
    drift, error = (float(change) / scale if scale > 0 else math.nan for change in changes)
    return Drift(drift, error, tuple(slices), tuple(fine.tolist()))
