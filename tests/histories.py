"""What the history of a run folder says, also while the run is at work."""

from pathlib import Path
from typing import Any

from sngd.tracking import read_history


def column(folder: Path | str, name: str) -> list[Any]:
    """One entry of every record so far; empty before the first."""
    history = Path(folder) / "history.jsonl"
    return [record[name] for record in read_history(history)] if history.exists() else []


def losses(folder: Path | str) -> list[float]:
    return column(folder, "loss")


def steps(folder: Path | str) -> list[int]:
    return column(folder, "step")
