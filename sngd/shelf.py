"""The checkpoints that a run folder holds, looked at without reading their tensors: no torch is needed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDER", "Kept", "Shelf", "digest", "verify"]

FOLDER, MANIFEST, SUMS = "checkpoints", "manifest.json", "SHA256SUMS"
ASIDE = "damaged-"
_NAME = re.compile(r"step-(\d{9,})(?:\.(\d+))?")
_HASHED_AT_ONCE = 1 << 22


@dataclass(frozen=True, order=True)
class Kept:
    """A checkpoint of a store, whole or not.

    Args:
        step: that it was written after.
        again: how many checkpoints of the same step are older.
        path: its folder.
    """

    step: int
    again: int
    path: Path


class Shelf:
    """RUN/checkpoints.

    Args:
        run_folder: RUN.
    """

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / FOLDER

    def all(self) -> list[Kept]:
        """Those that are there, the newest first, unverified."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if (match := _NAME.fullmatch(path.name)) and path.is_dir():
                found.append(Kept(int(match[1]), int(match[2] or 0), path))
        return sorted(found, reverse=True)

    def set_aside(self) -> list[Path]:
        """Damaged ones, renamed by a run that went on from an earlier one."""
        return sorted(self.folder.glob(f"{ASIDE}*"))

    def best(self, among: list[Kept] | None = None) -> Kept | None:
        """The one with the smallest score, the newest of several; None where none has one."""
        found = self.all() if among is None else among
        scores = [(score, -one.step, -one.again, one) for one in found if (score := _score(one)) is not None]
        return min(scores)[-1] if scores else None

    def verdict(self, path: Path) -> str:
        """What is wrong with a checkpoint, by its checksums; empty if nothing is."""
        try:
            verify(path)
        except (OSError, ValueError) as error:
            return str(error.strerror if isinstance(error, OSError) else error)
        return ""


def verify(path: Path) -> None:
    """Compare every file with its sum.

    Raises:
        ValueError: one is missing or differs.
    """
    if not (path / SUMS).is_file():
        raise ValueError(f"{SUMS} is missing")
    listed = [line.split("  ", 1) for line in (path / SUMS).read_text(errors="replace").splitlines()]
    if not listed or any(len(line) != 2 for line in listed):
        raise ValueError(f"{SUMS} is damaged")
    sums = {Path(name).name: found for found, name in listed}
    if MANIFEST not in sums:
        raise ValueError(f"{SUMS} is damaged")
    for name, expected in sums.items():
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
        if digest(path / name) != expected:
            raise ValueError(f"{name} differs from its checksum")


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(_HASHED_AT_ONCE):
            found.update(part)
    return found.hexdigest()


def _score(one: Kept) -> float | None:
    """That of a checkpoint; None where it has none, or is damaged."""
    try:
        score = json.loads((one.path / MANIFEST).read_text())["score"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return score if isinstance(score, (int, float)) and math.isfinite(score) else None
