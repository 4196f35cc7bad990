"""Problems in time that marching cuts into slabs."""

import torch

from sngd import Box, Condition, Problem, d


def heat(nu=0.25) -> Problem:
    domain = Box(x=(0, 1), t=(0, 2))
    X, T = domain.axes
    sine = lambda x: torch.sin(torch.pi * x)  # noqa: E731
    conditions = [
        Condition("equation", lambda u, p: d(u, T) - nu * d(u, X, X), domain.interior, 40),
        Condition("initial", lambda u, p: u - sine(p[X]), domain.face(t=0), 10, weight=3.0),
        Condition("walls", lambda u, p: u, domain.boundary("x"), 10),
    ]
    exact = lambda p: torch.exp(-nu * torch.pi**2 * p[T].value) * sine(p[X].value)  # noqa: E731
    return Problem(domain, conditions, solution=exact, name="heat")


def wave(periodic=()) -> Problem:
    """Two conditions at the start, one of which asks for ∂_t; a system, an ansatz and a known coefficient."""
    domain = Box(t=(0, 1), x=(0, 1), periodic=periodic)
    T, X = domain.axes

    def equations(w, p):
        u, v = w
        return d(u, T, T) - p["c"] * d(u, X, X), d(v, T) - u

    conditions = [
        Condition("equations", equations, domain.interior, 20),
        Condition("place", lambda w, p: (w[0] - torch.sin(p[X]), w[1]), domain.face(t=0), 6),
        Condition("speed", lambda w, p: d(w[0], T) - 1.0, domain.face(t=0), 5),
        Condition("late", lambda w, p: w[1] - p[X], domain.face(t=0.9), 4),
    ]
    ansatz = lambda n, p: (p[X] * n[0], n[1] + p["c"])  # noqa: E731
    return Problem(domain, conditions, fields=("u", "v"), ansatz=ansatz, coefficients={"c": 2.0}, name="wave")
