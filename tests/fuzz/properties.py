"""One property for every kind of input; each takes a tally and an example."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from hypothesis import strategies as st

from sngd import MLP, R3, RAD, SNGD, Box, Causal, Curriculum, Data, Marching, RunConfig, Tracking
from sngd.collectives import LocalRanks
from sngd.commands.common import load
from sngd.config import describe
from sngd.modules import Module
from sngd.problem import Problem
from sngd.training import train
from tests.fuzz import commands, files
from tests.fuzz.judging import Tally, Violation, build, command, fits, names_fault, one_line, same, written
from tests.fuzz.problems import Described, make_problem, problems, tiny
from tests.fuzz.strategies import CONFIGS, NETWORKS, OPTIMIZER_KINDS, keywords, small_module, unknown_of

_PROBLEM = tiny()
_SEVERAL = tiny(fields=("u",), solution=lambda p: 0.5 + p[0])
_PICTURE = {True: "convergence", False: "spectrum"}
_WIDEST = 200  # of a network that is built, or points that are trained on


# ---------------------------------------------------------------------------------------------
# Configs
# ---------------------------------------------------------------------------------------------

_FIELDS: list[tuple[tuple[type, ...], str]] = [
    (NETWORKS, "network"),
    (OPTIMIZER_KINDS, "optimizer"),
    ((RAD, R3), "adaptive_points"),
    ((Causal,), "causal"),
    ((Curriculum,), "curriculum"),
    ((Marching,), "marching"),
    ((Tracking,), "tracking"),
]


def config(tally: Tally, example: tuple[type, dict[str, Any]]) -> None:
    """A config of any owner: refused by name, or found again as it was given."""
    kind, given = example
    with tally.example((kind.__name__, given)) as counts:
        made, refused = build(lambda: kind(**given), unknown_of(kind, given))
        if refused:
            counts["refused"] += 1
            if not unknown_of(kind, given):
                names_fault(refused, {f.name: given.get(f.name, f.default) for f in dataclasses.fields(kind)})
            return
        counts["accepted"] += 1
        _check_types(made, given)
        field = next(field for kinds, field in _FIELDS if kind in kinds)
        run, refused = build(lambda: RunConfig(_PROBLEM, **{field: made}))
        if run is not None:
            _check_description(run, {field: made})
        if field == "network" and _small(made):
            build(lambda: made.build(_PROBLEM.domain, 1, 0))


def run_config(tally: Tally, given: dict[str, Any]) -> None:
    """Keywords of RunConfig."""
    with tally.example(("RunConfig", given)) as counts:
        problem = _SEVERAL if given.get("target_error") is not None else _PROBLEM
        make = lambda: RunConfig(problem, **given)  # noqa: E731
        run, refused = build(make, unknown_of(RunConfig, given))
        if refused:
            counts["refused"] += 1
            return
        counts["accepted"] += 1
        wanted = {name: getattr(run, name) for name in given}
        names = ("network", "optimizer")
        for name, value in given.items():
            if not (value is wanted[name] or (name in names and not dataclasses.is_dataclass(value))):
                raise Violation("changed value", f"{name}={value!r} became {wanted[name]!r}")
        _check_types(run, {name: value for name, value in given.items() if name not in names})
        _check_description(run, wanted)


def _check_types(made: Any, given: dict[str, Any]) -> None:
    hints = typing.get_type_hints(type(made))
    for name, value in given.items():
        if getattr(made, name) is not value:
            raise Violation("changed value", f"{name}={value!r} became {getattr(made, name)!r}")
        if not (fits(hints[name], value) or callable(value)):
            raise Violation("changed value", f"{name}={value!r} was taken for {hints[name]}")


def _check_description(run: RunConfig, wanted: dict[str, Any]) -> None:
    try:
        found = json.loads(json.dumps(describe(run)))
    except (TypeError, ValueError) as error:
        raise Violation("changed value", f"no JSON: {error}") from error
    for name, value in wanted.items():
        if not same(value, found[name]):
            raise Violation("changed value", f"{name}={value!r} is described as {found[name]!r}")


def _small(network: Any) -> bool:
    values = [getattr(network, f.name) for f in dataclasses.fields(network)]
    sizes = [n for v in values for n in (v if isinstance(v, (tuple, list)) else (v,)) if isinstance(n, int)]
    return max(sizes, default=0) <= _WIDEST and len(sizes) < 20


# ---------------------------------------------------------------------------------------------
# Problems
# ---------------------------------------------------------------------------------------------


def problem(tally: Tally, described: Described) -> None:
    """A problem: refused in one line, or described as it was given, and trained for a step."""
    with tally.example(described) as counts, contextlib.redirect_stdout(io.StringIO()):
        made, refused = build(lambda: make_problem(described))
        counts["refused" if refused else "accepted"] += 1
        if refused:
            return
        _check_problem(made, described)
        if made.rows <= _WIDEST and made.domain.dim < 4:
            build(lambda: train(_a_step(made), LocalRanks(), torch.device("cpu")))


def _a_step(made: Problem) -> RunConfig:
    return RunConfig(made, MLP((2,)), SNGD(rank=2), max_steps=1, evaluate_points=9, device="cpu")


def _check_problem(made: Problem, described: Described) -> None:
    found = json.loads(json.dumps(describe(RunConfig(made))))["problem"]
    for given, one in zip(described.conditions, found["conditions"], strict=True):
        for name in ("name", "points", "weight", "sampling"):
            taken = given.get(name, one[name])
            if given["region"] in ("cloud", "data") and name == "points" and taken == 0:
                continue  # all that there are
            if not same(taken, one[name]):
                raise Violation("changed value", f"{name}={taken!r} is described as {one[name]!r}")
    for name in ("name", "fields"):
        taken = described.settings.get(name, found[name])
        if not same([taken] if name == "fields" and isinstance(taken, str) else taken, found[name]):
            raise Violation("changed value", f"{name}={taken!r} is described as {found[name]!r}")
    coefficients = described.settings.get("coefficients") or {}
    for name, value in coefficients.items():
        one = found["coefficients"][name]
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for key, part in parts:
            if not same(part, one[key] if key else one):
                raise Violation("changed value", f"coefficient {name}={value!r} is described as {one!r}")


# ---------------------------------------------------------------------------------------------
# Command lines and files
# ---------------------------------------------------------------------------------------------


def flags(tally: Tally, example: tuple[str, list[tuple[str, Any]], list[str]]) -> None:
    """Flags of fields: refused, or each found in the run's description as it was written."""
    path, meant, words = example
    with tally.example(words) as counts:
        code, _ = command(["plan", path, *words])
        counts["accepted" if code == 0 else "refused"] += 1
        if code == 0:
            with contextlib.redirect_stdout(io.StringIO()):
                run, _ = load(path, words, "sngd")
            _check_flags(json.loads(json.dumps(describe(run))), meant, words)


