"""The table of docs/reliability.md: a row for each fault, as its test has found it."""

from __future__ import annotations

import re
import socket
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: written by pytest --write-reliability -->", "<!-- end of faults -->"
_HEADER = ("fault", "said", "exit code", "afterwards")
# What differs from one start to the next.
_VARYING = [
    (re.escape(socket.gethostname()), "HOST"),
    (r"/[^\s':]*/run\d*\b", "RUN"),
    (r"/[^\s':]*/(?=small\.py)", ""),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"127\.0\.0\.1\]:\d+", "127.0.0.1]:PORT"),
    (r"\b\d+\.\d+ s\b", "… s"),
    (r"\b\d{3,}ms\b", "… ms"),
    (r"step-\d+(\.\d+)?", "step-N"),
    (r"\bstep \d+", "step N"),
    (r"\bafter \d+ steps\b", "after N steps"),
    (r"\.py:\d+", ".py:LINE"),
    (r"\b([xt])=[-+.\de]+", r"\1=…"),
    ("`", "'"),
]


def lines(said: str) -> list[str]:
    """Of the product's own words on standard error, what is the same in every start."""
    kept = []
    for line in said.splitlines():
        if not re.match(r"(error|warning|history|result|checkpoint)\b", line):
            continue  # torch's own, tracebacks
        for pattern, name in _VARYING:
            line = re.sub(pattern, name, line)
        if line not in kept:
            kept.append(line)
    return kept


class Table:
    """Rows by fault.

    Args:
        writing: rows found replace those of the page; otherwise they must equal them.
    """

    def __init__(self, writing: bool) -> None:
        self.writing = writing
        self.found: dict[str, str] = {}

    def row(self, fault: str, said: str, code: int | str, afterwards: str) -> None:
        """What a test has found.

        Args:
            fault: and how it was provoked.
            said: standard error.
            code: of the command.
            afterwards: which state is usable, and how the run went on.

        Raises:
            AssertionError: the page says something else.
        """
        told = "<br>".join(f"`{line.replace('|', '¦')}`" for line in lines(said)) or "–"
        self.found[fault] = f"| {fault} | {told} | {code} | {afterwards} |"
        if not self.writing:
            assert self.found[fault] in self.written(), (
                f"docs/reliability.md does not have the row {self.found[fault]!r}: "
                "pytest tests/faults --write-reliability"
            )

    def written(self) -> list[str]:
        """Rows of the page."""
        page = PAGE.read_text()
        rows = page[page.index(BEGIN) : page.index(END)].splitlines()
        return [row for row in rows if row.startswith("| ")][1:]

    def write(self) -> None:
        """Put what was found into the page, in order; rows of tests that did not run stay."""
        if not self.writing or not self.found:
            return
        rows = {row.split(" | ")[0].removeprefix("| "): row for row in self.written()} | self.found
        head = [f"| {' | '.join(_HEADER)} |", "|" + "---|" * len(_HEADER)]
        page = PAGE.read_text()
        table = "\n".join([BEGIN, *head, *rows.values(), ""])
        PAGE.write_text(page[: page.index(BEGIN)] + table + page[page.index(END) :])
