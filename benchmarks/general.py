"""Rows of the Jacobian and JᵀJΩ: the general path against the factored one, of the same network.

Network tanh 2-32-32-32-32-1 (P = 3,297) as nn.Sequential, 2,000 points, Laplacian residual, one thread; the
numbers that one call of the module may take (`sngd.general`) are swept. Seconds of processor time.

Run: python -m benchmarks.general
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from sngd import Module
from sngd.jacobian import FactoredJacobian
from sngd.problems import poisson2d
from sngd.residual import Collocation

POINTS, COLUMNS, REPEATS = 2000, 64, 5
SWEPT = [1 << shift for shift in (19, 20, 21, 22, 23, 24, 25)]


def perceptron(inputs: int, outputs: int) -> nn.Module:
    """An nn.Sequential that both paths take."""
    parts: list[nn.Module] = []
    for width in (32, 32, 32, 32):
        parts += [nn.Linear(inputs, width), nn.Tanh()]
        inputs = width
    return nn.Sequential(*parts, nn.Linear(inputs, outputs))


def seconds(action: Callable[[], Any]) -> float:
    """Median processor time of repeated calls after one warm-up."""
    times = []
    for number in range(REPEATS + 1):
        start = time.process_time()
        action()
        if number:
            times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    """Time both paths."""
    torch.set_num_threads(1)
    problem = poisson2d(interior=POINTS, boundary=1)
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(problem.conditions)]
    weights = torch.ones(2, dtype=torch.float64)

    def times(path: str) -> str:
        network = Module(perceptron, path=path).build(problem.domain, 1, 0)  # type: ignore[arg-type]
        collocation = Collocation(problem, network, points, weights)
        theta, scale = network.initial, collocation.scale
        v = torch.randn(len(theta), COLUMNS, dtype=theta.dtype)
        kept = FactoredJacobian(collocation, theta, scale)
        kept.matmul(v)
        made = seconds(lambda: FactoredJacobian(collocation, theta, scale).dense())
        product = seconds(lambda: kept.normal_matmul(v))
        residual = seconds(lambda: collocation.residual(theta))
        return f"residual {residual:.4f}  rows {made:.3f}  JᵀJΩ from what is kept {product:.3f}"

    print("factored         ", times("factored"))
    for numbers in SWEPT:
        with patch("sngd.general._NUMBERS", numbers):
            print(f"general 2^{numbers.bit_length() - 1}     ", times("general"))


if __name__ == "__main__":
    main()
