"""The command line: sngd COMMAND. A command's module is loaded when it is called: torch takes seconds."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from sngd.commands.saying import complain
from sngd.exit_codes import DEVICE, INTERRUPTED, USER_ERROR
from sngd.launcher import Launch, detect

__all__ = ["COMMANDS", "main"]

# name: module, its function, what it does
COMMANDS = {
    "doctor": ("commands.doctor", "doctor", "look at this machine: what runs need, what fails, what to do"),
    "init": ("commands.init", "init", "write a commented config to begin with"),
    "train": ("commands.runs", "train", "train the run that a config file defines"),
    "resume": ("commands.runs", "resume", "go on with a run that was stopped or lost"),
    "status": (
        "commands.status",
        "status",
        "where a run stands; exit code 0 finished, 75 to be resumed, 1 neither",
    ),
    "plan": ("commands.plan", "plan", "what a run would hold, keep and send, without running it"),
    "submit": ("submit", "submit", "hand a run to Slurm"),
    "eval": (
        "commands.results",
        "evaluate",
        "errors of a finished run against the known solution, and its residuals on fresh points",
    ),
    "plot": ("commands.results", "plot", "draw a finished run"),
    "export": (
        "commands.results",
        "export",
        "write a finished run's fields (NPZ, VTK) or its network (PT2, ONNX) to a file",
    ),
    "problems": ("commands.problems", "problems", "the library of problems, to be trained by name"),
    "bench": ("bench.command", "bench", "run a suite of benchmarks, or write their report"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 for a mistake of the user's, which is told in one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = _parser().parse_args(given[:1]).command
    launch = Launch("alone")
    try:
        launch = detect(os.environ)
        module, name, _ = COMMANDS[command]
        return getattr(importlib.import_module(f"sngd.{module}"), name)(given[1:])
    except BrokenPipeError:  # whoever read the output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:  # where no training catches it
        if launch.size > 1:
            raise
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        if launch.size == 1 and type(error) is ValueError:
            complain(str(error))
            return USER_ERROR
        from sngd.commands.telling import tell

        code = tell(error, launch)
        if code is None:
            raise
    if launch.size > 1 or code == DEVICE:  # what is left on a broken device would abort the exit
        from sngd.failures import leave

        leave(code)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sngd", description="Physics-informed networks trained by sketched natural gradients."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, _, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
