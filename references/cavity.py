"""The lid-driven cavity: Legendre–Galerkin solution for the stream function by Newton's method.

    ∫ ω Δφ + Re ∫ ω (ψ_y φ_x − ψ_x φ_y) = 0 for all φ,   ω = Δψ,   ψ = known + Σ w_kl φ_k(s) φ_l(t)

with s = 2x − 1, t = 2y − 1 and φ_k the polynomials that vanish with their slopes at ±1 and whose second derivatives
are orthonormal (Shen, "Efficient spectral-Galerkin method I", SIAM J. Sci. Comput. 15, 1994). The known part carries
the lid: g(x) y² (y − 1) for a regularised lid g, the corners' flow for a uniform one. The pressure is the polynomial
whose gradient is closest to that of the momentum equations.

Letters
    N        polynomials φ in each direction
    G        Gauss–Legendre nodes in each direction
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb, factorial

import numpy as np
import torch
from numpy.polynomial import Polynomial, legendre

from references.spectral import Array, chebyshev, rounded, save
from sngd.problems.cavity import CORNER, REYNOLDS, corner_flow
from sngd.problems.reference import Reference

# (a, b) → ∂_x^a ∂_y^b of the known part of ψ on a grid x (n, 1), y (1, n)
Known = Callable[[int, int, Array, Array], Array]


def regularised(a: int, b: int, x: Array, y: Array) -> Array:
    """16 x² (1 − x)² · y² (y − 1)."""
    along = Polynomial([0, 0, 16, -32, 16]).deriv(a)
    up = Polynomial([0, 0, -1, 1]).deriv(b)
    return along(x) * up(y)


def uniform(a: int, b: int, x: Array, y: Array) -> Array:
    """The stream function of `sngd.problems.cavity.corner_flow`."""
    down = (-1) ** b
    return down * (_corner(a, b, x, 1 - y) + (-1) ** a * _corner(a, b, 1 - x, 1 - y))


def _corner(a: int, b: int, x: Array, y: Array) -> Array:
    """Derivatives of c(X) c(Y) (B Y + θ (C X + D Y)), by Leibniz's rule."""
    fade = Polynomial([1, 0, 0, -10, 15, -6])
    return sum(
        comb(a, i) * comb(b, j) * fade.deriv(a - i)(x) * fade.deriv(b - j)(y) * _stokes(i, j, x, y)
        for i in range(a + 1)
        for j in range(b + 1)
    )


def _stokes(a: int, b: int, x: Array, y: Array) -> Array:
    """Derivatives of B Y + θ (C X + D Y)."""

    def theta(i: int, j: int) -> Array:  # the imaginary part of log z
        if i < 0 or j < 0:
            return np.zeros_like(x * y)
        z = x + 1j * y
        m = i + j
        return np.imag(np.log(z) if m == 0 else 1j**j * (-1) ** (m - 1) * factorial(m - 1) / z**m)

    first, c, e = CORNER
    alone = first * y if (a, b) == (0, 0) else first * float((a, b) == (0, 1))
    return alone + (c * x + e * y) * theta(a, b) + a * c * theta(a - 1, b) + b * e * theta(a, b - 1)


def clamped(count: int, s: Array, order: int) -> Array:
    """∂_x^order of φ_0 … φ_{N−1} at s, (len(s), N)."""
    k = np.arange(count)
    c = np.zeros((count + 4, count))
    c[k, k] = 1
    c[k + 2, k] = -2 * (2 * k + 5) / (2 * k + 7)
    c[k + 4, k] = (2 * k + 3) / (2 * k + 7)
    c /= np.sqrt(2 * (2 * k + 3) ** 2 * (2 * k + 5))
    return 2.0**order * legendre.legval(s, legendre.legder(c, order)).T


