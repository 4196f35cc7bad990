"""The lid-driven cavity: Legendre–Galerkin solution for the stream function by Newton's method.

    ∫ ω Δφ + Re ∫ ω (ψ_y φ_x − ψ_x φ_y) = 0 for all φ,   ω = Δψ,   ψ = known + Σ w_kl φ_k(s) φ_l(t)

with s = 2x − 1, t = 2y − 1 and φ_k the polynomials that vanish with their slopes at ±1 and whose second
derivatives are orthonormal (Shen, "Efficient spectral-Galerkin method I", SIAM J. Sci. Comput. 15, 1994). The
known part carries the lid: g(x) y² (y − 1) for a regularised lid g, the corners' flow for a uniform one. The
pressure is the polynomial whose gradient is closest to that of the momentum equations, in a weighted norm.

Letters
    N        polynomials φ in each direction
    G        Gauss–Legendre nodes in each direction
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb, factorial, perm

import numpy as np
import torch
from numpy.polynomial import Polynomial, legendre

from references.spectral import Array, chebyshev, rounded, save
from sngd.problems.cavity import REYNOLDS
from sngd.problems.corner import INERTIA, STOKES, corner_flow
from sngd.problems.reference import Reference

# (a, b) → ∂_x^a ∂_y^b of the known part of ψ on a grid x (n, 1), y (1, n)
Known = Callable[[int, int, Array, Array], Array]


def regularised(a: int, b: int, x: Array, y: Array) -> Array:
    """16 x² (1 − x)² · y² (y − 1)."""
    along = Polynomial([0, 0, 16, -32, 16]).deriv(a)
    up = Polynomial([0, 0, -1, 1]).deriv(b)
    return along(x) * up(y)


def uniform(a: int, b: int, x: Array, y: Array) -> Array:
    """The stream function of `sngd.problems.corner.corner_flow`."""
    left, right = _corner(a, b, x, 1 - y, REYNOLDS), _corner(a, b, 1 - x, 1 - y, -REYNOLDS)
    return (-1) ** b * (left + (-1) ** a * right)


def _corner(a: int, b: int, x: Array, y: Array, reynolds: float) -> Array:
    """Derivatives of one corner's stream function, by Leibniz's rule."""
    fade = Polynomial([1, 0, 0, -10, 15, -6])
    return sum(
        comb(a, i) * comb(b, j) * fade.deriv(a - i)(x) * fade.deriv(b - j)(y) * _plain(i, j, x, y, reynolds)
        for i in range(a + 1)
        for j in range(b + 1)
    )


def _plain(a: int, b: int, x: Array, y: Array, reynolds: float) -> Array:
    """Derivatives of r f(θ) + reynolds r² F(θ), polynomials of degree 2 in X, Y and θ."""
    first, c, d = STOKES
    q = [reynolds * k for k in INERTIA]
    # coefficients of X^i Y^j in the factors of 1, θ, θ²
    factors = (
        {(0, 1): first, (2, 0): q[0] + q[2], (0, 2): q[0] - q[2], (1, 1): 2 * q[5]},
        {(1, 0): c, (0, 1): d, (2, 0): q[1] + q[3], (0, 2): q[1] - q[3], (1, 1): 2 * q[6]},
        {(2, 0): q[4], (0, 2): -q[4], (1, 1): 2 * q[7]},
    )

    def polynomial(power: int, i: int, j: int) -> Array:
        return sum(
            k * perm(m, i) * perm(n, j) * x ** max(m - i, 0) * y ** max(n - j, 0)
            for (m, n), k in factors[power].items()
        )

    return sum(
        comb(a, i) * comb(b, j) * polynomial(power, a - i, b - j) * _angle(power, i, j, x, y)
        for power in range(3)
        for i in range(a + 1)
        for j in range(b + 1)
    )


def _angle(power: int, a: int, b: int, x: Array, y: Array) -> Array:
    """Derivatives of 1, θ or θ²; θ is the imaginary part of log z."""
    if power == 0:
        return np.full_like(x * y, float(a == b == 0))
    if power == 2:
        return sum(
            comb(a, i) * comb(b, j) * _angle(1, i, j, x, y) * _angle(1, a - i, b - j, x, y)
            for i in range(a + 1)
            for j in range(b + 1)
        )
    z, order = x + 1j * y, a + b
    return np.imag(np.log(z) if order == 0 else 1j**b * (-1) ** (order - 1) * factorial(order - 1) / z**order)


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

    def _weight(self) -> list[tuple[Array, Array]]:
        """The squared distances from the lid's corners, multiplied, as a sum of products in x and in y.

        A uniform lid's pressure has a logarithm there, of which no polynomial comes close in the norm of its
        gradient alone.
        """
        left, right, down = self.x**2, (1 - self.x) ** 2, (1 - self.x) ** 2
        return [(left * right, 1 + 0 * down), (left + right, down), (1 + 0 * left, down**2)]

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
        matrix, load = np.zeros((size**2, size**2)), np.zeros((size, size))
        for along, up in self._weight():
            values = [(self.weights * w)[:, None] * value for w in (along, up)]
            slopes = [(self.weights * w)[:, None] * slope for w in (along, up)]
            matrix += np.kron(slope.T @ slopes[0], value.T @ values[1])
            matrix += np.kron(value.T @ values[0], slope.T @ slopes[1])
            load += slopes[0].T @ force[0] @ values[1] + values[0].T @ force[1] @ slopes[1]
        coefficients = np.zeros(size**2)
        coefficients[1:] = np.linalg.solve(matrix[1:, 1:], load.ravel()[1:])
        nodes = legendre.legvander(-np.cos(np.pi * np.arange(size) / (size - 1)), size - 1)
        return _transform(nodes @ coefficients.reshape(size, size) @ nodes.T)


def _transform(values: Array) -> Array:
    return chebyshev(chebyshev(values).T).T


def _corner_pressure_gradient(x: Array, y: Array) -> tuple[Array, Array]:
    grid = [torch.tensor(a, requires_grad=True) for a in np.broadcast_arrays(x, y)]
    slopes = torch.autograd.grad(corner_flow(grid[0], grid[1], REYNOLDS)[2].sum(), grid)
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

    The tolerance is the root mean square of the difference, over 10,000 points of the interior, relative to
    the root mean square of each field; the largest of the three.
    """
    x, y = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (2, 10_000)))
    flows, stored = [], np.zeros(0)
    for count in (coarse, fine):
        stored = rounded(_coefficients(lid, count, nodes))
        reference = Reference(torch.from_numpy(stored), ("chebyshev",) * 2, ((0, 1),) * 2, 0.0, "")
        flow = torch.stack(reference(x, y))
        flows.append(flow + torch.stack(corner_flow(x, y, REYNOLDS)) if lid == "uniform" else flow)
    errors = ((flows[1] - flows[0]).norm(dim=1) / flows[1].norm(dim=1)).tolist()
    largest = (flows[1] - flows[0]).abs().amax(1).tolist()
    named = ", ".join(
        f"{n} {e:.1e} (largest {m:.1e})" for n, e, m in zip("uvp", errors, largest, strict=True)
    )
    less = ", less the flow of the corners" if lid == "uniform" else ""
    method = (
        f"Steady flow at Re 100 under a {lid} lid{less}. Legendre-Galerkin for the stream function with "
        f"{fine}^2 polynomials on {nodes}^2 Gauss nodes, Newton's method; {coarse}^2 polynomials differ by "
        f"{named}, root mean squares relative to each field's."
    )
    save(f"cavity_{lid}", stored, ("chebyshev",) * 2, ((0, 1),) * 2, max(errors), method)
    print(method)
