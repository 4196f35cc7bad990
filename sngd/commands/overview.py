"""What `sngd` says of itself: its commands, its version, what a word that is none of them was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sngd.exit_codes import USER_ERROR
from sngd.flags import HELP
from sngd.version import version

__all__ = ["COMMANDS", "chosen"]

COMMANDS = {
    "to begin": {
        "doctor": "what this machine has for a run, what fails, what to do",
        "init": "write a commented config to begin with",
        "problems": "the library of problems, to be trained by name",
    },
    "to run": {
        "plan": "what a run would hold, keep and send, without running it",
        "train": "train the run that a config defines",
        "resume": "go on with a run that was stopped or lost",
        "status": "where a run stands, and its checkpoints",
        "submit": "hand a run to Slurm",
    },
    "to look at what came of it": {
        "eval": "errors against the known solution, residuals on fresh points",
        "plot": "pictures, as PNG or PDF",
        "report": "results, pictures and config as one HTML file",
        "export": "fields to NPZ or VTK, the network to PT2 or ONNX",
    },
    "beside": {
        "bench": "run a suite of benchmarks in a checkout",
        "completion": "print a script that completes commands and flags in bash, zsh or fish",
    },
}
_TEXT = """usage: sngd COMMAND [arguments]

Physics-informed networks trained by sketched natural gradients.

{commands}

`sngd COMMAND --help` tells all about one, `sngd --version` the version. The first run:

  sngd init mypde.py
  sngd train mypde.py

A CONFIG is a Python file such as mypde.py, problems:NAME, or the config.json of an earlier run; a RUN is the
folder that a run has left, runs/NAME-TIME."""


def chosen(given: Sequence[str]) -> tuple[str, list[str]]:
    """The command that is asked for, and its arguments; what `sngd` answers by itself is answered here.

    Raises:
        ValueError: there is no such command.
        SystemExit: with code 0 after help or version, with 2 where nothing is given.
    """
    names = [name for group in COMMANDS.values() for name in group]
    first, *rest = given or [""]
    if first == "help" and rest:  # sngd help train
        first, rest = rest[0], ["--help"]
    if first in names:
        return first, rest
    if first in ("", "help", *HELP):
        print(_text())
        raise SystemExit(0 if first else USER_ERROR)
    if first in ("--version", "-V", "version"):
        print(f"sngd {version()}")
        raise SystemExit(0)
    near = difflib.get_close_matches(first, names, n=2)
    if first.endswith(".py"):
        raise ValueError(f"COMMAND is missing before {first!r}: sngd train {first}")
    hint = f"did you mean {' or '.join(near)}?" if near else "`sngd --help` lists them"
    raise ValueError(f"sngd has no command {first!r}: {hint}")


def _text() -> str:
    groups = [
        "\n".join([f"{title}:", *(f"  {name:10}  {what}" for name, what in group.items())])
        for title, group in COMMANDS.items()
    ]
    return _TEXT.format(commands="\n\n".join(groups))
