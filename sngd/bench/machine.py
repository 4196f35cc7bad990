"""What a benchmark ran on, and from which commit."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from sngd.machine import machine

__all__ = ["commit", "device_slug", "machine"]

_REPOSITORY = Path(__file__).parents[2]


def device_slug(device: str) -> str:
    """A folder name for the results of this machine's processor or GPU."""
    about = machine(device)
    name = about["gpu"] or f"{about['cpu']}-{os.cpu_count()}-cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("(r)", "")).strip("-")


def commit() -> str | None:
    """The checkout's commit, with "+" where the package differs from it; None outside of a checkout."""
    git = ["git", "-C", str(_REPOSITORY)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=9", "HEAD"], capture_output=True, text=True)
        changes = subprocess.run([*git, "status", "--porcelain", "sngd"], capture_output=True, text=True)
    except OSError:  # no git here
        return None
    if head.returncode or changes.returncode:
        return None
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")
