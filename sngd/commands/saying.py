"""What commands say and ask alike: complaints, tables, a run folder. No torch is needed."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sngd.flags import Parser

if TYPE_CHECKING:
    import rich.console

__all__ = ["complain", "run_folder_parser", "table_console"]


def complain(message: str, trace: BaseException | None = None) -> None:
    """An error in one line on standard error, after the trace of what nobody has foreseen."""
    if trace is not None:
        traceback.print_exception(trace)
    if message:
        print(f"error: {message}", file=sys.stderr)


def table_console(width: int) -> rich.console.Console:
    """Where tables are printed, so many columns wide where there is no terminal."""
    import rich.console  # of commands that are to answer at once, few print a table

    console = rich.console.Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = width
    return console


def run_folder_parser(command: str, description: str, **settings: Any) -> Parser:
    """A parser of `sngd COMMAND RUN`."""
    parser = Parser(prog=f"sngd {command}", description=description, **settings)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder, e.g. runs/heat-20261124-101500")
    return parser
