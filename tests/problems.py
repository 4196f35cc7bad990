"""Small problems, each written twice: with jets for the package, with nested autograd for the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from sngd.calculus import biharmonic, d, laplacian
from sngd.coefficient import Coefficient
from sngd.composite import build_network
from sngd.condition import Condition
from sngd.domain import Box
from sngd.modules import Module
from sngd.networks import MLP, NetworkConfig
from sngd.problem import Problem
from sngd.residual import Collocation
from tests.reference import NaiveResidual, partial


@dataclass(frozen=True)
class Case:
    """A problem, its residuals once more by nested autograd (one per condition), and a small network."""

    problem: Problem
    naive: tuple[NaiveResidual, ...]
    network: NetworkConfig | Module | Mapping[str, NetworkConfig]

    def collocation(self, chunk: int | None = None, seed: int = 0, **split: int) -> Collocation:
        """All points, or of `ranks` equal shards the one of `rank`."""
        rank, ranks = split.get("rank", 0), split.get("ranks", 1)
        points = [
            c.region.sample(
                c.points * rank // ranks, c.points * (rank + 1) // ranks, (seed, 0, i), c.sampling
            )
            for i, c in enumerate(self.problem.conditions)
        ]
        weights = torch.tensor([c.weight for c in self.problem.conditions], dtype=torch.float64)
        network = build_network(self.problem, self.network, seed)
        return Collocation(self.problem, network, points, weights, chunk)


def parameters(collocation: Collocation, seed: int = 0) -> Tensor:
    """θ (P,) with biases that are not zero, so that no test passes because of them."""
    generator = torch.Generator().manual_seed(seed)
    initial = collocation.network.initial
    return initial + 0.2 * torch.randn(len(initial), generator=generator, dtype=initial.dtype)


def heat(points: int = 24) -> Case:
    """u_t = u_xx/4 on [0, 1]², u(x, 0) = sin πx, u = 0 at the walls."""
    domain = Box(x=(0, 1), t=(0, 1))
    X, T = domain.axes
    conditions = [
        Condition("equation", lambda u, p: d(u, T) - 0.25 * d(u, X, X), domain.interior, points),
        Condition("initial", lambda u, p: u - torch.sin(pi * p[X]), domain.face(t=0), points // 4 + 1),
        Condition("walls", lambda u, p: u, domain.boundary("x"), points // 4, weight=2.0),
    ]
    naive = (
        lambda u, x: [partial(u[0], x, 1) - 0.25 * partial(u[0], x, 0, 0)],
        lambda u, x: [u[0] - torch.sin(pi * x[:, 0])],
        lambda u, x: [u[0]],
    )
    return Case(Problem(domain, conditions, name="heat"), naive, MLP((8, 8)))


def poisson(points: int = 24) -> Case:
    """−Δu = 2π² sin πx sin πy on [0, 1]², u = 0 on the boundary; a collapsed Laplacian."""
    domain = Box(x=(0, 1), y=(0, 1))
    X, Y = domain.axes

    def equation(u, p):
        return laplacian(u) + 2 * pi**2 * torch.sin(pi * p[X]) * torch.sin(pi * p[Y])

    def naive(u, x):
        source = 2 * pi**2 * torch.sin(pi * x[:, 0]) * torch.sin(pi * x[:, 1])
        return [partial(u[0], x, 0, 0) + partial(u[0], x, 1, 1) + source]

    conditions = [
        Condition("equation", equation, domain.interior, points),
        Condition("boundary", lambda u, p: u, domain.boundary(), points // 2, weight=3.0),
    ]
    return Case(Problem(domain, conditions, name="poisson"), (naive, lambda u, x: [u[0]]), MLP((8, 7)))


def diffusion(points: int = 24) -> Case:
    """u_t = Δu/4 + |∇u|² in seven coordinates, time amid them; u = Σ x_i at t = 0."""
    domain = Box(x1=(-1, 1), x2=(0, 1), x3=(0, 2), t=(0, 1), x5=(-1, 1), x6=(0, 1), x7=(0, 1))
    space, T = [axis for axis in domain.axes if axis.name != "t"], domain.axes[3]

    def equation(u, p):
        return d(u, T) - laplacian(u, space) / 4 - sum(d(u, axis) ** 2 for axis in space)

    def naive(u, x):
        parts = [partial(u[0], x, i, i) / 4 + partial(u[0], x, i) ** 2 for i in (0, 1, 2, 4, 5, 6)]
        return [partial(u[0], x, 3) - sum(parts)]

    conditions = [
        Condition("equation", equation, domain.interior, points, sampling="uniform"),
        Condition("initial", lambda u, p: u - sum(p[a] for a in space), domain.face(t=0), points // 3),
    ]
    initial = lambda u, x: [u[0] - x[:, [0, 1, 2, 4, 5, 6]].sum(1)]  # noqa: E731
    return Case(Problem(domain, conditions, name="diffusion"), (naive, initial), MLP((8, 6)))


def nonlinear(points: int = 24) -> Case:
    """−u″ + u³ = π² cos πx + cos³ πx on [−1, 1], u′ = 0 at the ends."""
    domain = Box(x=(-1, 1))
    (X,) = domain.axes

    def equation(u, p):
        exact = torch.cos(pi * p[X])
        return -d(u, X, X) + u**3 - (pi**2 * exact + exact**3)

    def naive(u, x):
        exact = torch.cos(pi * x[:, 0])
        return [-partial(u[0], x, 0, 0) + u[0] ** 3 - pi**2 * exact - exact**3]

    conditions = [
        Condition("equation", equation, domain.interior, points),
        Condition("ends", lambda u, p: d(u, X), domain.boundary(), points // 4),
    ]
    ends = lambda u, x: [partial(u[0], x, 0)]  # noqa: E731
    return Case(Problem(domain, conditions, name="nonlinear"), (naive, ends), MLP((10, 10)))


def transport(points: int = 24) -> Case:
    """u_t + 30 u_x = 0 on the circle, u(x, 0) = sin x."""
    domain = Box(x=(0, 2 * pi), t=(0, 1), periodic="x")
    X, T = domain.axes
    conditions = [
        Condition("equation", lambda u, p: d(u, T) + 30 * d(u, X), domain.interior, points),
        Condition("initial", lambda u, p: u - torch.sin(p[X]), domain.face(t=0), points // 3),
    ]
    naive = (
        lambda u, x: [partial(u[0], x, 1) + 30 * partial(u[0], x, 0)],
        lambda u, x: [u[0] - torch.sin(x[:, 0])],
    )
    return Case(Problem(domain, conditions, name="transport"), naive, MLP((8, 8)))


def burgers(points: int = 24) -> Case:
    """u_t + u u_x = 0.01 u_xx, written in divergence form in the naive version; u(x, 0) = −sin πx."""
    domain = Box(x=(-1, 1), t=(0, 1), periodic="x")
    X, T = domain.axes

    def equation(u, p):
        return d(u, T) + u * d(u, X) - 0.01 * d(u, X, X)

    def naive(u, x):
        flux = 0.5 * u[0] ** 2 - 0.01 * partial(u[0], x, 0)
        return [partial(u[0], x, 1) + partial(flux, x, 0)]

    conditions = [
        Condition("equation", equation, domain.interior, points, weight=0.01),
        Condition("initial", lambda u, p: u + torch.sin(pi * p[X]), domain.face(t=0), points // 3),
    ]
    initial = lambda u, x: [u[0] + torch.sin(pi * x[:, 0])]  # noqa: E731
    return Case(Problem(domain, conditions, name="burgers"), (naive, initial), MLP((8, 6), modes=2))


def system(points: int = 16) -> Case:
    """Two fields, two equations with a variable coefficient and a rational term, third derivatives.

    u_t − v_xxx + u v² = 0 and (k u_x)_x − v_t/(1 + u²) = 0 with k = 1 + x t; u = 0 and v = x at t = 0; and
    one condition with a component that does not depend on the network, u_x + v = t and 1 = x.
    """
    domain = Box(x=(-1, 2), t=(0, 1))
    X, T = domain.axes

    def equations(w, p):
        u, v = w
        k = 1 + p[X] * p[T]
        first = d(u, T) - d(v, X, X, X) + u * v**2
        return first, d(k * d(u, X), X) - d(v, T) / (1 + u**2)

    def naive_equations(w, x):
        (u, v), k = w, 1 + x[:, 0] * x[:, 1]
        first = partial(u, x, 1) - partial(v, x, 0, 0, 0) + u * v**2
        second = partial(k * partial(u, x, 0), x, 0) - partial(v, x, 1) / (1 + u**2)
        return [first, second]

    def initial(w, p):
        u, v = w
        return u, v - p[X]

    def walls(w, p):
        u, v = w
        return d(u, X) + v - p[T], 1.0 - p[X]

    conditions = [
        Condition("equations", equations, domain.interior, points, weight=0.5),
        Condition("initial", initial, domain.face(t=0), points // 2 + 1),
        Condition("walls", walls, domain.boundary("x"), points // 2, weight=1.5),
    ]
    naive = (
        naive_equations,
        lambda w, x: [w[0], w[1] - x[:, 0]],
        lambda w, x: [partial(w[0], x, 0) + w[1] - x[:, 1], 1.0 - x[:, 0]],
    )
    return Case(Problem(domain, conditions, fields=("u", "v"), name="system"), naive, MLP((7, 6), "gelu"))


def inverse(points: int = 20) -> Case:
    """(k u_x)_x = c u_t + m sin u with a field k of its own network and c > 0, 1 < m < 3 unknown.

    u = x (1 − x) N: zero at the walls by its form. Initial values cos x fix the rest.
    """
    domain = Box(x=(0, 1), t=(0, 2))
    X, T = domain.axes

    def ansatz(outputs, p):
        n, k = outputs
        return p[X] * (1 - p[X]) * n, k

    def equation(w, p):
        u, k = w
        return d(k * d(u, X), X) - p["c"] * d(u, T) - p["m"] * torch.sin(u) * p["known"]

    def naive(w, x):
        n, k, rho_c, rho_m = w
        u = x[:, 0] * (1 - x[:, 0]) * n
        c, m = torch.log1p(torch.exp(rho_c)), 1 + 2 / (1 + torch.exp(-rho_m))
        return [partial(k * partial(u, x, 0), x, 0) - c * partial(u, x, 1) - 1.5 * m * torch.sin(u)]

    conditions = [
        Condition("equation", equation, domain.interior, points),
        Condition("initial", lambda w, p: (w[0] - torch.cos(p[X]), p["c"] - w[1]), domain.face(t=0), 7),
    ]

    def initial(w, x):
        c = torch.log1p(torch.exp(w[2]))
        return [x[:, 0] * (1 - x[:, 0]) * w[0] - torch.cos(x[:, 0]), c - w[1]]

    problem = Problem(
        domain,
        conditions,
        fields=("u", "k"),
        outputs=("n", "k"),
        ansatz=ansatz,
        coefficients={"c": Coefficient(0.5, lower=0), "known": 1.5, "m": Coefficient(1.5, 1, 3)},
        name="inverse",
    )
    return Case(problem, (naive, initial), {"n": MLP((6, 5)), "k": MLP((4,), "sin")})


def kuramoto_sivashinsky(points: int = 16) -> Case:
    """u_t + u u_x + u_xx + u_xxxx = 0 on a circle, u(x, 0) = cos x."""
    domain = Box(x=(0, 2 * pi), t=(0, 1), periodic="x")
    X, T = domain.axes

    def equation(u, p):
        return d(u, T) + u * d(u, X) + d(u, X, X) + d(u, X, X, X, X)

    def naive(u, x):
        first, second = partial(u[0], x, 0), partial(u[0], x, 0, 0)
        return [partial(u[0], x, 1) + u[0] * first + second + partial(second, x, 0, 0)]

    conditions = [
        Condition("equation", equation, domain.interior, points),
        Condition("initial", lambda u, p: u - torch.cos(p[X]), domain.face(t=0), points // 3),
    ]
    initial = lambda u, x: [u[0] - torch.cos(x[:, 0])]  # noqa: E731
    return Case(Problem(domain, conditions, name="kuramoto_sivashinsky"), (naive, initial), MLP((7, 6)))


def plate(points: int = 12) -> Case:
    """Δ(k Δu) + Δ²e^{u/2} + u_y Δu_x = 1 with k = 1 + x²; u = Δu = 0 on the edge, as of a hinged plate.

    The interior takes a collapsed biharmonic and its lower derivatives, the edge a Laplacian.
    """
    domain = Box(x=(0, 1), y=(-1, 1))
    X, Y = domain.axes

    def equation(u, p):
        bed = biharmonic(torch.exp(u / 2)) + d(u, Y) * d(laplacian(u), X)
        return laplacian((1 + p[X] ** 2) * laplacian(u)) + bed - 1.0

    def flat(u, x):
        return partial(u, x, 0, 0) + partial(u, x, 1, 1)

    def naive(u, x):
        moment = flat(u[0], x)
        bed = flat(flat(torch.exp(u[0] / 2), x), x) + partial(u[0], x, 1) * partial(moment, x, 0)
        return [flat((1 + x[:, 0] ** 2) * moment, x) + bed - 1.0]

    conditions = [
        Condition("equation", equation, domain.interior, points),
        Condition("edge", lambda u, p: (u, laplacian(u)), domain.boundary(), points // 2),
    ]
    edge = lambda u, x: [u[0], flat(u[0], x)]  # noqa: E731
    return Case(Problem(domain, conditions, name="plate"), (naive, edge), MLP((7, 5), "sin"))


CASES: dict[str, Callable[..., Case]] = {
    f.__name__: f
    for f in (
        heat,
        poisson,
        diffusion,
        nonlinear,
        transport,
        burgers,
        system,
        inverse,
        kuramoto_sivashinsky,
        plate,
    )
}
# of the paper on sketched natural gradient descent
PAPER_CASES = {name: CASES[name] for name in ("heat", "poisson", "nonlinear", "transport")}
