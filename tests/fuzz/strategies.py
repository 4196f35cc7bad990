"""Good, bad and odd values: for the fields of configs, for problems, geometry and conditions."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

import sngd
from sngd import R3, RAD, Causal, Curriculum, Marching, Module, Tracking
from sngd.networks import NetworkConfig
from sngd.optimizers import OPTIMIZERS

NETWORKS = (*get_args(NetworkConfig), Module)
OPTIMIZER_KINDS = tuple(OPTIMIZERS.values())
ON_THE_WAY = (RAD, R3, Causal, Curriculum, Marching, Tracking)


class Odd:
    """An object whose every method fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no ==")

    def __bool__(self) -> bool:
        raise RuntimeError("no bool")

    __hash__ = None  # type: ignore[assignment]


INTEGERS = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400]),
)
FLOATS = st.one_of(
    st.floats(0, 2),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e-320, 1e308, math.nextafter(1, 0), 0.5, 3.7, 64.0]),
)
TEXT = st.one_of(
    st.sampled_from(
        ["", " ", "x", "t", "u", "1", "None", "true", "nan", "tanh", "sngd", "a\nb", "\0", "ß∂", "x" * 300]
    ),
    st.text(max_size=6),
)
ODD = st.sampled_from(
    [
        *(None, True, False, 1j, b"1", b"", Decimal("1"), Fraction(1, 2), object, len, ..., NotImplemented),
        *(np.int64(3), np.int8(1), np.float32(0.5), np.float64(0.5), np.float64("nan"), np.bool_(True)),
        *(np.array(1), np.array([1, 2]), np.array(["a"], dtype=object), np.str_("x"), np.datetime64("2020")),
        *(torch.tensor(1), torch.tensor(0.5), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.float64),
        *((), [], {}, set(), [1], (1,), [8, 8], (8, 8), (1.0, 2.0), (True,), ("a", 1.0), ((1,),), {"a": 1}),
        *(Path("a"), Path("\0"), range(3), slice(1), Odd(), [Odd()], iter(()), sngd.MLP, nn.Linear(2, 1)),
    ]
)
ANYTHING = st.one_of(INTEGERS, FLOATS, TEXT, ODD)


