"""Landmarks: a subspace spanned by rows of J, of which no row is ever formed.

The row space of a random set S of points' rows, together with a few vectors, in place of the range finder's
image JᵀJΩ. In the kernel's terms it is the Nyström method on sampled columns (Williams and Seeger 2001):

    B = [v_1 … v_e; J_S]   (e + l, P)      known through vectors and factors
    B Bᵀ = V Λ Vᵀ                           entries are kernel products of factors; rows scaled to length 1
    Q = Bᵀ C,   C = V Λ^{-1/2}              orthonormal; never formed
    A = J Q = (J Bᵀ) C                      kernel products of the rank's factors with those of S

It costs no pass over rows of J, no array of width P × k, and no P·k numbers of communication: every rank is
told the points of S and works out their factors by itself. The price is that B Bᵀ squares the condition
number: directions with Λ below rounding are lost, and A is known to rounding / √Λ. In float32 that is so
little that steps are lost (benchmarks/NOTES.md); the sketched form therefore asks for θ's precision here.

Letters
    P        parameters; #n rows on this rank; l rows of the landmarks; e vectors; k ≤ e + l dimensions
    S        landmarks: points whose rows, all components, span the subspace
    d        coordinates of a point
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sngd.decompositions import check_finite, eigh
from sngd.domain import fold, share
from sngd.factors import kernel_block, kernel_points
from sngd.jacobian import FactoredJacobian
from sngd.problem import Problem
from sngd.residual import Collocation

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["LandmarkBasis", "choose_landmarks", "draw_landmarks"]

# Directions of B, its rows of length 1, with Λ below so many roundings of Λ_1 are dropped.
_ROUNDINGS = 8


def draw_landmarks(problem: Problem, rows: int, seed: int, step: int) -> list[list[int]]:
    """Global indices of the landmarks among the points of every condition, in order.

    A point is likely in proportion to the scale 1/√N_c of its rows: a condition is drawn with probability
    ∝ √N_c, then one of its points, without replacement. A function of (seed, step), so that every rank draws
    the same.

    Args:
        problem: its conditions and their numbers of points.
        rows: most rows of J that the landmarks may have; one point is drawn in any case.
        seed: of the run.
        step: number of the step.
    """
    # a draw that every rank repeats, no secret
    generator = random.Random(fold((seed, step)))  # nosec B311
    counts = [c.points for c in problem.conditions]
    queues = [generator.sample(range(n), min(n, max(rows, 1))) for n in counts]
    chosen: list[list[int]] = [[] for _ in counts]
    while any(queues):
        weights = [math.sqrt(n) if queue else 0.0 for n, queue in zip(counts, queues, strict=True)]
        (number,) = generator.choices(range(len(counts)), weights)
        rows -= problem.signatures[number].components
        if rows < 0 and any(chosen):
            break
        chosen[number].append(queues[number].pop())
    return [sorted(indices) for indices in chosen]


def _collect(collocation: Collocation, chosen: list[list[int]], ranks: Ranks) -> list[Tensor]:
    """Points of the landmarks, (l_c, d) of every condition, on every rank: l·d numbers are summed."""
    lengths = [len(indices) for indices in chosen]
    widths = [x.shape[1] for x in collocation.points]
    found = collocation.weights.new_zeros(sum(lengths), max(widths))
    for number, part in enumerate(found.split(lengths)):
        start, stop = share(collocation.problem.conditions[number].points, ranks.rank, ranks.size)
        own = [(place, index - start) for place, index in enumerate(chosen[number]) if start <= index < stop]
        if own:
            places, indices = torch.tensor(own, device=found.device).unbind(1)
            part[places, : widths[number]] = collocation.points[number][indices]
    parts = ranks.sum(found, "landmarks").split(lengths)
    return [part[:, :width] for part, width in zip(parts, widths, strict=True)]


class LandmarkBasis:
    """Q = Bᵀ C, whose columns are orthonormal up to rounding / Λ.

    Args:
        landmarks: the rows J_S, in float64.
        vectors: v_1 … v_e, (P,) each, the same on every rank.
        cutoff: directions with Λ ≤ cutoff · Λ_1 are dropped.
        fallbacks: counts decompositions that failed and what served in their place.

    Raises:
        NonFiniteMatrixError: B is not finite.
    """

    def __init__(
        self,
        landmarks: FactoredJacobian,
        vectors: Sequence[Tensor],
        cutoff: float,
        fallbacks: Counter[str] | None = None,
    ) -> None:
        self.landmarks = landmarks
        self.vectors = landmarks.theta.new_empty(len(vectors), landmarks.shape[1])
        for row, vector in zip(self.vectors, vectors, strict=True):
            row.copy_(vector)
        products = self._products(landmarks)  # J_S Bᵀ
        inner = torch.cat([self.vectors @ self.vectors.T, products[:, : len(vectors)].T], dim=1)
        gram = torch.cat([inner, products])
        check_finite(gram, "the Gram matrix of the landmarks' rows of J")
        lengths = gram.diagonal().clamp_min(0.0).sqrt()
        scale = torch.where(lengths > 0, 1.0 / lengths, 0.0)
        counted = Counter[str]() if fallbacks is None else fallbacks
        scaled = scale.unsqueeze(1) * gram * scale
        values, directions = eigh(scaled, "the landmarks' scaled Gram matrix", counted)
        kept = values > cutoff * values[-1]
        self.coefficients = scale.unsqueeze(1) * directions[:, kept] * values[kept].rsqrt()
        self.rank = self.coefficients.shape[1]

    def _products(self, jacobian: FactoredJacobian, coefficients: Tensor | None = None) -> Tensor:
        """J Bᵀ (#n, e + l), or (J Bᵀ) C for coefficients C, in J's precision."""
        own = [f.to(jacobian.dtype) for f in self.landmarks.factors()]
        width = len(self.vectors) + self.landmarks.shape[0] if coefficients is None else self.rank
        result = jacobian.theta.new_empty(jacobian.shape[0], width, dtype=jacobian.dtype)
        block = kernel_points(jacobian.theta.device)
        for chunk in jacobian.factors():
            columns = [jacobian.times_vector(chunk, v).unsqueeze(1) for v in self.vectors]
            tiles = chunk.split(block)
            columns += [torch.cat([kernel_block(tile, f) for tile in tiles]) for f in own]
            product = torch.cat(columns, dim=1)
            if coefficients is not None:  # large and of both signs: summed in their own precision
                product = product.to(coefficients.dtype) @ coefficients
            result[chunk.rows] = product
        return result

    def times(self, jacobian: FactoredJacobian) -> Tensor:
        """A = J Q (#n, k)."""
        return self._products(jacobian, self.coefficients)

    def displacement(self, z: Tensor) -> Tensor:
        """Q z (P,), from the factors of the landmarks."""
        weights = self.coefficients @ z.to(self.coefficients.dtype)
        given, rows = weights.split([len(self.vectors), self.landmarks.shape[0]])
        return self.landmarks.rmatmul(rows).addmv_(self.vectors.T, given)


def choose_landmarks(
    jacobian: FactoredJacobian,
    vectors: Sequence[Tensor],
    rank: int,
    seed: int,
    step: int,
    ranks: Ranks,
    fallbacks: Counter[str] | None = None,
) -> tuple[LandmarkBasis, float]:
    """A basis of some vectors and of rows of J at random points, the same on every rank.

    Args:
        jacobian: this rank's rows of J.
        vectors: e of them, (P,) each, the same on every rank.
        rank: k; landmarks have at most k − e rows, those of one point at the least.
        seed: of the run.
        step: number of the step.
        ranks: sums the landmarks' coordinates.
        fallbacks: counts decompositions that failed and what served in their place.

    Returns:
        The basis, and the rounding of A = J Q in units of σ_1.

    Raises:
        NonFiniteMatrixError: the rows of the landmarks are not finite.
    """
    collocation, theta = jacobian.collocation, jacobian.theta.double()
    chosen = draw_landmarks(collocation.problem, rank - len(vectors), seed, step)
    points = [x.double() for x in _collect(collocation, chosen, ranks)]
    network = collocation.network.to(theta.dtype, theta.device)
    weights = collocation.weights.double()
    own = Collocation(
        collocation.problem,
        network,
        points,
        weights,
        collocation.chunk,
        known=collocation.known,
        emphasis=collocation.emphasis,
    )
    eps = torch.finfo(jacobian.dtype).eps
    cutoff = _ROUNDINGS * eps
    basis = LandmarkBasis(FactoredJacobian(own, theta, own.scale), vectors, cutoff, fallbacks)
    return basis, eps / math.sqrt(cutoff)
