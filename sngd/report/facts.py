"""What a run folder holds, as far as it can be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sngd.checks import finite
from sngd.standing import CONFIG, HISTORY, RESULT, Standing, check_run
from sngd.tracking import read_history

__all__ = ["Facts", "inner", "listed", "read_facts"]


@dataclass(frozen=True)
class Facts:
    """Config, result and history of a run.

    Args:
        folder: of the run, as it was named.
        config: content of config.json.
        result: content of result.json; empty where there is none.
        history: records of the steps.
        standing: where the run stands, in a line.
        lacking: what could not be read, a line each.
    """

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    standing: str = ""
    lacking: tuple[str, ...] = ()

    @property
    def last(self) -> dict[str, Any]:
        """The last record; empty where there is none."""
        return self.history[-1] if self.history else {}

    @property
    def fields(self) -> dict[str, Any]:
        """The config's fields."""
        return inner(self.config, "fields")

    @property
    def name(self) -> str:
        """Of the problem."""
        return str(inner(self.fields, "problem").get("name") or self.folder.name)

    def latest(self, key: str) -> float | None:
        """A number of the result, or else the last one that the history has."""
        values = (self.result.get(key), *(record.get(key) for record in reversed(self.history)))
        return next((value for value in values if finite(value)), None)


def inner(content: Any, key: str) -> dict[str, Any]:
    """The object under a key; an empty one where there is none."""
    value = content.get(key) if isinstance(content, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def listed(content: Any, key: str) -> list[Any]:
    """The list under a key; an empty one where there is none."""
    value = content.get(key) if isinstance(content, Mapping) else None
    return list(value) if isinstance(value, (list, tuple)) else []


def read_facts(folder: Path) -> Facts:
    """The facts of a run folder, of a run that has ended or has not.

    Raises:
        ValueError: it holds no run.
    """
    if not folder.is_dir():
        raise ValueError(f"run folder {str(folder)!r} does not exist")
    check_run(folder)
    lacking: list[str] = []
    history: list[dict[str, Any]] = []
    try:
        history = read_history(folder / HISTORY)
    except FileNotFoundError:
        lacking.append(f"{HISTORY} is missing")
    except (OSError, ValueError) as error:
        lacking.append(f"{HISTORY} is damaged: {str(error).removeprefix(f'{folder / HISTORY}, ')}")
    config = _object(folder / CONFIG, lacking)
    result = _object(folder / RESULT, lacking) if (folder / RESULT).exists() else {}
    return Facts(folder, config, result, history, Standing.of(folder).text, tuple(lacking))


def _object(path: Path, lacking: list[str]) -> dict[str, Any]:
    """A JSON object from a file; an empty one where it holds none, which is noted."""
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
        why = type(content).__name__
    except (OSError, ValueError, RecursionError) as error:
        why = type(error).__name__
    lacking.append(f"{path.name} is damaged ({why})")
    return {}
