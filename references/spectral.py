"""Exponential time differencing, Fourier and Chebyshev transforms, and the files of coefficients.

    v_t = L v + N(v, t),   L diagonal

is marched by ETDRK4 (Cox and Matthews 2002) with the coefficients of Kassam and Trefethen, "Fourth-order
time-stepping for stiff PDEs", SIAM J. Sci. Comput. 26, 2005: means over a circle around each h L, free of
cancellation.

Letters
    L        linear part, one number per mode
    h        step
    K        largest wave number kept
    M        degree in time
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from sngd.problems import reference

Array = np.ndarray
Nonlinear = Callable[[Array, float], Array]

FOLDER = Path(reference.__file__).parent / "data"

# Points of the circle around h L.
_CIRCLE = 64


def etdrk4(linear: Array, h: float) -> tuple[Array, ...]:
    """E, E½, Q, f1, f2, f3 of one step of length h."""
    circle = np.exp(2j * np.pi * (np.arange(_CIRCLE) + 0.5) / _CIRCLE)
    z = h * linear[..., None] + circle
    ez, ez2 = np.exp(z), np.exp(z / 2)

    def mean(values: Array) -> Array:
        m = h * values.mean(-1)
        return m if np.iscomplexobj(linear) else m.real

    q = mean((ez2 - 1) / z)
    f1 = mean((-4 - z + ez * (4 - 3 * z + z**2)) / z**3)
    f2 = mean((2 + z + ez * (-2 + z)) / z**3)
    f3 = mean((-4 - 3 * z - z**2 + ez * (4 - z)) / z**3)
    return np.exp(h * linear), np.exp(h * linear / 2), q, f1, f2, f3


def march(
    linear: Array, nonlinear: Nonlinear, v: Array, times: Sequence[float], longest: float, least: int = 1
) -> list[Array]:
    """The states at `times`, the first of which is that of the given v.

    Steps are equal within an interval, at least `least` of them and none above `longest`.
    """
    states = [v]
    for start, stop in pairwise(times):
        steps = max(least, int(np.ceil((stop - start) / longest - 1e-9)))
        h = (stop - start) / steps
        full, half, q, f1, f2, f3 = etdrk4(linear, h)
        for i in range(steps):
            t = start + i * h
            nv = nonlinear(v, t)
            decayed = half * v
            a = decayed + q * nv
            na = nonlinear(a, t + h / 2)
            b = decayed + q * na
            nb = nonlinear(b, t + h / 2)
            c = half * a + q * (2 * nb - nv)
            nc = nonlinear(c, t + h)
            v = full * v + f1 * nv + 2 * f2 * (na + nb) + f3 * nc
        if not np.isfinite(v).all():
            raise FloatingPointError(f"the march blew up before t = {stop:g}")
        states.append(v)
    return states


def lobatto(degree: int, low: float, high: float) -> Array:
    """Chebyshev–Lobatto nodes in ascending order, (M + 1,)."""
    return low + (high - low) * np.sin(np.pi * np.arange(degree + 1) / (2 * degree)) ** 2


def chebyshev(values: Array) -> Array:
    """Coefficients of T_0 … T_M along the first axis out of values at ascending Lobatto nodes."""
    degree = len(values) - 1
    j = np.arange(degree + 1)
    ends = np.where((j == 0) | (j == degree), 0.5, 1.0)
    transform = np.cos(np.pi * np.outer(j, degree - j) / degree) * ends * (2 / degree)
    transform[[0, -1]] /= 2
    return np.tensordot(transform, values, axes=1)


def fourier(v: Array, kept: int) -> Array:
    """Coefficients of 1, cos x̃, sin x̃, cos 2x̃, … (2K + 1, …) out of rfft / size along the first axis."""
    result = np.empty((2 * kept + 1, *v.shape[1:]))
    result[0] = v[0].real
    result[1::2], result[2::2] = 2 * v[1 : kept + 1].real, -2 * v[1 : kept + 1].imag
    return result


def rounded(coefficients: Array, quantum: float = 2.0**-46) -> Array:
    """Multiples of `quantum`, so that the file compresses; without trailing zeros along coordinates."""
    result = np.round(coefficients / quantum) * quantum + 0.0
    for axis in range(result.ndim - 1):
        others = tuple(i for i in range(result.ndim) if i != axis)
        last = np.flatnonzero(np.abs(result).max(axis=others))[-1]
        result = np.take(result, np.arange(last + 1), axis=axis)
    return result


def save(
    name: str,
    coefficients: Array,
    kinds: Sequence[str],
    bounds: Sequence[tuple[float, float]],
    tolerance: float,
    method: str,
) -> None:
    """Write what `sngd.problems.reference` reads."""
    path = FOLDER / f"{name}.npz"
    np.savez_compressed(
        path,
        coefficients=coefficients,
        kinds=np.array(kinds),
        bounds=np.array(bounds, dtype=np.float64),
        tolerance=np.float64(tolerance),
        method=np.array(method),
    )
    print(
        f"{name}: shape {coefficients.shape}, tolerance {tolerance:.1e}, {path.stat().st_size / 1e3:.0f} kB"
    )
