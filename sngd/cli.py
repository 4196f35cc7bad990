"""The command line: sngd COMMAND. A command's module is loaded when it is called: torch takes seconds."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from sngd.commands.overview import chosen
from sngd.commands.saying import complain
from sngd.exit_codes import DEVICE, INTERRUPTED, USER_ERROR
from sngd.launcher import Launch, detect

__all__ = ["COMMANDS", "main"]

# name: module, its function; commands/overview.py says what they do
COMMANDS = {
    "doctor": ("commands.doctor", "doctor"),
    "init": ("commands.init", "init"),
    "problems": ("commands.problems", "problems"),
    "plan": ("commands.plan", "plan"),
    "train": ("commands.runs", "train"),
    "resume": ("commands.runs", "resume"),
    "status": ("commands.status", "status"),
    "submit": ("submit", "submit"),
    "eval": ("commands.evaluation", "evaluate"),
    "plot": ("commands.results", "plot"),
    "report": ("commands.report", "report"),
    "export": ("commands.results", "export"),
    "bench": ("bench.command", "bench"),
    "completion": ("commands.completion", "completion"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 for a mistake of the user's, which is told in one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    launch = Launch("alone")
    try:
        launch = detect(os.environ)
        command, rest = chosen(given)
        module, name = COMMANDS[command]
        return getattr(importlib.import_module(f"sngd.{module}"), name)(rest)
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


if __name__ == "__main__":
    sys.exit(main())
