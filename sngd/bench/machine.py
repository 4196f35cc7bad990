"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

__all__ = ["device_slug", "machine"]


def machine(device: str) -> dict[str, Any]:
    """Processor, cores that this process may use, GPU (where device is "cuda") and versions."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        name = found.group(1).strip() if found else name
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def device_slug(device: str) -> str:
    """A folder name for the results of this machine's processor or GPU."""
    about = machine(device)
    name = about["gpu"] or f"{about['cpu']}-{os.cpu_count()}-cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("(r)", "")).strip("-")
