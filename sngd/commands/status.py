"""`sngd status`: it answers without loading torch."""

from __future__ import annotations

from sngd.commands.saying import run_folder_parser
from sngd.exit_codes import RESUME
from sngd.standing import Standing, kept_checkpoints

__all__ = ["status"]


def status(given: list[str]) -> int:
    """The command `sngd status`."""
    what = "Where a run stands, and which of its checkpoints are whole."
    options = run_folder_parser("status", what).parse_args(given)
    standing = Standing.of(options.run)
    print(f"{options.run}: {standing.text}")
    for line in kept_checkpoints(options.run):
        print(f"  {line}")
    return 0 if standing.finished else RESUME if standing.resumable else 1
