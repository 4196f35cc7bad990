"""Where scripts beside `sngd bench` leave what they measured: with the suites, naming the machine."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sngd.bench.machine import device_slug
from sngd.machine import machine

RESULTS = Path(__file__).parent / "results"


def write(name: str, content: dict[str, Any]) -> Path:
    """Write benchmarks/results/<device>/<name>.json."""
    path = RESULTS / device_slug("cpu") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    about = {**machine("cpu"), "threads": torch.get_num_threads(), "date": today}
    path.write_text(json.dumps({"machine": about, **content}, indent=1) + "\n")
    return path
