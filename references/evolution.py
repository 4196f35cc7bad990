"""Evolution on a periodic interval, solved twice: the finer run is stored, with the difference.

Letters
    k        wave numbers
    v        Fourier coefficients, (fields, k)
    h        step
    M        degree in time
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from references.spectral import Array, Nonlinear, chebyshev, fourier, lobatto, march, rounded, save
from sngd.problems.reference import Reference


@dataclass(frozen=True)
class Evolution:
    """An equation v_t = L v + N(v, t) on a periodic interval.

    Args:
        bounds: (low, high) of x.
        until: last time.
        linear: wave numbers k → L, that broadcasts over (fields, k).
        nonlinear: (k, grid) → N on the coefficients of numpy's rfft (fft for complex fields) over the number
            of nodes.
        start: grid → initial values (fields, nodes); a complex field counts as two in the file.
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

    def run(self, size: int, times: Array, longest: float, least: int = 1) -> Array:
        """Values of all fields at nodes and times, (times, size, fields).

        Steps are `longest` at most; `least` of them or more lie between t/2 and t: solutions may start from
        a kink.
        """
        x = self.grid(size)
        first = self.start(x)
        is_complex = np.iscomplexobj(first)
        waves = np.fft.fftfreq(size, 1 / size) if is_complex else np.arange(size // 2 + 1.0)
        k = 2 * np.pi / (self.bounds[1] - self.bounds[0]) * waves
        v = (np.fft.fft(first) if is_complex else np.fft.rfft(first)) / size
        stops = np.unique(np.concatenate([times, self.until * 2.0 ** -np.arange(1, 31)]))
        states = np.array(march(self.linear(k), self.nonlinear(k, x), v, stops, longest, least))
        states = states[np.isin(stops, times)] * size
        if is_complex:
            values = np.fft.ifft(states)
            values = np.concatenate([values.real, values.imag], 1)
        else:
            values = np.fft.irfft(states, size)
        return np.moveaxis(values, 1, 2)


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

    The tolerance is the largest difference between the two runs or between the second one and the stored
    series, at times between the nodes of the series too; relative to the largest value.
    """
    power = 2 if r.root else 1
    nodes = case.until * lobatto(r.degree, 0.0, 1.0) ** power
    between = case.until * np.random.default_rng(0).uniform(0, 1, 16) ** power
    times = np.unique(np.concatenate([nodes, between]))
    coarse = case.run(r.size, times, r.longest, r.least)
    fine = case.run(2 * r.size, times, r.longest / 2, 2 * r.least)
    largest = np.abs(fine).max()
    refinement = np.abs(fine[:, ::2] - coarse).max() / largest

    in_time = chebyshev(fine[np.isin(times, nodes)])  # (M + 1, nodes, fields)
    spectrum = np.fft.rfft(np.moveaxis(in_time, 0, 1), axis=0) / (2 * r.size)
    coefficients = rounded(fourier(spectrum, r.kept))
    kinds = ("fourier", "chebyshev of root" if r.root else "chebyshev")
    bounds = (case.bounds, (0.0, case.until))
    stored = Reference(torch.from_numpy(coefficients), kinds, bounds, 0.0, "")
    t, x = (torch.from_numpy(a.ravel()) for a in np.meshgrid(times, case.grid(2 * r.size), indexing="ij"))
    series = torch.stack(stored(x, t), -1).numpy().reshape(fine.shape)
    representation = np.abs(series - fine).max() / largest

    method = (
        f"{equation}. Fourier in space, ETDRK4 in time: {2 * r.size} nodes, steps of at most "
        f"{r.longest / 2:g}; {r.size} nodes and twice the step differ by {refinement:.1e}. Stored with "
        f"{r.kept} wave numbers and degree {r.degree} in {'the root of ' if r.root else ''}time, to "
        f"{representation:.1e}. Both relative to the largest value."
    )
    save(name, coefficients, kinds, bounds, max(refinement, representation), method)