def training(tally: Tally, example: tuple[str, list[tuple[str, Any]], list[str]]) -> None:
    """The same of runs that start, by the config.json that they leave behind."""
    path, meant, words = example
    shutil.rmtree("trained", ignore_errors=True)
    with tally.example(words) as counts, _without_pictures():
        code, _ = command(["train", path, *words, "--quiet", "--run-dir", "trained"])
        counts["accepted" if code == 0 else "refused"] += 1
        if code == 0:
            fields = json.loads(Path("trained/config.json").read_text())["fields"]
            _check_flags(fields, [pair for pair in meant if pair[0] != "--run-dir"], words)


def _check_flags(fields: dict[str, Any], meant: list[tuple[str, Any]], words: list[str]) -> None:
    if len({_place(name) for name, _ in meant}) < len(meant):
        raise Violation("changed value", f"one of {words} was ignored")
    for name, value in meant:
        *above, last = _place(name).split(".")
        found: Any = fields
        for part in above:
            found = found[part]
        if name == "--optimizer":
            kind = value[0].replace("-", "")
            if found["optimizer"]["type"].lower() != kind:
                raise Violation("changed value", f"{words} gave {found['optimizer']}")
            continue
        if not written(value, found[last]):
            raise Violation("changed value", f"{name} {value!r} became {found[last]!r}")


def _place(name: str) -> str:
    above, dot, last = name[2:].replace("-", "_").rpartition(".")
    return f"{above}{dot}{last.removeprefix('no_')}"


