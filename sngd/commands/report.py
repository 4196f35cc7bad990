"""`sngd report`: a run as one HTML file."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from sngd.audience import PICTURES, draw
from sngd.commands.common import restore, result_parser
from sngd.flags import Parser
from sngd.report import write_report
from sngd.report.facts import read_facts

__all__ = ["report", "report_parser"]


def report_parser() -> Parser:
    """What `sngd report` takes."""
    parser = result_parser(
        "report",
        "Write a run's results, pictures, residuals and config as one HTML file that needs nothing else: to "
        "look at, to print, to send. A run that ends writes one by itself.",
        {
            "report runs/heat-20261124-101500": "report.html in the run folder, with all pictures",
            "report runs/heat-20261124-101500 -o heat.html": "elsewhere",
        },
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: report.html, in the run folder"
    )
    parser.add_argument("--no-pictures", action="store_true", help="figures and config alone, in no time")
    return parser


def report(given: list[str]) -> int:
    """The command `sngd report`."""
    options = report_parser().parse_args(given)
    read_facts(options.run)  # or there is no run
    if options.output is not None and not options.output.absolute().parent.is_dir():
        raise ValueError(f"--output={str(options.output)!r} cannot be written: its folder does not exist")
    with tempfile.TemporaryDirectory() as scratch:
        pictures = [] if options.no_pictures else _pictures(options.run, options.checkpoint, Path(scratch))
        try:
            path = write_report(options.run, pictures, options.output)
        except OSError as error:
            where = f"--output={str(options.output)!r}" if options.output else repr(str(options.run))
            raise ValueError(f"{where} cannot be written: {error.strerror or error}") from error
    print(path)
    return 0


def _pictures(folder: Path, checkpoint: str, into: Path) -> list[Path]:
    """All pictures that apply; none, and a warning, of a run that has no parameters yet or is damaged."""
    try:
        run, network, theta = restore(folder, checkpoint)
        return draw(run, network, theta, folder, list(PICTURES), into=into)
    except ValueError as error:
        print(f"warning: no pictures: {error}", file=sys.stderr)
        return []
