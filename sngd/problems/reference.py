"""Reference solutions that the project computed itself, stored as coefficients of tensor-product series.

    u_f(x) = Σ_{i,j,…} C[i, j, …, f] B_i(x_1) B_j(x_2) …

Periodic axes carry the Fourier basis 1, cos k x̃, sin k x̃ with x̃ = 2π (x − low)/(high − low), other axes
(time among them) the Chebyshev polynomials T_j of z = (x − low)/(high − low) on [0, 1], or of √z where
diffusion starts from a kink. They are evaluated at scattered points exactly: there is no grid to interpolate
on. The programs that compute the files stand in the folder `references` of the repository.

Letters
    n        points
    d        coordinates
    C        coefficients, (m_1, …, m_d, fields)
    B        values of one axis' basis functions at the points, (n, m)
"""

from __future__ import annotations

from functools import cache
from math import tau
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

__all__ = ["Reference", "load_reference"]

_KINDS = {"fourier", "chebyshev", "chebyshev of root"}
_FOLDER = Path(__file__).parent / "data"

# Numbers that the contraction over one chunk of points holds at once: 64 MB.
_BUDGET = 1 << 23


class Reference:
    """A stored solution; call it on coordinates for the fields there.

    Args:
        coefficients: C, float64.
        kinds: "fourier", "chebyshev" or "chebyshev of root" for each axis.
        bounds: (d, 2) low and high of each axis.
        tolerance: observed error relative to the size of the solution: between the last two refinements, or
            between the last one and this series if that is larger; `method` says in which norm.
        method: how it was computed and checked.
    """

    def __init__(
        self,
        coefficients: Tensor,
        kinds: tuple[str, ...],
        bounds: tuple[tuple[float, float], ...],
        tolerance: float,
        method: str,
    ) -> None:
        self.kinds, self.bounds, self.tolerance, self.method = kinds, bounds, tolerance, method
        # Symmetric solutions leave half of the Fourier functions without a coefficient.
        self._used: list[Tensor] = []
        for axis in range(len(kinds)):
            others = [i for i in range(coefficients.ndim) if i != axis]
            used = coefficients.abs().amax(others).nonzero()[:, 0]
            coefficients = coefficients.index_select(axis, used)
            self._used.append(used)
        self.coefficients = coefficients

    def __call__(self, *coordinates: Tensor) -> tuple[Tensor, ...]:
        """The fields at points, one tensor (n,) for each, on the device and of the dtype of the points.

        Args:
            coordinates: one tensor (n,) for each axis; sums are taken in float64.

        Raises:
            ValueError: another number of coordinates than the solution has axes.
        """
        if len(coordinates) != len(self.kinds):
            raise ValueError(
                f"this reference has {len(self.kinds)} axes, it was called with {len(coordinates)}"
            )
        first = coordinates[0]
        c = self.coefficients.to(first.device)
        widest = max(sum(c.shape[:-1]), c[0].numel())
        step = max(1, _BUDGET // widest)
        parts = zip(*(x.double().split(step) for x in coordinates), strict=True)
        fields = (
            torch.cat([self._evaluate(c, part) for part in parts])
            if len(first)
            else c.new_zeros(0, c.shape[-1])
        )
        return tuple(fields.to(first.dtype).unbind(1))

    def _evaluate(self, c: Tensor, coordinates: tuple[Tensor, ...]) -> Tensor:
        """(n, fields)."""
        n = len(coordinates[0])
        total = self._basis(0, coordinates[0]) @ c.reshape(c.shape[0], -1)
        for axis in range(1, len(coordinates)):
            basis = self._basis(axis, coordinates[axis])
            total = torch.bmm(basis[:, None, :], total.reshape(n, c.shape[axis], -1))[:, 0]
        return total

    def _basis(self, axis: int, x: Tensor) -> Tensor:
        """B, the used basis functions of one axis."""
        low, high = self.bounds[axis]
        used = self._used[axis].to(x.device)
        z = (x - low) / (high - low)
        if self.kinds[axis] != "fourier":
            z = z if self.kinds[axis] == "chebyshev" else z.clamp_min(0).sqrt()
            return torch.cos(torch.arccos((2 * z - 1).clamp(-1, 1))[:, None] * used)
        phase = tau * z
        wave, is_sine = (used + 1) // 2, (used % 2 == 0) & (used > 0)
        return torch.sin(phase[:, None] * wave + (tau / 4) * (~is_sine).to(phase))


@cache
def load_reference(name: str) -> Reference:
    """The stored solution of that name.

    Raises:
        ValueError: there is no such file, or it cannot be read as a reference.
    """
    path = _FOLDER / f"{name}.npz"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.npz"))) or "none"
        raise ValueError(f"there is no reference solution {name!r} ({path}); known: {known}")
    try:
        with np.load(path, allow_pickle=False) as file:
            c = torch.from_numpy(file["coefficients"].astype(np.float64))
            kinds = tuple(str(kind) for kind in file["kinds"])
            bounds = tuple((float(low), float(high)) for low, high in file["bounds"])
            tolerance, method = float(file["tolerance"]), str(file["method"])
        fits = c.ndim == len(kinds) + 1 == len(bounds) + 1 and bool(c.isfinite().all()) and c.numel() > 0
        if not fits or not set(kinds) <= _KINDS:
            raise ValueError("its parts do not fit together")
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"the reference solution {name!r} ({path}) cannot be read: {error}; compute it anew with "
            f"`python -m references {name}` in the repository"
        ) from error
    return Reference(c, kinds, bounds, tolerance, method)