def mostly(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nine times of ten the first."""
    return st.integers(0, 9).flatmap(lambda n: bad if n == 9 else good)


@functools.cache
def good(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a declared type, in range or not."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return good(inner[0])
    if origin in (Union, types.UnionType):
        return st.one_of([good(one) for one in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple:
        return st.lists(good(inner[0]), max_size=3).map(tuple)
    if dataclasses.is_dataclass(hint):
        return st.deferred(lambda: instances(hint))
    table = {
        int: st.one_of(st.integers(1, 9), INTEGERS),
        float: st.one_of(st.floats(1e-3, 0.9), FLOATS, st.integers(0, 3)),
        bool: st.booleans(),
        str: TEXT,
        Path: st.sampled_from([Path("a"), Path("a/b"), Path("")]),
        type(None): st.none(),
    }
    return table.get(hint, ANYTHING)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@st.composite
def keywords(draw: Any, kind: type, wrong: int = 3) -> dict[str, Any]:
    """Some fields of a config with values of their types or, `wrong` of ten, anything; or one too many."""
    hints = _hints(kind)
    fields = [f for f in dataclasses.fields(kind) if f.name != "problem"]
    needed = [f.name for f in fields if f.default is dataclasses.MISSING]
    chosen = [draw(st.sampled_from([f.name for f in fields])) for _ in range(draw(st.integers(0, 3)))]
    given = {}
    for name in dict.fromkeys([*needed, *chosen]):
        bad = draw(st.integers(0, 9)) < wrong
        given[name] = draw(ANYTHING if bad else good(hints[name]))
    if kind is Module and draw(st.booleans()):
        given["module"] = small_module
    if draw(st.integers(0, 30)) == 0:
        given[draw(st.sampled_from(["hiden", "Rank", "lr", "x y", "ß"]))] = draw(ANYTHING)
    return given


def small_module(inputs: int, outputs: int) -> nn.Module:
    """A module of the general path."""
    return nn.Sequential(nn.Linear(inputs, 3), nn.Hardshrink(0.0), nn.Tanh(), nn.Linear(3, outputs))


@st.composite
def instances(draw: Any, kind: type) -> Any:
    """A config that is in range, mostly at its defaults."""
    for _ in range(3):
        try:
            return kind(**draw(keywords(kind, wrong=0)))
        except (ValueError, TypeError):
            continue
    return (
        Curriculum("nu", (1.0,)) if kind is Curriculum else Module(small_module) if kind is Module else kind()
    )


def unknown_of(kind: type, given: dict[str, Any]) -> tuple[str, ...]:
    """Keywords that a config does not have."""
    return tuple(given.keys() - {f.name for f in dataclasses.fields(kind)})


KINDS = st.sampled_from([*NETWORKS, *OPTIMIZER_KINDS, *ON_THE_WAY])
CONFIGS = KINDS.flatmap(lambda kind: st.tuples(st.just(kind), keywords(kind)))


# ---------------------------------------------------------------------------------------------
# Geometry
# ---------------------------------------------------------------------------------------------

SMALL = st.one_of(st.integers(-2, 3), st.floats(-2, 2))
COORDINATE = mostly(SMALL, ANYTHING)
PAIR = mostly(
    st.sampled_from([(0, 1), (-1.0, 1.0), (0.5, 2), [0, 3]]),
    st.one_of(st.tuples(COORDINATE, COORDINATE), st.lists(COORDINATE, max_size=3), ANYTHING),
)
AXES = st.sampled_from(
    [["x"], ["x", "t"], ["x", "y"], ["t"], ["x", "y", "time"], ["x", "y", "z"], ["y", "x"]]
)
NAMES = mostly(
    st.sampled_from([(), ("x",), "x", ["x"]]), st.one_of(st.sampled_from([("x", "x"), ("q",)]), ANYTHING)
)
VERTICES = mostly(
    st.sampled_from(
        [[(0, 0), (2, 0), (1, 1)], [(0, 0), (1, 0), (1, 1), (0, 1)], [[0, 0], [1, 0], [0.5, 2.0]]]
    ),
    st.one_of(
        st.lists(st.one_of(st.tuples(SMALL, SMALL), st.lists(COORDINATE, max_size=3), ANYTHING), max_size=5),
        ANYTHING,
    ),
)
RADII = mostly(st.floats(0.1, 2), ANYTHING)


@st.composite
def shapes(draw: Any, depth: int = 2) -> tuple[str, Any]:
    """A geometry as (what makes it, its arguments): see `make_shape`."""
    kind = draw(st.sampled_from(["box", "box", "ball", "polygon", *(["join", "over"] if depth else [])]))
    if kind == "box":
        bounds = {name: draw(PAIR) for name in draw(AXES)}
        switches = {key: draw(NAMES) for key in draw(st.sets(st.sampled_from(["periodic", "even"])))}
        return kind, (bounds, switches)
    if kind == "ball":
        return kind, ({name: draw(COORDINATE) for name in draw(AXES)}, draw(RADII))
    if kind == "polygon":
        names = draw(mostly(st.just(("x", "y")), st.one_of(ANYTHING, st.lists(TEXT, max_size=3))))
        return kind, (draw(VERTICES), names)
    if kind == "join":
        second = draw(mostly(shapes(depth=0), st.tuples(st.just("other"), ANYTHING)))
        return kind, (draw(st.sampled_from("|&-")), draw(shapes(depth=depth - 1)), second)
    over = mostly(st.sampled_from([["t"], ["time"]]), AXES)
    return kind, (draw(shapes(depth=depth - 1)), {name: draw(PAIR) for name in draw(over)})


def make_shape(described: tuple[str, Any]) -> Any:
    """The geometry that `shapes` describes."""
    kind, rest = described
    if kind == "box":
        return sngd.Box(**rest[0], **rest[1])
    if kind == "ball":
        return sngd.Ball(radius=rest[1], **rest[0])
    if kind == "polygon":
        return sngd.Polygon(rest[0], rest[1])
    if kind == "over":
        return make_shape(rest[0]).over(**rest[1])
    if kind == "other":
        return rest
    sign, a, b = rest[0], make_shape(rest[1]), make_shape(rest[2])
    return a | b if sign == "|" else a & b if sign == "&" else a - b
