"""`sngd init`: a file to begin with, which trains as it is and says what to change."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from sngd.flags import Parser

__all__ = ["init", "init_parser"]

# Modules that configs and sngd import.
_TAKEN = ("jinja2", "matplotlib", "numpy", "rich", "scipy", "sngd", "torch", "tyro")
_TEXT = '''"""A heat equation, to be replaced by yours.

    sngd plan {name}              what a run will hold in memory, without running it
    sngd train {name}             train it; --ranks 2 on two cores or GPUs
    sngd train {name} --help      everything that can be set, here or by flags
"""

from math import pi

import torch

from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d

# 1. Where: an interval for each coordinate. periodic=("x",) joins the ends of x; Ball, Polygon and Mesh are
#    other domains. The axes, in the same order, are what one differentiates by.
domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes
kappa = 0.25


# 2. What holds there: functions that are zero where u solves the problem. u is the field, p are the points;
#    d(u, X, X) is u_xx, laplacian(u), gradient(u, ...) and products d(k * d(u, X), X) are there too.
def equation(u, p):
    return d(u, T) - kappa * d(u, X, X)


def initial(u, p):
    return u - torch.sin(pi * p[X])


def walls(u, p):
    return u


# 3. If a solution is known, the error is told after every step; if not, leave this and solution= out: the
#    run ends with residuals on fresh points all the same.
def solution(p):
    return torch.exp(-kappa * pi**2 * p[T]) * torch.sin(pi * p[X])


problem = Problem(
    domain,
    [
        Condition("equation", equation, domain.interior, points=1200),
        Condition("initial", initial, domain.face(t=0), points=80),
        Condition("walls", walls, domain.boundary("x"), points=160),
    ],
    solution=solution,
)

# 4. How: more and wider layers for rougher solutions. Damping and rank of the sketch find themselves;
#    balance=True weighs the conditions against each other where one of them is left behind.
run = RunConfig(
    problem=problem,
    network=MLP(hidden=(24, 24, 24)),
    optimizer=SNGD(),
    max_seconds=60,
    target_error=1e-8,
)
'''


def init_parser() -> Parser:
    """The parser of `sngd init`."""
    parser = Parser(
        prog="sngd init",
        description="Write a commented config to begin with: a heat equation that trains as it is, to be "
        "replaced by yours. Nothing is overwritten.",
        examples={"init mypde.py": "then `sngd train mypde.py`"},
    )
    parser.add_argument("path", metavar="FILE", type=Path, help="the file, e.g. mypde.py")
    return parser


def init(given: list[str]) -> int:
    """The command `sngd init`.

    Raises:
        ValueError: the file cannot be written, or is there already.
    """
    path = init_parser().parse_args(given).path
    if path.suffix != ".py":
        raise ValueError(f"FILE={str(path)!r} must end in .py: a config is a Python file")
    if path.stem in _TAKEN or path.stem in sys.stdlib_module_names:
        raise ValueError(f"FILE={str(path)!r} would be imported in place of {path.stem}: name another file")
    if set(str(path)) & set('"\\') or not str(path).replace("\0", "").isprintable():
        raise ValueError(f"FILE={str(path)!r} must do without quotes and backslashes: name another file")
    name = shlex.quote(str(path))
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(_TEXT.format(name=name))
    except FileExistsError:
        raise ValueError(f"FILE={str(path)!r} exists, nothing is overwritten: name another file") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(
            f"FILE={str(path)!r} cannot be written: {why}; name a file in a folder that is there"
        ) from error
    print(f"{path} is written: it trains as it is, and says what to change\nsngd train {name}")
    return 0
