"""Keyed points of the unit cube.

A point is a function of its key and its global index alone (of a Latin hypercube also of the number of points
that are spread together): no generator state, no dependence on the number of ranks, the device or what was
drawn before. A rank asks for the indices it owns and gets exactly those.

Letters
    d        coordinates
    i        global index of a point in its condition
    u        point of the unit cube [0, 1)^d
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

__all__ = ["SAMPLINGS", "Sampling", "fold", "share", "unit_points", "unit_points_and_lot"]

Sampling = Literal["kronecker", "uniform", "sobol", "latin_hypercube"]
SAMPLINGS: tuple[str, ...] = get_args(Sampling)

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # increment of splitmix64 (Steele, Lea, Flood 2014)
# Points that are spread together as one Latin hypercube where their total is not told.
_STRATA = 1024
# Digits of Sobol points, the most that scipy can fast-forward through: 2³² points are different.
_SOBOL_BITS = 32


def share(points: int, rank: int, ranks: int) -> tuple[int, int]:
    """First global index of a condition's points that a rank owns, and one past the last."""
    return points * rank // ranks, points * (rank + 1) // ranks


def fold(key: tuple[int, ...]) -> int:
    """One 64-bit key out of several integers; different tuples give unrelated keys."""
    state = 0
    for part in key:
        state = _mix(state + _GOLDEN + _mix(part))
    return state


def unit_points(
    start: int,
    stop: int,
    dim: int,
    key: tuple[int, ...],
    sampling: Sampling,
    device: torch.device | str,
    total: int | None = None,
) -> Tensor:
    """Points start … stop−1 in [0, 1)^dim of the set named by key, (stop − start, dim) float64.

    "uniform": splitmix64 of (key, index, coordinate). "kronecker": frac(s_j + i φ^{−j}) with φ the
    generalised golden ratio and s a shift from the key, in exact 64-bit integer arithmetic. "sobol": Sobol's
    sequence, scrambled by the key (scipy.stats.qmc; Matoušek 1998). "latin_hypercube": every run of `total`
    points has one point in each of the `total` slices of each axis (McKay, Beckman, Conover 1979).

    Args:
        start: first global index.
        stop: one past the last global index.
        dim: d.
        key: integers that name the set.
        sampling: one of `SAMPLINGS`.
        device: where the points are made; their values do not depend on it.
        total: points of a Latin hypercube (1,024 when absent); the others do not depend on it.

    Raises:
        ValueError: another sampling.
    """
    if sampling == "sobol":
        return _sobol(start, stop, dim, key).to(device)
    if sampling == "latin_hypercube":
        return _latin_hypercube(start, stop, dim, key, device, total or _STRATA)
    if sampling == "kronecker":
        ratio = _plastic(dim)
        strides = [_signed(int(ratio ** -(j + 1) * 2**64) | 1) for j in range(dim)]
        return _to_unit(_arithmetic(start, stop, strides, key, device))
    if sampling == "uniform":
        return _to_unit(_random_bits(start, stop, dim, key, device))
    raise ValueError(f"sampling={sampling!r} must be one of {', '.join(SAMPLINGS)}")


def unit_points_and_lot(
    start: int,
    stop: int,
    dim: int,
    key: tuple[int, ...],
    sampling: Sampling,
    device: torch.device | str,
    total: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Points as `unit_points` gives them, and one more number each, (n,), to choose a part of a region."""
    if sampling == "sobol":  # two Sobol sequences share the digits of the index: the lot is one more axis
        both = unit_points(start, stop, dim + 1, key, sampling, device)
        return both[:, :dim], both[:, dim].contiguous()
    u = unit_points(start, stop, dim, key, sampling, device, total)
    return u, unit_points(start, stop, 1, (*key, 1), sampling, device, total).flatten()


def _sobol(start: int, stop: int, dim: int, key: tuple[int, ...]) -> Tensor:
    if stop <= start:
        return torch.empty(0, dim, dtype=torch.float64)
    from scipy.stats import qmc  # takes a second to import

    sequence = qmc.Sobol(dim, scramble=True, bits=_SOBOL_BITS, seed=np.random.default_rng(fold(key)))
    if start:
        sequence.fast_forward(start)
        return torch.from_numpy(sequence.random(stop - start))
    # one first: scipy warns of sets that start with the sequence and are no power of two
    parts = [sequence.random(1), sequence.random(stop - 1)] if stop > 1 else [sequence.random(1)]
    return torch.from_numpy(np.concatenate(parts))


def _latin_hypercube(
    start: int, stop: int, dim: int, key: tuple[int, ...], device: torch.device | str, size: int
) -> Tensor:
    """The slice of a point along each axis is its place among keyed random numbers: a permutation."""
    parts = [torch.empty(0, dim, dtype=torch.float64, device=device)]
    for run in range(start // size, -(-stop // size)):
        low, high = max(start - run * size, 0), min(stop - run * size, size)
        order = _random_bits(0, size, dim, (*key, 2, run), device).argsort(dim=0, stable=True)
        inside = unit_points(low, high, dim, (*key, 3, run), "uniform", device)
        parts.append((order[low:high] + inside) / size)
    return torch.cat(parts).clamp_max_(1.0 - 2.0**-53)  # the last slice's end may be rounded to 1


def _arithmetic(
    start: int, stop: int, strides: list[int], key: tuple[int, ...], device: torch.device | str
) -> Tensor:
    """s_j + i · stride_j modulo 2⁶⁴ with shifts s from the key, (stop − start, len(strides)) int64."""
    shifts = [_signed(fold((*key, j))) for j in range(len(strides))]
    index = torch.arange(start, stop, dtype=torch.int64, device=device)
    stride, shift = (torch.tensor(x, dtype=torch.int64, device=device) for x in (strides, shifts))
    return index[:, None] * stride + shift


def _random_bits(start: int, stop: int, dim: int, key: tuple[int, ...], device: torch.device | str) -> Tensor:
    return _mix_tensor(_arithmetic(start, stop, [_signed(_GOLDEN)] * dim, key, device))


def _signed(x: int) -> int:
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def _mix(x: int) -> int:
    """The finaliser of splitmix64, a bijection of 64-bit integers with full avalanche."""
    x &= _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _mix_tensor(x: Tensor) -> Tensor:
    def xor_shift(v: Tensor, s: int) -> Tensor:  # logical shift: int64 shifts are arithmetic
        return v ^ ((v >> s) & ((1 << (64 - s)) - 1))

    x = xor_shift(x, 30) * _signed(0xBF58476D1CE4E5B9)
    x = xor_shift(x, 27) * _signed(0x94D049BB133111EB)
    return xor_shift(x, 31)


def _to_unit(bits: Tensor) -> Tensor:
    """Upper 53 bits of 64 → [0, 1) in float64."""
    return ((bits >> 11) & ((1 << 53) - 1)).to(torch.float64) * 2.0**-53


def _plastic(dim: int) -> float:
    """The root above 1 of x^{dim+1} = x + 1, which generalises the golden ratio."""
    x = 2.0
    for _ in range(64):
        x = (1.0 + x) ** (1.0 / (dim + 1))
    return x
