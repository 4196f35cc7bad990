"""How the machine that a benchmark ran on is called in names of files."""

from __future__ import annotations

import os
import re

from sngd.machine import machine

__all__ = ["device_slug"]


def device_slug(device: str) -> str:
    """A folder name for the results of this machine's processor or GPU."""
    about = machine(device)
    name = about["gpu"] or f"{about['cpu']}-{os.cpu_count()}-cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("(r)", "")).strip("-")
