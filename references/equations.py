"""The equations of evolution, as they stand in sngd/problems."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from references.evolution import Evolution
from references.spectral import Array, Nonlinear
from sngd.problems.allen_cahn import kink


def _advection(factor: float) -> Callable[[Array, Array], Nonlinear]:
    """N = −factor u u_x, on the lower two thirds of the wave numbers."""

    def nonlinear(k: Array, grid: Array) -> Nonlinear:
        size = len(grid)
        scaled = -0.5j * factor * k * (np.arange(len(k)) <= size // 3) * size
        return lambda v, t: scaled * np.fft.rfft(np.fft.irfft(v, size) ** 2)

    return nonlinear


def kdv(dispersion: float = 0.0025) -> Evolution:
    """u_t + u u_x + δ u_xxx = 0 with u(x, 0) = cos πx."""
    return Evolution(
        (-1, 1),
        1.0,
        lambda k: 1j * dispersion * k**3,
        _advection(1.0),
        lambda x: np.cos(np.pi * x)[None],
    )


def kuramoto_sivashinsky(until: float) -> Evolution:
    """u_t + α u u_x + β u_xx + γ u_xxxx = 0 with u(x, 0) = cos x (1 + sin x)."""
    alpha, beta, gamma = 100 / 16, 100 / 16**2, 100 / 16**4
    return Evolution(
        (0, 2 * np.pi),
        until,
        lambda k: beta * k**2 - gamma * k**4,
        _advection(alpha),
        lambda x: (np.cos(x) * (1 + np.sin(x)))[None],
    )


def schroedinger(images: int = 6) -> Evolution:
    """The equation i h_t + h_xx/2 + |h|² h = 0 with h(x, 0) = Σ 2 sech(x − 10 m), |m| ≤ images."""

    def start(x: Array) -> Array:
        centres = 10 * np.arange(-images, images + 1)
        return (2 / np.cosh(x[None] - centres[:, None])).sum(0, keepdims=True).astype(np.complex128)

    def nonlinear(k: Array, grid: Array) -> Nonlinear:
        size = len(grid)
        factor = 1j * (np.abs(k) <= np.abs(k).max() / 2)

        def cubic(v: Array, t: float) -> Array:
            h = np.fft.ifft(v * size)
            return factor * np.fft.fft(h * np.abs(h) ** 2) / size

        return cubic

    return Evolution((-5, 5), np.pi / 2, lambda k: -0.5j * k**2, nonlinear, start)


def allen_cahn() -> Evolution:
    """u_t = 1e-4 u_xx + 5 (u − u³), u(x, 0) = x² cos πx, for u less the kink that starts at the seam."""

    def singular(x: Array, t: float) -> Array:
        return kink(torch.from_numpy(x), torch.full((), t, dtype=torch.float64)).numpy()[None]

    def start(x: Array) -> Array:
        return x**2 * np.cos(np.pi * x) - singular(x, 0.0)

    def nonlinear(k: Array, grid: Array) -> Nonlinear:
        size = len(grid)
        known: dict[float, Array] = {}

        def reaction(v: Array, t: float) -> Array:
            if t not in known:  # two stages of a step share their time
                known.clear()
                known[t] = singular(grid, t)
            u = np.fft.irfft(v * size, size) + known[t]
            return np.fft.rfft(5 * (u - u**3) + 10 * known[t]) / size

        return reaction

    return Evolution((-1, 1), 1.0, lambda k: -1e-4 * k**2, nonlinear, start)


def gray_scott() -> Evolution:
    """u_t = u_xx/50 + 4 (1 − u) − 100 u v², v_t = v_xx/100 − 10 v + 100 u v²."""

    def start(x: Array) -> Array:
        pulse = np.exp(-20 * np.sin(np.pi * x / 2) ** 2)
        return np.stack([1 - pulse / 2, pulse / 4])

    def nonlinear(k: Array, grid: Array) -> Nonlinear:
        size = len(grid)

        def reaction(v: Array, t: float) -> Array:
            a, b = np.fft.irfft(v * size, size)
            meeting = 100 * a * b * b
            return np.fft.rfft(np.stack([4 - meeting, meeting])) / size

        return reaction

    def linear(k: Array) -> Array:
        return np.stack([-(k**2) / 50 - 4, -(k**2) / 100 - 10])

    return Evolution((-1, 1), 1.0, linear, nonlinear, start)
