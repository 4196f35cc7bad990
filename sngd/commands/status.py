"""`sngd status`: it answers without loading torch."""

from __future__ import annotations

from sngd.commands.saying import run_folder_parser
from sngd.exit_codes import RESUME
from sngd.flags import Parser
from sngd.standing import Standing, kept_checkpoints

__all__ = ["status", "status_parser"]


def status_parser() -> Parser:
    """The parser of `sngd status`."""
    return run_folder_parser(
        "status",
        "Where a run stands, and which of its checkpoints are whole. Exit code 0: finished; 75: stopped, "
        "`sngd resume` goes on; 1: it runs, or was lost.",
        examples={"status runs/heat-20261124-101500": "a line, and one for each checkpoint"},
    )


def status(given: list[str]) -> int:
    """The command `sngd status`."""
    options = status_parser().parse_args(given)
    standing = Standing.of(options.run)
    print(f"{options.run}: {standing.text}")
    for line in kept_checkpoints(options.run):
        print(f"  {line}")
    return 0 if standing.finished else RESUME if standing.resumable else 1
