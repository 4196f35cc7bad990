"""What pages are made of when the site is built: objects of the reference, help texts of the commands.

::: sngd.NAME               becomes the path of the module that defines it, which mkdocstrings reads
<!-- help: train CONFIG --> becomes what `sngd train CONFIG --help` prints
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
from typing import Any

__all__ = ["defined_in", "help_text", "on_page_markdown"]

OBJECT = re.compile(r"^::: (sngd(?:\.problems)?)\.(\w+)$", re.MULTILINE)
HELP = re.compile(r"^<!-- help:(.*)-->$", re.MULTILINE)
_COLUMNS = "100"


def defined_in(package: str, name: str) -> str:
    """The path under which a public name of a package is defined.

    Args:
        package: sngd or sngd.problems.
        name: of its `__all__`.
    """
    value = getattr(importlib.import_module(package), name)
    return f"{value.__module__}.{value.__qualname__}"


def help_text(command: str) -> str:
    """What `sngd COMMAND --help` prints on a terminal of 100 columns.

    Args:
        command: its words, none for `sngd --help` itself.
    """
    from sngd.cli import main

    printed, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _COLUMNS
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*command.split(), "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return printed.getvalue().rstrip()


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page's text with both replaced (called by MkDocs)."""
    markdown = OBJECT.sub(lambda found: f"::: {defined_in(*found.groups())}", markdown)
    return HELP.sub(lambda found: f"```text\n{help_text(found.group(1).strip())}\n```", markdown)
