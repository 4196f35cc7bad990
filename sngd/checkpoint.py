"""Checkpoints: one file, written aside and renamed, read without running foreign code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["load", "save"]

FILE = "state.pt"


def save(folder: Path, state: dict[str, Any]) -> Path:
    """Write a state of tensors, numbers and strings so that the previous one survives a crash.

    Args:
        folder: made if absent; holds one file.
        state: what to keep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, aside = folder / FILE, folder / (FILE + ".partial")
    with aside.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(target)
    return target


def load(folder: Path) -> dict[str, Any]:
    """The state of the last checkpoint, on the CPU.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} holds no checkpoint ({FILE} is missing)")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own text is a page long and advises to run foreign code
        kind = type(error).__name__
        raise ValueError(
            f"checkpoint {str(path)!r} cannot be read ({kind}): it is damaged or no checkpoint"
        ) from error