def command_line(tally: Tally, words: list[str]) -> None:
    """Any command with any arguments."""
    with tally.example(words) as counts, _without_pictures():
        code, _ = command(words)
        counts["refused" if code == 2 else "accepted"] += 1


def config_file(tally: Tally, content: bytes) -> None:
    """A config file of any content."""
    Path("made.py").write_bytes(content)
    with tally.example(content) as counts:
        code, _ = command(["plan", "made.py"])
        counts["accepted" if code == 0 else "refused"] += 1


def run_folder(tally: Tally, example: tuple[str, bytes | None, str]) -> None:
    """A run folder with a damaged file."""
    name, content, reader = example
    folder = files.damaged_copy(Path("run"), Path("damaged"), name, content)
    arguments = {
        "status": ["status", str(folder)],
        "eval": ["eval", str(folder), "--points", "20"],
        "plot": ["plot", str(folder), "--what", _PICTURE[name == "history.jsonl"], "--dpi", "20"],
        "export": ["export", str(folder), "--grid", "2x2"],
        "resume": ["resume", str(folder), "--quiet"],
        "train": ["train", str(folder / "config.json"), "--run-dir", "again", "--quiet", "--max-steps", "1"],
    }[reader]
    shutil.rmtree("again", ignore_errors=True)
    draws = reader == "plot" and name in ("history.jsonl", "spectra.npz")
    with tally.example(example) as counts, contextlib.nullcontext() if draws else _without_pictures():
        code, _ = command(arguments)
        counts["refused" if code == 2 else "accepted"] += 1


def data_file(tally: Tally, example: tuple[str, bytes, str, Any]) -> None:
    """A file of points or measurements."""
    form, content, reader, values = example
    path = Path(f"data.{form}")
    path.write_bytes(content)
    with tally.example(example) as counts:
        if reader == "points":
            code, _ = command(["export", "run", "--points", str(path), "-o", "out.npz"])
            counts["refused" if code == 2 else "accepted"] += 1
            return
        read: Callable[..., Data] = Data.from_csv if reader == "csv" else Data.from_npz
        made, refused = build(lambda: read(Box(x=(0, 1), t=(0, 1)), path, values))
        counts["refused" if made is None else "accepted"] += 1
        if refused:
            one_line(refused)


@contextlib.contextmanager
def _without_pictures() -> typing.Iterator[None]:
    """Matplotlib takes longer than all else."""

    def draw(*given: Any, **settings: Any) -> list[Path]:
        return [Path("a.png")]

    with mock.patch("sngd.audience.draw", draw), mock.patch("sngd.commands.results.draw", draw):
        yield


_SETTINGS = st.sampled_from(["tiny.py", "changing.py"])
_FLAGS = st.tuples(_SETTINGS, commands.flags()).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), commands.spelt(pair[1]))
)
# By kind: the property, its examples (made in the folder of `workplace`), and their share of all.
PROPERTIES: dict[str, tuple[Callable[[Tally, Any], None], Callable[[], Any], float]] = {
    "configs": (config, lambda: CONFIGS, 0.45),
    "run configs": (run_config, lambda: keywords(RunConfig), 0.20),
    "problems": (problem, problems, 0.20),
    "flags": (flags, lambda: _FLAGS, 0.04),
    "trainings": (training, lambda: _FLAGS, 0.005),
    "command lines": (command_line, commands.command_lines, 0.04),
    "config files": (config_file, files.config_files, 0.02),
    "run folders": (run_folder, lambda: files.damages(Path("run").absolute()), 0.02),
    "data files": (data_file, files.data_files, 0.025),
}


@contextlib.contextmanager
def workplace(folder: Path) -> typing.Iterator[None]:
    """A folder with configs, points, and a run of one step; the work goes on in it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        Path("tiny.py").write_text(commands.TINY)
        Path("changing.py").write_text(commands.CHANGING)
        Path("points.csv").write_text("x,t\n0.5,0.5\n")
        Path("benchmarks").mkdir()
        with _without_pictures():
            code, said = command(["train", "tiny.py", "--quiet", "--run-dir", "run", "--max-steps", "2"])
        assert code == 0, said
        Module(small_module).build(_PROBLEM.domain, 1, 0)  # loads much of torch
        yield
    finally:
        os.chdir(before)
