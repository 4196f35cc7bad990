"""Where the run of a folder stands, told from its files: no torch is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sngd.checks import finite
from sngd.shelf import Shelf
from sngd.stopping import RESUMABLE

__all__ = ["CONFIG", "HISTORY", "RESULT", "Standing", "check_run", "kept_checkpoints", "read"]

CONFIG, HISTORY, RESULT = "config.json", "history.jsonl", "result.json"


@dataclass(frozen=True)
class Standing:
    """Where the run of a folder stands.

    Args:
        text: a line for people.
        finished: nothing is left to do.
        resumable: it was stopped and can go on.
    """

    text: str
    finished: bool = False
    resumable: bool = False

    @staticmethod
    def of(folder: Path) -> Standing:
        """That of a folder.

        Raises:
            ValueError: it holds no run.
        """
        check_run(folder)
        result = read(folder / RESULT)
        if result is not None:
            reason = str(result.get("stop_reason"))
            resumable = reason in RESUMABLE
            text = f"{reason} after {result.get('steps')} steps"
            for name, key in (("loss", "loss"), ("relative L2 error", "relative_l2")):
                if finite(value := result.get(key)):
                    text += f", {name} {value:.3g}"
            if isinstance(warnings := result.get("warnings"), list) and warnings:
                text += f", {len(warnings)} warning{'s' * (len(warnings) > 1)}"
            return Standing(text, not resumable, resumable)
        shelf = Shelf(folder)
        found = shelf.all()
        if not found:
            return Standing("no checkpoint yet: it runs, or was lost before the first one")
        whole = next((one.step for one in found if not shelf.verdict(one.path)), None)
        after = "and none of its checkpoints is whole" if whole is None else f"after step {whole}"
        return Standing(f"no result yet: it runs, or was lost {after}")


def check_run(folder: Path) -> None:
    """Refuse a folder that holds no run.

    Raises:
        ValueError: it does not.
    """
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{str(folder)!r} holds no run ({CONFIG} is missing)")


def kept_checkpoints(folder: Path) -> list[str]:
    """A line for each checkpoint of a run folder, the newest first: step, whether the best, what is wrong."""
    shelf, lines = Shelf(folder), []
    found = shelf.all()
    best = shelf.best(found)
    for one in found:
        wrong = shelf.verdict(one.path)
        marks = [*["best"] * (one == best), *[f"damaged: {wrong}"] * bool(wrong)]
        lines.append(f"{one.path}{': ' if marks else ''}{', '.join(marks)}")
    return [*lines, *(f"{path}: set aside" for path in shelf.set_aside())]


def read(path: Path) -> dict[str, Any] | None:
    """What a file of JSON says by name; None where there is none, or a damaged one."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
