"""The checkpoints of a run folder: written whole, verified when read, the last few and the best kept."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sngd.checkpoint.encoding import Stored, decode
from sngd.checkpoint.tensors import read_tensors, write_tensors
from sngd.shelf import ASIDE, MANIFEST, SUMS, Shelf, digest, verify

__all__ = ["CheckpointError", "Store"]

_FORMAT = 1


class CheckpointError(RuntimeError):
    """The last checkpoint of a run could not be written; the text says which one is the last whole one."""


class Store(Shelf):
    """RUN/checkpoints, to be written to and read.

    Args:
        run_folder: RUN.
        keep: how many of the last ones are kept, beside the best.
    """

    def __init__(self, run_folder: Path, keep: int = 2) -> None:
        super().__init__(run_folder)
        self.keep = keep

    def write(
        self,
        step: int,
        plain: Any,
        tensors: dict[str, Stored],
        score: float | None = None,
        group: Any = None,
        first: bool = True,
        lost: Callable[[], bool] | None = None,
        mark: str = "",
    ) -> Path | None:
        """Write a checkpoint aside, sync it, and put it in place; then remove those that are no longer kept.

        Args:
            step: after which.
            plain: JSON that `encode` made.
            tensors: that it names.
            score: the smaller, the better the state; None where that cannot be said.
            group: of ranks that hold shares, which all call this; None for this process alone.
            first: this is the rank that puts it in place.
            lost: whether the folder belongs to another process by now.
            mark: keeps what is being written apart from what others write, e.g. a start of the same run that
                was taken for dead; the same on every rank of the group.

        Returns:
            Its folder; None where nothing was put in place.

        Raises:
            OSError: it cannot be written; those before are untouched.
        """
        aside = self.folder / f".step-{step:09d}-{mark or os.getpid()}.partial"
        path = None
        try:
            index = write_tensors(aside, tensors, group)
            if not first:
                return None
            known = score if score is not None and math.isfinite(score) else None
            content = {"format": _FORMAT, "step": step, "score": known, "state": plain, "tensors": index}
            (aside / MANIFEST).write_text(json.dumps(content))
            # by their names: a file system that machines share lists those of others late
            names = sorted({MANIFEST, *(chunk[2] for one in index.values() for chunk in one["chunks"])})
            (aside / SUMS).write_text("".join(f"{digest(aside / name)}  {name}\n" for name in names))
            for new in (aside / MANIFEST, aside / SUMS, aside):
                _sync(new)
            if lost is None or not lost():
                path = aside.rename(self._free(step))
                for folder in (self.folder, self.folder.parent):
                    _sync(folder)
        finally:
            if first and path is None:
                shutil.rmtree(aside, ignore_errors=True)
        if path is not None:
            self._prune(path)
        return path

    def _free(self, step: int) -> Path:
        """A name that no checkpoint has: one of the same step may be damaged, or of another start."""
        again = max((one.again + 1 for one in self.all() if one.step == step), default=0)
        return self.folder / f"step-{step:09d}{f'.{again}' if again else ''}"

    def _prune(self, newest: Path) -> None:
        """Remove all but the last few and the best; what cannot be removed is left."""
        found = self.all()
        best = self.best(found)
        for one in found[self.keep :]:
            if one != best and one.path != newest:
                _remove(one.path)

    def read(self, path: Path) -> dict[str, Any]:
        """The state of one checkpoint, on the CPU, verified.

        Raises:
            ValueError: it is damaged, or none of ours; the text says what is wrong with which file.
        """
        try:
            verify(path)
            content = json.loads((path / MANIFEST).read_text())
            if content["format"] != _FORMAT:
                raise ValueError(f"{MANIFEST} has format {content['format']!r}, this version knows {_FORMAT}")
            state = decode(content["state"], read_tensors(path, content["tensors"]))
        except OSError as error:
            raise ValueError(f"{Path(error.filename or MANIFEST).name}: {error.strerror}") from error
        except MemoryError:
            raise
        except Exception as error:  # torch's own text is a page long and advises to run foreign code
            reason = str(error) if type(error) is ValueError else f"{MANIFEST}: {type(error).__name__}"
            raise ValueError(reason) from error
        if not isinstance(state, dict):
            raise ValueError(f"{MANIFEST} holds no state")
        return state

    def clear(self, after: int, start: Path | None = None) -> None:
        """Before a run goes on from a step: drop what was being written, set aside what lies beyond.

        Args:
            after: the step. Later checkpoints are damaged, or it would not be the one: they are renamed.
            start: the checkpoint. So are newer ones of the same step.

        Raises:
            OSError: they cannot be.
        """
        for path in self.folder.glob(".*") if self.folder.is_dir() else ():
            _remove(path)
        for one in self.all():
            if one.step < after or (one.step == after and start is None):
                break
            if start is not None and one.path.resolve() == start.resolve():
                break
            _set_aside(one.path)


def _set_aside(path: Path) -> None:
    number = 0
    while (target := path.with_name(f"{ASIDE}{path.name}{f'-{number}' if number else ''}")).exists():
        number += 1
    path.rename(target)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove(path: Path) -> None:
    """Rename first: whoever looks finds it whole or not at all."""
    if not path.name.startswith("."):
        try:
            path = path.rename(path.with_name(f".{path.name}.removed"))
        except OSError:
            return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
