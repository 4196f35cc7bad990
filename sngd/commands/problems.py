"""`sngd problems`: the library, or all about one of its problems."""

from __future__ import annotations

import dataclasses
from typing import Any

import rich.box
import rich.console
import rich.table

from sngd import library
from sngd.commands.saying import table_console
from sngd.composite import build_network
from sngd.config import RunConfig
from sngd.flags import Parser
from sngd.library import Best, Entry

__all__ = ["problems", "problems_parser"]

_WIDE = 160  # columns that the table takes where there is no terminal
_NAMED = 4  # coordinates and fields that are told by name; more are counted


def problems_parser() -> Parser:
    """The parser of `sngd problems`."""
    parser = Parser(
        prog="sngd problems",
        description="The library of problems with their best known errors, or all about one of them. "
        "problems:NAME stands for its config in all commands that take one.",
        examples={
            "problems": "the list",
            "problems burgers": "equation, domain, network, budget, best known error, path of the config",
            "train problems:burgers": "train it",
        },
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="tell all about this one")
    return parser


def problems(given: list[str]) -> int:
    """The command `sngd problems`."""
    options = problems_parser().parse_args(given)
    console = table_console(_WIDE)
    if options.name is None:
        console.print(_table([library.entry(name) for name in library.names()]))
        console.print("`sngd problems NAME` tells more, `sngd train problems:NAME` trains one")
    else:
        _tell(console, library.entry(options.name))
    return 0


def _table(entries: list[Entry]) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for column in ("problem", "equation", "coordinates", "unknowns"):
        table.add_column(column, no_wrap=column == "problem", ratio=3 if column == "equation" else None)
    for column in ("best error", "seconds", "seeds"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        problem = entry.run.problem
        unknowns = [*problem.fields, *problem.unknowns]
        what = entry.equation or entry.title
        table.add_row(entry.name, what, _listed(problem.domain.names), _listed(unknowns), *_known(entry.best))
    return table


def _listed(names: Any) -> str:
    names = list(names)
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{names[0]} … {names[-1]} ({len(names)})"


def _known(best: Best | None) -> tuple[str, str, str]:
    """Error, seconds and seeds as they are shown."""
    if best is None:
        return "—", "—", "—"
    seconds = "—" if best.seconds is None else f"{best.seconds:.0f}"
    return f"{best.median:.1e}", seconds, "—" if best.seeds is None else str(best.seeds)


def _tell(console: rich.console.Console, entry: Entry) -> None:
    run = entry.run
    console.print(entry.text)
    if entry.background:
        console.print(f"\n{entry.background}")
    facts = rich.table.Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column()
    for name, value in _facts(entry, run):
        facts.add_row(name, value)
    console.print()
    console.print(facts)
    console.print()
    console.print(_conditions(run))
    console.print(f"sngd train problems:{entry.name} --run-dir runs/{entry.name}")


def _facts(entry: Entry, run: RunConfig) -> list[tuple[str, str]]:
    problem, network = run.problem, build_network(run.problem, run.network, run.seed)
    budget = [f"{run.max_steps:,} steps"]
    if run.max_seconds is not None:
        budget.append(f"{run.max_seconds:g} s")
    if run.target_error is not None:
        budget.append(f"relative L2 error {run.target_error:g}")
    facts = [
        ("domain", repr(problem.domain)),
        ("unknowns", ", ".join([*problem.fields, *problem.unknowns])),
        ("solution", "none" if problem.solution is None else "known"),
        ("network", repr(network)),
        ("optimizer", _changed(run.optimizer)),
        ("budget", " or ".join(budget)),
        ("config", str(entry.path)),
    ]
    if (best := entry.best) is not None:
        error, seconds, seeds = _known(best)
        spread = "" if best.spread is None else f" ({best.spread[0]:.1e} … {best.spread[1]:.1e})"
        where = "".join(f", {text}" for text in (best.machine, best.commit) if text)
        facts.append(("best error", f"{error}{spread} in {seconds} s, {seeds} seeds{where}"))
    else:
        facts.append(("best error", "—"))
    return facts


def _changed(config: Any) -> str:
    """A dataclass by its name and the fields that are not at their defaults."""
    plain = type(config)()
    pairs = [(f.name, getattr(config, f.name), getattr(plain, f.name)) for f in dataclasses.fields(config)]
    return f"{type(config).__name__}({', '.join(f'{n}={v!r}' for n, v, usual in pairs if v != usual)})"


def _conditions(run: RunConfig) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("condition")
    for column in ("points", "components", "weight"):
        table.add_column(column, justify="right")
    table.add_column("sampling")
    for condition, signature in zip(run.problem.conditions, run.problem.signatures, strict=True):
        numbers = (f"{condition.points:,}", str(signature.components), f"{condition.weight:g}")
        table.add_row(condition.name, *numbers, condition.sampling)
    return table
