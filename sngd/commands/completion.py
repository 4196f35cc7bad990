"""`sngd completion`: a script that completes commands, flags, configs and run folders in a shell.

shtab writes it from the parsers of all commands; flags of a config's fields are those of problems:heat under
every optimizer. The script is whole: completing starts no Python.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sngd import library
from sngd.audience import PICTURES
from sngd.bench.command import bench_parser
from sngd.bench.suites import SUITES
from sngd.commands import shell_words
from sngd.commands.doctor import doctor_parser
from sngd.commands.evaluation import eval_parser
from sngd.commands.init import init_parser
from sngd.commands.overview import COMMANDS
from sngd.commands.plan import plan_parser
from sngd.commands.problems import problems_parser
from sngd.commands.report import report_parser
from sngd.commands.results import export_parser, plot_parser
from sngd.commands.runs import resume_parser, train_parser
from sngd.commands.status import status_parser
from sngd.config import flags_of
from sngd.flags import Parser
from sngd.optimizers import OPTIMIZERS, named
from sngd.submit import submit_parser

__all__ = ["completion", "completion_parser"]

_INSTALL = {
    "bash": "completion bash > ~/.local/share/bash-completion/completions/sngd",
    "zsh": "completion zsh > ~/.zfunc/_sngd",
    "fish": "completion fish > ~/.config/fish/completions/sngd.fish",
}
_HEAT = "heat"  # the config whose fields stand for all
# Fields that are objects where a config sets them.
_NO_FLAGS = ("adaptive_points", "causal", "curriculum", "marching")


def completion_parser() -> Parser:
    """The parser of `sngd completion`."""
    parser = Parser(
        prog="sngd completion",
        description="Print a script that completes commands, flags, configs, problems:NAME and run folders. "
        "It needs shtab, pip install 'sngd[completion]', when it is printed, and nothing when it is used.",
        epilog="The folder must be there. bash also takes `source <(sngd completion bash)` in ~/.bashrc; zsh "
        "wants `fpath=(~/.zfunc $fpath)` before `compinit` in ~/.zshrc.",
        examples={line: f"{shell}, from the next shell on" for shell, line in _INSTALL.items()},
    )
    parser.add_argument("shell", metavar="SHELL", choices=list(_INSTALL), help=", ".join(_INSTALL))
    return parser


def completion(given: list[str]) -> int:
    """The command `sngd completion`.

    Raises:
        ValueError: shtab is missing.
    """
    shell = completion_parser().parse_args(given).shell
    try:
        import shtab
    except ImportError:
        raise ValueError("sngd completion needs shtab: pip install 'sngd[completion]'") from None
    print(shtab.complete(_whole(), shell, preamble=shell_words.functions(shell, library.names())))
    print(shell_words.ending(shell), end="")
    return 0


def _whole() -> argparse.ArgumentParser:
    """All commands under one parser, with what their words are."""
    whole = argparse.ArgumentParser(prog="sngd", description="Sketched natural gradients")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(metavar="COMMAND")
    parsers = {
        "doctor": doctor_parser(),
        "init": init_parser(),
        "problems": problems_parser(),
        "plan": _with_fields(plan_parser()),
        "train": _with_fields(train_parser()),
        "resume": _with_fields(resume_parser()),
        "status": status_parser(),
        "submit": _with_fields(submit_parser()),
        "eval": eval_parser(),
        "plot": plot_parser(),
        "report": report_parser(),
        "export": export_parser(),
        "bench": bench_parser(),
        "completion": completion_parser(),
    }
    about = {name: text for group in COMMANDS.values() for name, text in group.items()}
    for name, own in parsers.items():
        added = commands.add_parser(name, help=about[name], parents=[own], add_help=False)
        added.description = about[name]
        for action in added._actions:
            _say_what_follows(name, action)
    return whole


def _say_what_follows(command: str, action: argparse.Action) -> None:
    """What the value of an argument is, where that is no choice of its own."""
    if action.dest == "config":
        action.help = "a config"
        action.complete = shell_words.CONFIG  # type: ignore[attr-defined]
    elif action.dest == "run":
        action.help = "a run folder"
        action.complete = shell_words.RUN  # type: ignore[attr-defined]
    elif action.dest in ("run_dir", "folder"):
        action.complete = shell_words.FOLDER  # type: ignore[attr-defined]
    elif action.dest == "name" and command == "problems":
        action.choices = library.names()
    elif action.dest == "suite":
        action.choices = [*SUITES, "report"]
    elif action.dest == "what":
        action.choices = list(PICTURES)
    elif action.type is Path:
        action.complete = shell_words.FILE  # type: ignore[attr-defined]


def _with_fields(parser: Parser) -> Parser:
    """A parser with the flags that replace fields of its config."""
    parser.add_argument("--optimizer", choices=list(OPTIMIZERS), help="another optimizer with its defaults")
    parser.add_argument("--help", action="store_true", help="all fields with their values")
    run, known = library.entry(_HEAT).run, set(parser._option_string_actions)
    for name in OPTIMIZERS:
        flags = flags_of(dataclasses.replace(run, optimizer=named(name)))()
        for flag, (kind, about) in _flags(flags, "--").items():
            if flag in known:
                continue
            known.add(flag)
            if kind is bool:
                above, dot, last = flag[2:].rpartition(".")
                parser.add_argument(flag, f"--{above}{dot}no-{last}", action="store_true", help=about)
                continue
            parser.add_argument(flag, help=about, nargs=_count(kind), choices=_choices(kind))
    return parser


def _flags(settings: Any, prefix: str) -> dict[str, tuple[Any, str]]:
    """Type and meaning of the fields of a dataclass, and of those within, by their flags."""
    found: dict[str, tuple[Any, str]] = {}
    hints, doc = get_type_hints(type(settings)), inspect.cleandoc(type(settings).__doc__ or "")
    for field in dataclasses.fields(settings):
        value, flag = getattr(settings, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            found |= _flags(value, f"{flag}.")
        elif field.name not in _NO_FLAGS:
            said = re.search(rf"^ +{field.name}: (.*(?:\n {{8}}.*)*)", doc, re.MULTILINE)
            about = re.split(r"(?<!e\.g)\. ", " ".join(said.group(1).split()))[0] if said else ""
            found[flag] = hints[field.name], about.replace("%", "%%")
    return found


def _choices(kind: Any) -> list[str] | None:
    """The words that a field may be, where it is one of some."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    return next((words for part in get_args(kind) if (words := _choices(part))), None)


def _count(kind: Any) -> str | None:
    return "*" if get_origin(kind) is tuple else None