class Cavity:
    """One lid, one resolution.

    Args:
        known: the known part of ψ.
        count: N.
        nodes: G.
    """

    def __init__(self, known: Known, count: int, nodes: int) -> None:
        self.known, self.count = known, count
        self.s, self.weights = legendre.leggauss(nodes)
        self.x = (self.s + 1) / 2
        self.phi = [clamped(count, self.s, order) for order in range(4)]
        self.w = self._newton()

    def _known(self, a: int, b: int) -> Array:
        return self.known(a, b, self.x[:, None], self.x[None])

    def derivative(self, a: int, b: int) -> Array:
        """∂_x^a ∂_y^b ψ at the nodes, (G, G)."""
        return self._known(a, b) + self.phi[a] @ self.w @ self.phi[b].T

    def _newton(self) -> Array:
        def full(a: int, b: int) -> Array:
            return np.kron(self.phi[a], self.phi[b])  # (G², N²)

        laplace, x, y = full(2, 0) + full(0, 2), full(1, 0), full(0, 1)
        w = np.outer(self.weights, self.weights).ravel()
        omega, u, v = (
            k.ravel() for k in (self._known(2, 0) + self._known(0, 2), self._known(0, 1), -self._known(1, 0))
        )
        coefficients = np.zeros(self.count**2)
        for _ in range(20):
            vorticity, along, up = omega + laplace @ coefficients, u + y @ coefficients, v - x @ coefficients
            sweep = (w * along)[:, None] * x + (w * up)[:, None] * y
            test = w[:, None] * laplace + REYNOLDS * sweep
            residual = test.T @ vorticity
            bent = REYNOLDS * (w * vorticity)[:, None]
            step = np.linalg.solve(test.T @ laplace + (bent * x).T @ y - (bent * y).T @ x, residual)
            coefficients -= step
            if np.abs(step).max() < 1e-12:
                return coefficients.reshape(self.count, self.count)
        raise FloatingPointError("Newton's method did not converge")

    def velocities(self) -> tuple[Array, Array]:
        """Chebyshev coefficients of u and v less the known part, (N + 4, N + 4)."""
        s = -np.cos(np.pi * np.arange(self.count + 4) / (self.count + 3))
        value, slope = clamped(self.count, s, 0), clamped(self.count, s, 1)
        return _transform(value @ self.w @ slope.T), _transform(-slope @ self.w @ value.T)

    def pressure(self, known_gradient: tuple[Array, Array]) -> Array:
        """Chebyshev coefficients of p less a known part, up to a constant, (N + 4, N + 4)."""
        dpsi = self.derivative
        u, v = dpsi(0, 1), -dpsi(1, 0)
        force = [
            (dpsi(2, 1) + dpsi(0, 3)) / REYNOLDS - u * dpsi(1, 1) - v * dpsi(0, 2) - known_gradient[0],
            -(dpsi(3, 0) + dpsi(1, 2)) / REYNOLDS + u * dpsi(2, 0) + v * dpsi(1, 1) - known_gradient[1],
        ]
        size = self.count + 4
        value = legendre.legvander(self.s, size - 1)
        slope = 2 * legendre.legval(self.s, legendre.legder(np.eye(size))).T
        weighted = [self.weights[:, None] * m for m in (value, slope)]
        mass, stiff = value.T @ weighted[0], slope.T @ weighted[1]
        matrix = np.kron(stiff, mass) + np.kron(mass, stiff)
        load = weighted[1].T @ force[0] @ weighted[0] + weighted[0].T @ force[1] @ weighted[1]
        coefficients = np.zeros(size**2)
        coefficients[1:] = np.linalg.solve(matrix[1:, 1:], load.ravel()[1:])
        nodes = legendre.legvander(-np.cos(np.pi * np.arange(size) / (size - 1)), size - 1)
        return _transform(nodes @ coefficients.reshape(size, size) @ nodes.T)


def _transform(values: Array) -> Array:
    return chebyshev(chebyshev(values).T).T


def _corner_pressure_gradient(x: Array, y: Array) -> tuple[Array, Array]:
    grid = [torch.tensor(a, requires_grad=True) for a in np.broadcast_arrays(x, y)]
    slopes = torch.autograd.grad(corner_flow(grid[0], grid[1])[2].sum(), grid)
    return slopes[0].numpy(), slopes[1].numpy()


def _coefficients(lid: str, count: int, nodes: int) -> Array:
    """(m, m, 3) of u, v, p, for a uniform lid less the corners' flow; p = 0 at x = y = 0."""
    cavity = Cavity(uniform if lid == "uniform" else regularised, count, nodes)
    x, y = cavity.x[:, None], cavity.x[None]
    size = count + 4
    if lid == "uniform":
        p = cavity.pressure(_corner_pressure_gradient(x, y))
        u, v = cavity.velocities()
    else:
        p = cavity.pressure((np.zeros_like(x * y), np.zeros_like(x * y)))
        u, v = cavity.velocities()
        grid = (1 - np.cos(np.pi * np.arange(size) / (size - 1))) / 2
        u = u + _transform(regularised(0, 1, grid[:, None], grid[None]))
        v = v - _transform(regularised(1, 0, grid[:, None], grid[None]))
    sign = (-1.0) ** np.arange(size)
    p[0, 0] -= sign @ p @ sign
    return np.stack([u, v, p], -1)


def store(lid: str, coarse: int = 28, fine: int = 40, nodes: int = 88) -> None:
    """Solve with two numbers of polynomials and store the second flow.

    The tolerance is the root mean square of the difference, over 10,000 points of the interior, relative to the
    root mean square of each field; the largest of the three.
    """
    x, y = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (2, 10_000)))
    flows, stored = [], np.zeros(0)
    for count in (coarse, fine):
        stored = rounded(_coefficients(lid, count, nodes))
        reference = Reference(torch.from_numpy(stored), ("chebyshev",) * 2, ((0, 1),) * 2, 0.0, "")
        flow = torch.stack(reference(x, y))
        flows.append(flow + torch.stack(corner_flow(x, y)) if lid == "uniform" else flow)
    errors = ((flows[1] - flows[0]).norm(dim=1) / flows[1].norm(dim=1)).tolist()
    largest = (flows[1] - flows[0]).abs().amax(1).tolist()
    named = ", ".join(
        f"{n} {e:.1e} (largest {m:.1e})" for n, e, m in zip("uvp", errors, largest, strict=True)
    )
    method = (
        f"Steady flow at Re 100 under a {lid} lid{', less the flow of the corners' if lid == 'uniform' else ''}. "
        f"Legendre-Galerkin for the stream function with {fine}^2 polynomials on {nodes}^2 Gauss nodes, Newton's "
        f"method; {coarse}^2 polynomials differ by {named}, root mean squares relative to each field's."
    )
    save(f"cavity_{lid}", stored, ("chebyshev",) * 2, ((0, 1),) * 2, max(errors), method)
    print(method)
