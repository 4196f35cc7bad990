"""Checkpoints: one file, written aside and renamed, read without running foreign code.

Letters
    P        parameters; K conditions; k sketch rank
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["Checkpoint", "load", "save"]

FOLDER, FILE = "checkpoint", "state.pt"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    Args:
        step: last step that was taken.
        seconds: of training so far.
        rejected: steps refused in a row.
        theta: (P,), of all slabs where time marches.
        weights: (K,) of the conditions.
        losses: (K,) float64 at theta, over all ranks.
        optimizer: what its stepper saves.
        spectra: (step, σ (k,)) so far.
        traffic: label → calls, bytes, seconds so far.
        world_size: ranks that wrote it.
        budget: memory in bytes that a rank planned with. Another plan sums in another order.
        schedule: what else has changed on the way: points, weights in time.
        slab: that was being trained.
        slab_steps: taken before that slab.
        slab_seconds: of training before that slab.
    """

    step: int
    seconds: float
    rejected: int
    theta: Tensor
    weights: Tensor
    losses: Tensor
    optimizer: dict[str, Any]
    spectra: list[tuple[int, Tensor]]
    traffic: dict[str, dict[str, float]]
    world_size: int
    budget: int
    schedule: dict[str, Any] = field(default_factory=dict)
    slab: int = 0
    slab_steps: int = 0
    slab_seconds: float = 0.0

    def save(self, run_folder: Path) -> Path:
        """Write it into a run folder in place of the previous one."""
        return save(run_folder / FOLDER, {f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    @staticmethod
    def load(run_folder: Path) -> Checkpoint:
        """The checkpoint of a run folder, on the CPU.

        Raises:
            ValueError: there is none, it cannot be read, or it is none of a run.
        """
        state = load(run_folder / FOLDER)
        names = [f.name for f in dataclasses.fields(Checkpoint)]
        lacking = [n for n in names if not isinstance(state, dict) or n not in state]
        if lacking:
            raise ValueError(
                f"the checkpoint in {str(run_folder)!r} lacks {', '.join(lacking)}: another version of sngd "
                "wrote it, or another program"
            )
        return Checkpoint(**{name: state[name] for name in names})

    @staticmethod
    def exists(run_folder: Path) -> bool:
        """Whether a run folder holds one, whatever its state."""
        return (run_folder / FOLDER / FILE).exists()


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
