"""What a step of each form costs: a model of its arithmetic, with speeds fitted to measurements.

A step's seconds are Σ work × seconds per unit over kinds of work that run at different speeds: products,
QR, Cholesky, pointwise work. The counts follow from sizes alone, so that every rank predicts the
same; the speeds of a processor were fitted by `python -m benchmarks.costs`.

Letters
    P        parameters; N rows over all ranks, n = ⌈N/R⌉ on one of R ranks; k sketch rank
    C, q     Taylor channels and residual components of a batch
    ω        Σ over layers of in + out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from sngd.gram import prefers_factors
from sngd.residual import Collocation

__all__ = ["SPEEDS", "Size", "Work", "exact_work", "kernel_work", "predict_seconds", "sketched_work"]


@dataclass(frozen=True)
class Work:
    """What a step does, by kind: numbers of floating-point operations, but for `steps` and `traffic`.

    Args:
        steps: 1, what a step costs however small it is.
        network: Taylor channels through the network and back: channels × points × P, times passes.
        traffic: numbers of large arrays that are written by pointwise work.
        product: in products of matrices.
        qr: in QR factorisations and triangular solves of tall matrices, and in the SVD of the core.
        cholesky: in Cholesky factorisations.
    """

    steps: float = 1.0
    network: float = 0.0
    traffic: float = 0.0
    product: float = 0.0
    qr: float = 0.0
    cholesky: float = 0.0

    def as_list(self) -> list[float]:
        """The counts in order."""
        return [getattr(self, f.name) for f in fields(self)]


KINDS = tuple(f.name for f in fields(Work))

# Seconds for a unit of each kind, fitted on the machine that benchmarks/results/*/costs.json names.
# On a GPU nothing was measured: the figures guess at ratios of rates and are to be replaced by a fit.
SPEEDS: Mapping[str, Mapping[str, float]] = {
    "cpu": dict(zip(KINDS, (0.009847, 9.025e-11, 1.725e-09, 1.681e-11, 2.631e-11, 4.231e-11), strict=True)),
    "cuda": dict(zip(KINDS, (2e-2, 1e-12, 1e-11, 3e-14, 2e-13, 1e-13), strict=True)),
}

# Passes over the rows of a sketched step: JᵀW and J Q.
_PASSES = 2
# Residual evaluations of a typical step (a try and its chord corrections) and dampings that are factored for.
_EVALUATIONS = 4
_TRIES = 1.2


@dataclass(frozen=True)
class Size:
    """What the cost of a step depends on.

    Args:
        parameters: P.
        rows: N.
        ranks: R.
        channels: C, in the mean over rows.
        components: q, likewise.
        widths: ω.
        layers: of the network.
    """

    parameters: int
    rows: int
    ranks: int
    channels: float
    components: float
    widths: int
    layers: int

    @classmethod
    def of(cls, collocation: Collocation, rows: int, ranks: int) -> Size:
        """The size of a problem; the same on every rank, whatever its share of the points."""
        problem, network = collocation.problem, collocation.network
        pairs = list(zip(problem.conditions, problem.signatures, strict=True))
        counts = [c.points * s.components for c, s in pairs]

        def mean(values: list[int]) -> float:
            return sum(n * v for n, v in zip(counts, values, strict=True)) / sum(counts)

        channels = mean([len(s.channels) for _, s in pairs])
        components = mean([s.components for _, s in pairs])
        return cls(
            network.parameters,
            rows,
            ranks,
            channels,
            components,
            sum(o + i for o, i in network.shapes),
            len(network.shapes),
        )

    @property
    def share(self) -> float:
        """Rows of one rank, n."""
        return self.rows / self.ranks

    def network_work(self, passes: float) -> float:
        """Evaluations and reverse passes, in channels × points × P."""
        return passes * self.channels * self.share / self.components * self.parameters


def sketched_work(size: Size, rank: int, evaluations: float = _EVALUATIONS) -> Work:
    """A sketched step: rows, J Ω, QR, Jᵀ, QR, J Q, QR of [A | r], SVD of k×k; its corrections."""
    n, p, k = size.share, size.parameters, rank
    rows = _PASSES * size.channels * n * p
    return Work(
        network=size.network_work(evaluations + 2.0),
        traffic=rows / 4 + (n + p) * k,
        product=2.0 * rows + 2.0 * _PASSES * n * p * k + evaluations * (4 * n + 2 * p) * k,
        qr=5.0 * n * k**2 + 4.0 * p * k**2 + (22.0 + 2.0 * size.ranks) * k**3,
    )


def exact_work(size: Size, evaluations: float = _EVALUATIONS) -> Work:
    """A step with the Gramian: rows, JᵀJ, a Cholesky factorisation for each damping that is tried."""
    n, p = size.share, size.parameters
    return Work(
        network=size.network_work(2.0 * evaluations + 2.0),
        traffic=size.channels * n * p / 4 + (2.0 + _TRIES) * p**2,
        product=2.0 * size.channels * n * p + n * p**2 + evaluations * 2.0 * p**2,
        cholesky=_TRIES * p**3 / 3.0,
    )


def kernel_work(size: Size, evaluations: float = _EVALUATIONS) -> Work:
    """A step with the kernel: JJᵀ by rows or factors, a Cholesky factorisation for each damping tried."""
    n, total, p = size.share, size.rows, size.parameters
    pairs = n * total / 2.0
    per_pair, pointwise = 2.0 * p, 0.0
    if prefers_factors(size.channels, size.widths, size.layers, p):
        per_pair = 2.0 * size.channels**2 * size.widths
        pointwise = float(size.channels**2 * size.layers)
    return Work(
        network=size.network_work(3.0 * evaluations + 2.0),
        traffic=pairs * pointwise + (2.0 + _TRIES) * total**2,
        product=pairs * per_pair + evaluations * 2.0 * total**2,
        cholesky=_TRIES * total**3 / 3.0,
    )


def predict_seconds(work: Work, device: torch.device) -> float:
    """Seconds of a step on a kind of device."""
    speeds = SPEEDS["cuda" if device.type == "cuda" else "cpu"]
    return sum(amount * speeds[kind] for kind, amount in zip(KINDS, work.as_list(), strict=True))
