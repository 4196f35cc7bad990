"""Equations of evolution on a periodic interval, each solved twice: the finer run is stored, the difference stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from references.spectral import Array, Nonlinear, chebyshev, fourier, lobatto, march, rounded, save
from sngd.problems.allen_cahn import kink
from sngd.problems.reference import Reference


@dataclass(frozen=True)
class Evolution:
    """One equation v_t = L v + N(v, t) on [low, high].

    Args:
        bounds: (low, high) of x.
        until: last time.
        linear: wave numbers k → L.
        nonlinear: (k, grid) → N on numpy's rfft (or fft) coefficients divided by the number of nodes.
        start: grid → initial values, real (one field) or complex (two).
    """

    bounds: tuple[float, float]
    until: float
    linear: Callable[[Array], Array]
    nonlinear: Callable[[Array, Array], Nonlinear]
    start: Callable[[Array], Array]

    def grid(self, size: int) -> Array:
        """Equidistant nodes."""
        low, high = self.bounds
        return low + (high - low) * np.arange(size) / size

    def run(self, size: int, times: Array, longest: float, least: int) -> Array:
        """Values of all fields at nodes and times, (times, size, fields).

        Steps are `longest` at most, and no longer than t/least either: solutions may start from a kink.
        """
        x = self.grid(size)
        first = self.start(x)
        low, high = self.bounds
        is_complex = np.iscomplexobj(first)
        waves = np.fft.fftfreq(size, 1 / size) if is_complex else np.arange(size // 2 + 1.0)
        k = 2 * np.pi / (high - low) * waves
        v = np.fft.fft(first) / size if is_complex else np.fft.rfft(first) / size
        between = np.unique(np.concatenate([times, self.until * 2.0 ** -np.arange(1, 31)]))
        states = np.array(march(self.linear(k), self.nonlinear(k, x), v, between, longest, least))
        states = states[np.isin(between, times)]
        if is_complex:
            values = np.fft.ifft(states * size)
            return np.stack([values.real, values.imag], -1)
        return np.fft.irfft(states * size, size)[..., None]


@dataclass(frozen=True)
class Resolution:
    """How finely an equation is solved and stored.

    Args:
        size: nodes in space of the coarse run.
        longest: longest step of the coarse run.
        kept: wave numbers stored.
        degree: of the polynomials in time.
        root: whether they are polynomials in √t.
        least: smallest number of steps between two stored times.
    """

    size: int
    longest: float
    kept: int
    degree: int
    root: bool = False
    least: int = 1


def store(name: str, case: Evolution, r: Resolution, equation: str) -> None:
    """Solve with steps h on `size` nodes and with h/2 on twice as many, store the second run.

    The tolerance is the largest difference between the two, and between the second run and the stored series, at
    times between the nodes of the series too; relative to the largest value.
    """
    nodes = case.until * lobatto(r.degree, 0.0, 1.0) ** (2 if r.root else 1)
    between = case.until * np.random.default_rng(0).uniform(0, 1, 16) ** (2 if r.root else 1)
    times = np.unique(np.concatenate([nodes, between]))
    coarse = case.run(r.size, times, r.longest, r.least)
    fine = case.run(2 * r.size, times, r.longest / 2, 2 * r.least)
    largest = np.abs(fine).max()
    refinement = np.abs(fine[:, ::2] - coarse).max() / largest

    in_time = chebyshev(fine[np.isin(times, nodes)])  # (M + 1, 2 size, fields)
    spectrum = np.fft.rfft(np.moveaxis(in_time, 0, 1), axis=0) / (2 * r.size)
    coefficients = rounded(fourier(spectrum, r.kept))
    kinds = ("fourier", "chebyshev of root" if r.root else "chebyshev")
    bounds = (case.bounds, (0.0, case.until))
    stored = Reference(torch.from_numpy(coefficients), kinds, bounds, 0.0, "")
    t, x = (torch.from_numpy(a.ravel()) for a in np.meshgrid(times, case.grid(2 * r.size), indexing="ij"))
    series = torch.stack(stored(x, t), -1).numpy().reshape(fine.shape)
    representation = np.abs(series - fine).max() / largest
    print(f"{name}: between refinements {refinement:.1e}, series against run {representation:.1e}")
    method = (
        f"{equation}. Fourier in space, ETDRK4 in time; {2 * r.size} nodes and steps of at most {r.longest / 2:g}, "
        f"compared with {r.size} nodes and twice the step: largest difference {refinement:.1e}; stored with {r.kept} "
        f"wave numbers and degree {r.degree} in time{' (of its root)' if r.root else ''}: {representation:.1e}; both "
        "relative to the largest value."
    )
    save(name, coefficients, kinds, bounds, max(refinement, representation), method)


def kdv(dispersion: float) -> Evolution:
    """u_t + u u_x + δ u_xxx = 0 with u(x, 0) = cos πx."""

    def nonlinear(k: Array, grid: Array) -> Nonlinear:
        size = len(grid)
        factor = -0.5j * k * (np.arange(len(k)) <= size // 3) * size
        return lambda v, t: factor * np.fft.rfft(np.fft.irfft(v, size) ** 2)

    return Evolution((-1, 1), 1.0, lambda k: 1j * dispersion * k**3, nonlinear, lambda x: np.cos(np.pi * x))


def schroedinger(images: int) -> Evolution:
    """i h_t + h_xx/2 + |h|² h = 0 with h(x, 0) = Σ_{|m| ≤ images} 2 sech(x − 10 m)."""

    def start(x: Array) -> Array:
        return sum(2 / np.cosh(x - 10 * m) for m in range(-images, images + 1)).astype(np.complex128)

    def nonlinear(k: Array, grid: Array) -> Nonlinear:
        size = len(grid)
        factor = 1j * (np.abs(k) <= np.abs(k).max() / 2)

        def cubic(v: Array, t: float) -> Array:
            h = np.fft.ifft(v * size)
            return factor * np.fft.fft(h * np.abs(h) ** 2) / size

        return cubic

    return Evolution((-5, 5), np.pi / 2, lambda k: -0.5j * k**2, nonlinear, start)


def allen_cahn() -> Evolution:
    """u_t = 1e-4 u_xx + 5 (u − u³), u(x, 0) = x² cos πx, for u less the kink that the seam sends out."""

    def singular(x: Array, t: float) -> Array:
        return kink(torch.from_numpy(x), torch.full((), t, dtype=torch.float64)).numpy()

    def start(x: Array) -> Array:
        return x**2 * np.cos(np.pi * x) - singular(x, 0.0)

    def nonlinear(k: Array, grid: Array) -> Nonlinear:
        size = len(grid)
        past: dict[float, Array] = {}

        def reaction(v: Array, t: float) -> Array:
            if t not in past:
                past.clear()
                past[t] = singular(grid, t)
            u = np.fft.irfft(v * size, size) + past[t]
            return np.fft.rfft(5 * (u - u**3) + 10 * past[t]) / size

        return reaction

    return Evolution((-1, 1), 1.0, lambda k: -1e-4 * k**2, nonlinear, start)


def kuramoto_sivashinsky(alpha: float, beta: float, gamma: float, until: float) -> Evolution:
    """u_t + α u u_x + β u_xx + γ u_xxxx = 0 with u(x, 0) = cos x (1 + sin x)."""

    def nonlinear(k: Array, grid: Array) -> Nonlinear:
        size = len(grid)
        factor = -0.5j * alpha * k * (np.arange(len(k)) <= size // 3) * size
        return lambda v, t: factor * np.fft.rfft(np.fft.irfft(v, size) ** 2)

    def linear(k: Array) -> Array:
        return beta * k**2 - gamma * k**4

    def start(x: Array) -> Array:
        return np.cos(x) * (1 + np.sin(x))

    return Evolution((0, 2 * np.pi), until, linear, nonlinear, start)
