"""The version of the package, and the commit of the checkout that it lies in."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from pathlib import Path

__all__ = ["commit", "version"]

_ABOVE = Path(__file__).parents[1]


def version() -> str:
    """The installed version; "unknown" of a package that is on the path and not installed.

    A version without a tag of git has the commit that was installed: 0.1.dev437+g5386e6d. Of an editable
    installation it stays what it was then, `commit` goes on.
    """
    try:
        return importlib.metadata.version("sngd")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache  # what runs is what was there when it was first asked for; git takes processes of its own
def commit() -> str | None:
    """The checkout's commit, with "+" where the package differs from it; None outside of a checkout."""
    if not (_ABOVE / ".git").exists():  # site-packages, which may lie in the repository of something else
        return None
    git = ["git", "-C", str(_ABOVE)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=9", "HEAD"], capture_output=True, text=True)
        changes = subprocess.run([*git, "status", "--porcelain", "sngd"], capture_output=True, text=True)
    except OSError:  # no git here
        return None
    if head.returncode or changes.returncode:
        return None
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")
