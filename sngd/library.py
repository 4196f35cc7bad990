"""The library of problems by name: `problems:heat` is the run of configs/heat.py, which comes along.

A config's docstring begins with a line "Title: equation". The best errors that are known of the library stand
in sngd/problems/best.json, written by benchmarks/library.py.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sngd.config import RunConfig
from sngd.config_files import load_source

__all__ = ["Best", "Entry", "best", "config_path", "entry", "names"]

PREFIX = "problems:"
_BEST = Path(__file__).parent / "problems" / "best.json"


@dataclass(frozen=True)
class Best:
    """The best known result of a problem, over seeds.

    Args:
        median: relative L2 error.
        spread: the least and the largest of them.
        seeds: number of runs.
        seconds: median training time.
        machine: where that was.
        commit: of the package.
    """

    median: float
    spread: tuple[float, float] | None = None
    seeds: int | None = None
    seconds: float | None = None
    machine: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Entry:
    """One problem of the library.

    Args:
        name: NAME of problems:NAME.
        path: its config file.
        text: the whole docstring of the config.
        best: what is known to be reached.
    """

    name: str
    path: Path
    text: str
    best: Best | None

    @property
    def title(self) -> str:
        """What stands before the colon of the docstring's first line."""
        return self._first[0]

    @property
    def equation(self) -> str:
        """What stands after it; empty where there is no colon."""
        return self._first[1]

    @property
    def _first(self) -> tuple[str, str]:
        title, _, equation = self.text.partition("\n")[0].partition(": ")
        return title.rstrip("."), equation.rstrip(".")

    @functools.cached_property
    def run(self) -> RunConfig:
        """The run that the config defines."""
        return load_source(self.path)[0]

    @property
    def background(self) -> str:
        """The docstring of the module of sngd.problems that the conditions are written in, if it is one."""
        modules = [c.residual.__module__ for c in self.run.problem.conditions]
        own = next((name for name in modules if name.startswith("sngd.problems.")), None)
        return inspect.cleandoc(sys.modules[own].__doc__ or "") if own in sys.modules else ""


def names() -> list[str]:
    """The names of the library."""
    return sorted(path.stem for path in _folder().glob("*.py"))


def config_path(text: str) -> Path:
    """The file that CONFIG of a command means: a path, or problems:NAME.

    Raises:
        ValueError: the library has no such name, and the message names those that are near, and all; or there
            is no such file, and the message says what may be meant.
    """
    if text.startswith(PREFIX):
        return _path(text.removeprefix(PREFIX))
    path = Path(text)
    try:
        if path.is_file() or not (meant := _meant(text, path)):
            return path
    except OSError:  # a name that is too long: told by whoever opens it
        return path
    raise ValueError(f"config file {text!r} does not exist: {meant}")


def _meant(text: str, path: Path) -> str:
    """What a path that is no file may be meant for; empty where nobody knows."""
    if (path / "config.json").is_file():
        return f"it is a run folder, `sngd resume {text}` goes on, {text}/config.json stands for a new run"
    if Path(f"{text}.py").is_file():
        return f"did you mean {text}.py?"
    return f"did you mean {PREFIX}{text}?" if text in names() else ""


def entry(name: str) -> Entry:
    """What the library holds under a name, with or without the prefix "problems:".

    Raises:
        ValueError: there is none.
    """
    path = _path(name.removeprefix(PREFIX))
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    return Entry(path.stem, path, text, best().get(path.stem))


def best(path: Path = _BEST) -> dict[str, Best]:
    """The best known results by name; empty where nothing is known.

    Args:
        path: a JSON file, {name: {"median": …, "spread": [low, high], "seeds": …, "seconds": …, …}}.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        return {name: _result(values) for name, values in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({type(error).__name__}: {error})") from error


def _result(values: dict[str, Any]) -> Best:
    spread, seeds, seconds = (values.get(key) for key in ("spread", "seeds", "seconds"))
    return Best(
        float(values["median"]),
        None if spread is None else (float(spread[0]), float(spread[1])),
        None if seeds is None else int(seeds),
        None if seconds is None else float(seconds),
        str(values.get("machine", "")),
        str(values.get("commit", "")),
    )


def _path(name: str) -> Path:
    path, known = _folder() / f"{name}.py", names()
    if name in known:
        return path
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"the library has no problem {name!r}: {hint}It has {', '.join(known)}")


def _folder() -> Path:
    """The configs: beside this file in an installed package, in configs/ of a checkout."""
    here = Path(__file__).resolve().parent
    inside, beside = here / "configs", here.parent / "configs"
    return inside if inside.is_dir() else beside
