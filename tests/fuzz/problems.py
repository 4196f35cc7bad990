"""Problems that a user may write: residuals, ansätze and solutions of every kind, good and bad."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from hypothesis import strategies as st

from sngd import Box, Coefficient, Condition, Conserved, Data, PointCloud, Problem, d
from sngd.geometry.regions import Axis
from tests.fuzz.strategies import ANYTHING, COORDINATE, FLOATS, TEXT, Odd, make_shape, mostly, shapes

X, T = Axis(0, "x"), Axis(1, "t")


def _raise(error: BaseException) -> Any:
    raise error


def _deep(u: Any, p: Any) -> Any:
    return _deep(u, p)


def _printing(u: Any, p: Any) -> Any:
    print("residual")
    return u


RESIDUALS = {
    "u": lambda u, p: u,
    "slope": lambda u, p: d(u, X),
    "heat": lambda u, p: d(u, T) - d(u, X, X),
    "burgers": lambda u, p: d(u, T) + u * d(u, X) - p["nu"] * d(u, X, X),
    "first": lambda u, p: (u[0] if isinstance(u, tuple) else u) - p[X],
    "pair": lambda u, p: (u, d(u, X)),
    "unpacked": lambda w, p: (lambda u, v: u - v)(*w),
    "normal": lambda u, p: u * p.normal[0],
    "data": lambda u, p: u - p.data["u"],
    "print": _printing,
    "constant": lambda u, p: 0.0,
    "none": lambda u, p: None,
    "text": lambda u, p: "residual",
    "empty": lambda u, p: (),
    "nested": lambda u, p: ((u,), u),
    "array": lambda u, p: p[X].value.numpy(),
    "sum": lambda u, p: u.value.sum(),
    "mean": lambda u, p: u - u.value.mean(),
    "column": lambda u, p: u.value[:, None],
    "bool": lambda u, p: u.value > 0,
    "whole": lambda u, p: torch.ones(len(p), dtype=torch.int64),
    "complex": lambda u, p: u.value * 1j,
    "nan": lambda u, p: u * float("nan"),
    "inf": lambda u, p: u / 0.0,
    "log": lambda u, p: torch.log(-1 - p[X]) * u,
    "single": lambda u, p: u.value.float(),
    "random": lambda u, p: u.value + torch.rand(len(p)),
    "detached": lambda u, p: u.value.detach(),
    "tensor": lambda u, p: torch.zeros(len(p), dtype=torch.float64),
    "branch": lambda u, p: u if u.value.sum() > 0 else -u,
    "one": lambda u: u,
    "three": lambda u, p, q: u,
    "axis": lambda u, p: d(u, Axis(7, "q")),
    "no axis": lambda u, p: d(u, "x"),
    "order": lambda u, p: d(u, *[X] * 9),
    "no order": lambda u, p: d(u),
    "missing": lambda u, p: p["missing"] * u,
    "no place": lambda u, p: p[-1] + p[3.0],
    "odd": lambda u, p: Odd(),
    "deep": _deep,
    "value": lambda u, p: _raise(ValueError("two\nlines")),
    "key": lambda u, p: _raise(KeyError("a")),
    "stop": lambda u, p: _raise(StopIteration()),
    "assert": lambda u, p: _raise(AssertionError()),
    "runtime": lambda u, p: torch.ones(2, 3) @ torch.ones(2, 3),
    "attribute": lambda u, p: u.nothing,
    "system": lambda u, p: _raise(OSError(28, "no space left")),
}
FUNCTIONS = mostly(st.sampled_from(list(RESIDUALS)[:6]), st.sampled_from(list(RESIDUALS)))
ANSATZE = {
    "product": lambda n, p: n * (1 - p[X]),
    "pair": lambda n, p: (n, d(n, X)),
    "list": lambda n, p: [n],
    "number": lambda n, p: 1.0,
    "none": lambda n, p: None,
    "tensor": lambda n, p: n.value,
    "fails": lambda n, p: _raise(RuntimeError("a\nb")),
    "normal": lambda n, p: n * p.normal[X],
    "one": lambda n: n,
}
SOLUTIONS = {
    "zero": lambda p: 0.0 * p[X],
    "sine": lambda p: torch.sin(p[X].value),
    "pair": lambda p: (p[X], p[X]),
    "number": lambda p: 1.0,
    "fails": lambda p: _raise(IndexError("a\nb")),
    "nan": lambda p: p[X] * float("nan"),
    "whole": lambda p: torch.zeros(len(p), dtype=torch.int64),
    "two": lambda p, q: p[X],
}
DENSITIES = {"u": lambda u, p: u, "fails": lambda u, p: u.nothing, "number": lambda u, p: 1}


@dataclasses.dataclass(frozen=True)
class Described:
    """A problem by names and plain values, which hypothesis can shrink and print."""

    shape: Any
    conditions: tuple[dict[str, Any], ...]
    settings: dict[str, Any]


COEFFICIENT = mostly(
    st.one_of(
        st.floats(0.1, 2),
        st.fixed_dictionaries(
            {"initial": st.floats(0.1, 2)},
            optional={
                "lower": st.sampled_from([0, -1.0, 0.1]),
                "upper": st.sampled_from([2.5, 3]),
                "exact": FLOATS,
            },
        ),
        st.fixed_dictionaries(
            {"initial": COORDINATE}, optional={n: COORDINATE for n in ("lower", "upper", "exact")}
        ),
    ),
    st.one_of(FLOATS, ANYTHING),
)
_CONSERVED = st.tuples(
    mostly(st.sampled_from(["mass", "energy"]), ANYTHING),
    st.sampled_from(list(DENSITIES)),
    mostly(st.one_of(st.none(), st.floats(0.1, 2)), ANYTHING),
)
REGIONS = st.sampled_from(
    ["interior"] * 6 + ["boundary", "boundary x", "face", "face at", "where", "cloud", "data", "none"]
)


@st.composite
def _condition(draw: Any) -> dict[str, Any]:
    return {
        "name": draw(mostly(st.sampled_from(["a", "b", "equation", "wall", "ü"]), st.one_of(TEXT, ANYTHING))),
        "residual": draw(FUNCTIONS),
        "region": draw(REGIONS),
        "at": draw(COORDINATE),
        **draw(
            st.fixed_dictionaries(
                {"points": mostly(st.integers(1, 9), ANYTHING)},
                optional={
                    "weight": mostly(st.floats(0.1, 2), ANYTHING),
                    "sampling": mostly(st.sampled_from(["uniform", "sobol", "latin_hypercube"]), ANYTHING),
                },
            )
        ),
    }


@st.composite
def problems(draw: Any) -> Described:
    """Mostly sound problems with one or two oddities."""
    plain = ("box", ({"x": (0, 1), "t": (0.0, 1.0)}, {}))
    shape = draw(st.one_of(st.just(plain), st.just(plain), shapes()))
    conditions = draw(st.lists(_condition(), min_size=0 if draw(st.integers(0, 20)) == 0 else 1, max_size=2))
    settings = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "fields": mostly(
                    st.sampled_from([("u",), "u", ["w"]]), st.one_of(st.just(("u", "v")), ANYTHING)
                ),
                "outputs": mostly(st.none(), st.one_of(st.sampled_from([("n",), "n", ("n", "m")]), ANYTHING)),
                "ansatz": mostly(
                    st.sampled_from(list(ANSATZE)[:3]), st.one_of(st.sampled_from(list(ANSATZE)), ANYTHING)
                ),
                "solution": mostly(st.sampled_from(list(SOLUTIONS)), ANYTHING),
                "coefficients": mostly(
                    st.dictionaries(mostly(st.just("nu"), TEXT), COEFFICIENT, max_size=2), ANYTHING
                ),
                "conserved": mostly(st.lists(_CONSERVED, max_size=2), ANYTHING),
                "name": mostly(st.sampled_from(["heat", "my problem", "ü"]), st.one_of(TEXT, ANYTHING)),
            },
        )
    )
    return Described(shape, tuple(conditions), settings)


def _function(table: dict[str, Any], value: Any) -> Any:
    return table.get(value, value) if isinstance(value, str) else value


def _coefficient(value: Any) -> Any:
    return Coefficient(**value) if isinstance(value, dict) and "initial" in value else value


def _region(domain: Any, which: str, at: Any) -> Any:
    name = domain.names[0]
    middle = [[(low + high) / 2 for low, high in domain.bounds]]
    return {
        "interior": lambda: domain.interior,
        "boundary": lambda: domain.boundary(),
        "boundary x": lambda: domain.boundary("x"),
        "face": lambda: domain.face(**{name: domain.bounds[0][0]}),
        "face at": lambda: domain.face(**{name: at}),
        "where": lambda: domain.interior.where(lambda p: p[name] > domain.bounds[0][0]),
        "cloud": lambda: PointCloud(domain, middle if domain.dim < 3 else at),
        "data": lambda: Data(domain, middle, {"u": [at]}),
        "none": lambda: at,
    }[which]()


def make_problem(described: Described) -> Problem:
    """The problem that is described."""
    domain, settings = make_shape(described.shape), dict(described.settings)
    conditions = []
    for one in described.conditions:
        rest = {k: v for k, v in one.items() if k not in ("name", "residual", "region", "at")}
        region = _region(domain, one["region"], one["at"])
        conditions.append(Condition(one["name"], RESIDUALS[one["residual"]], region, **rest))
    for key, table in (("ansatz", ANSATZE), ("solution", SOLUTIONS)):
        if key in settings:
            settings[key] = _function(table, settings[key])
    if isinstance(settings.get("coefficients"), dict):
        settings["coefficients"] = {n: _coefficient(c) for n, c in settings["coefficients"].items()}
    if isinstance(settings.get("conserved"), list):
        settings["conserved"] = [
            Conserved(one[0], DENSITIES[one[1]], one[2]) if isinstance(one, tuple) and len(one) == 3 else one
            for one in settings["conserved"]
        ]
    return Problem(domain, conditions, **settings)


def tiny(**settings: Any) -> Problem:
    """A sound problem of few points."""
    domain = Box(x=(0, 1), t=(0, 1))
    conditions = [
        Condition("equation", RESIDUALS["burgers"], domain.interior, 6),
        Condition("initial", RESIDUALS["first"], domain.face(t=0), 4),
    ]
    return Problem(domain, conditions, coefficients={"nu": 0.1}, name="tiny", **settings)
