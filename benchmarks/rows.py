"""Passes over the rows of J against products of stored matrices: what forming the rows costs.

J V and JᵀW by the factored Jacobian, in operations of the products alone (2 n P k), against `torch.mm` and
`addmm_` of the largest layer's block, formed beforehand and read from memory. Networks of P ≈ 5,000 (tanh
2-40-40-40-40-1, Laplacian residual, 2,400 points) and P ≈ 10⁶ (2-590-590-590-590-1, heat, 640 points).

Run: python -m benchmarks.rows
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.results import write
from sngd import MLP
from sngd.jacobian import FactoredJacobian
from sngd.problem import Problem
from sngd.problems import heat, poisson2d
from sngd.residual import Collocation

REPEATS = 5
CASES: dict[str, tuple[Callable[[], Problem], MLP]] = {
    "P≈5,000": (lambda: poisson2d(2000, 400), MLP((40,) * 4)),
    "P≈10⁶": (lambda: heat(512, 43, 85), MLP((590,) * 4)),
}
RANKS = (32, 256)
TYPES = (torch.float32, torch.float64)


def seconds(work: Callable[[], Any]) -> float:
    """Median time of a call, after one that is not counted."""
    work()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(problem: Problem, network: MLP, rank: int, dtype: torch.dtype) -> dict[str, Any]:
    """Rates in GFLOP/s of both passes and of products of a stored block."""
    built = network.build(problem.domain, len(problem.fields), 0)
    points = [
        c.region.sample(0, c.points, (0, 0, number), c.sampling)
        for number, c in enumerate(problem.conditions)
    ]
    collocation = Collocation(problem, built, points, torch.ones(len(points), dtype=torch.float64))
    n, p = collocation.row_count, built.parameters
    v, w = torch.randn(p, rank, dtype=dtype), torch.randn(n, rank, dtype=dtype)
    jacobian = FactoredJacobian(collocation, built.initial, collocation.scale, dtype, columns=rank)
    forming = seconds(lambda: list(FactoredJacobian(collocation, built.initial, collocation.scale).factors()))
    list(jacobian.factors())
    ours = {"J V": lambda: jacobian.matmul(v), "Jᵀ W": lambda: jacobian.rmatmul(w)}
    rates = {name: 2e-9 * n * p * rank / seconds(work) for name, work in ours.items()}
    block = max(o * i for o, i in built.shapes)
    stored = torch.randn(n, block, dtype=dtype)
    product, pulled = torch.empty(n, rank, dtype=dtype), torch.zeros(block, rank, dtype=dtype)
    plain = {
        "J V": lambda: torch.mm(stored, v[:block], out=product),
        "Jᵀ W": lambda: pulled.addmm_(stored.T, w),
    }
    limits = {name: 2e-9 * n * block * rank / seconds(work) for name, work in plain.items()}
    return {
        "rows": n,
        "parameters": p,
        "rank": rank,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds_for_factors": forming,
        "passes": {
            name: {"gflops": rates[name], "mm_gflops": limits[name], "ratio": rates[name] / limits[name]}
            for name in rates
        },
    }


def main() -> None:
    """Measure every case and write the result."""
    results = []
    for name, (problem, network) in CASES.items():
        for rank in RANKS:
            for dtype in TYPES:
                result = measure(problem(), network, rank, dtype)
                results.append({"case": name, **result})
                shown = "   ".join(
                    f"{which} {x['gflops']:5.1f} of {x['mm_gflops']:5.1f} GFLOP/s ({x['ratio']:.2f})"
                    for which, x in result["passes"].items()
                )
                print(f"{name}  k={rank:<3}  {result['dtype']}  {shown}", flush=True)
    print(f"written to {write('rows', {'threads': torch.get_num_threads(), 'cases': results})}")


if __name__ == "__main__":
    main()
