"""Rows of the Jacobian and JᵀJΩ: factored form against torch.func, timed beside each other.

Network tanh 2-32-32-32-32-1 (P = 3,297), 2,000 points, Laplacian residual. The rivals are the straightforward
version: residual by nested differentiation of a function of one point, `vmap(jacrev)` over a flat parameter
vector for the rows, `vmap` of `jvp` over 64 columns and a `vjp` of each result for JᵀJΩ.

Run: python -m benchmarks.jacobian
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from math import pi
from typing import Any

import torch
from torch import Tensor
from torch.func import hessian, jacrev, jvp, vjp, vmap

from benchmarks.results import write
from sngd import MLP
from sngd.collectives import LocalRanks
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.problems import poisson2d
from sngd.residual import Collocation

POINTS, COLUMNS, REPEATS, SLOW_REPEATS = 2000, 64, 15, 3


def clock(action: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median and range in seconds of repeated calls after one warm-up."""
    times = []
    for number in range(repeats + 1):
        start = time.perf_counter()
        action()
        if number:
            times.append(time.perf_counter() - start)
    return {"median": statistics.median(times), "least": min(times), "most": max(times)}


def main() -> None:
    """Time both forms, check that they agree, write the results."""
    problem = poisson2d(interior=POINTS, boundary=1)
    network = MLP(hidden=(32, 32, 32, 32)).build(problem.domain, 1, 0)
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(problem.conditions)]
    weights = torch.tensor([float(POINTS), 1.0], dtype=torch.float64)  # row scale 1 for the equation
    objective = Objective(Collocation(problem, network, points, weights), LocalRanks(), Plan("rows", None, 0))
    theta, x = network.initial, points[0]

    def u(t: Tensor, point: Tensor) -> Tensor:
        h = network.embedding.channels(point[None], ((),))[0, 0]
        matrices, biases = network.split(t)
        for number, (w, b) in enumerate(zip(matrices, biases, strict=True)):
            h = w @ h + b
            if number < len(matrices) - 1:
                h = torch.tanh(h)
        return h[0]

    def residual(t: Tensor, point: Tensor) -> Tensor:
        source = 2 * pi**2 * torch.sin(pi * point).prod()
        return torch.trace(hessian(u, argnums=1)(t, point)) + source

    def all_residuals(t: Tensor) -> Tensor:
        return vmap(residual, in_dims=(None, 0))(t, x)

    omega = torch.randn(theta.numel(), COLUMNS, dtype=torch.float64)

    def slow_rows() -> Tensor:
        return vmap(jacrev(residual), in_dims=(None, 0))(theta, x)

    def slow_product() -> Tensor:
        pushed = vmap(lambda v: jvp(all_residuals, (theta,), (v,))[1])(omega.T)
        pull = vjp(all_residuals, theta)[1]
        return vmap(lambda w: pull(w)[0])(pushed).T

    def fast_rows() -> list[Tensor]:
        return [block for _, blocks in objective.jacobian(theta).row_blocks() for block in blocks]

    def fast_product() -> Tensor:
        return objective.jacobian(theta).normal_matmul(omega)

    dense = objective.jacobian(theta).dense()[:POINTS]
    disagreement = float((dense - slow_rows()).norm() / dense.norm())
    results = {
        "rows": {"factored": clock(fast_rows, REPEATS), "vmap(jacrev)": clock(slow_rows, SLOW_REPEATS)},
        "normal_matmul": {
            "factored": clock(fast_product, REPEATS),
            "vmap(jvp), vmap(vjp)": clock(slow_product, SLOW_REPEATS),
        },
    }
    for name, pair in results.items():
        fast, slow = (entry["median"] for entry in pair.values())
        print(
            f"{name:14s} factored {fast * 1e3:8.1f} ms   "
            f"torch.func {slow * 1e3:8.0f} ms   ratio {slow / fast:.0f}"
        )
    print(f"relative difference of the rows {disagreement:.1e}")
    path = write("jacobian", {"seconds": results, "rows_relative_difference": disagreement})
    print(f"written to {path}")


if __name__ == "__main__":
    main()
