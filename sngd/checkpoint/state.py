"""What a run needs to go on.

Letters
    P        parameters; K conditions; k sketch rank; R ranks
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sngd.checkpoint.encoding import Stored, copied, encode
from sngd.checkpoint.store import Store
from sngd.shelf import Kept

__all__ = ["Checkpoint"]


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
        optimizer: what its stepper saves: damping, rank, last displacement, moments.
        spectra: (step, σ (k,)) so far.
        traffic: label → calls, bytes, seconds so far.
        world_size: ranks that wrote it.
        budget: memory in bytes that a rank planned with. Another plan sums in another order.
        schedule: what else has changed on the way: points, weights in time.
        slab: that was being trained.
        slab_steps: taken before that slab.
        slab_seconds: of training before that slab.
        findings: warnings so far.
        watch: what they are judged by.
        precision: "float64", "float32" or "mixed"; empty where it is not known.
        random: (R, …) bytes, the state of torch's generators on every rank. Nothing of ours draws from them;
            a user's residual may.
        about: fields of the config, versions, the tracker's id.
        reason: why the run has ended here; empty where it goes on.
        skipped: damaged checkpoints that were newer than this one; not stored.
        path: where it was read; not stored.
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
    findings: dict[str, Any] = field(default_factory=dict)
    watch: dict[str, Any] = field(default_factory=dict)
    precision: str = ""
    random: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.uint8))
    about: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    skipped: tuple[str, ...] = ()
    path: Path | None = None

    def encoded(self) -> tuple[Any, dict[str, Stored]]:
        """As JSON, and its tensors by name, which are not copied."""
        tensors: dict[str, Stored] = {}
        return encode({f.name: getattr(self, f.name) for f in _stored()}, tensors), tensors

    def save(self, run_folder: Path, keep: int = 2) -> Path:
        """Write it into a run folder, at once."""
        plain, tensors = self.encoded()
        path = Store(run_folder, keep).write(self.step, plain, copied(tensors))
        assert path is not None
        return path

    @staticmethod
    def load(run_folder: Path, which: str = "last") -> Checkpoint:
        """A checkpoint of a run folder, on the CPU.

        Args:
            run_folder: RUN.
            which: "last", the newest that is whole; "best"; or a step.

        Raises:
            ValueError: there is none, or none can be read: each is named with what is wrong.
        """
        store = Store(run_folder)
        wanted = _wanted(store, run_folder, which)
        skipped: list[str] = []
        while wanted:
            one = wanted.pop(0)
            try:
                return _restored(store.read(one.path), tuple(skipped), one.path)
            except ValueError as error:
                if one.path.exists():
                    skipped.append(f"checkpoint {str(one.path)!r} cannot be read: {error}")
                else:  # a run that goes on has removed it meanwhile, and has newer ones
                    wanted = _wanted(store, run_folder, which)
                    skipped.clear()
        if len(skipped) == 1:
            raise ValueError(f"{skipped[0]}; it is damaged, or no checkpoint")
        raise ValueError(f"no checkpoint of {str(run_folder)!r} can be read: {'; '.join(skipped)}")

    @staticmethod
    def exists(run_folder: Path) -> bool:
        """Whether a run folder holds one, whatever its state."""
        return bool(Store(run_folder).all())


def _wanted(store: Store, run_folder: Path, which: str) -> list[Kept]:
    """Checkpoints to be tried, in order."""
    found = store.all()
    if not found:
        raise ValueError(f"{str(run_folder)!r} holds no checkpoint ({store.folder.name}/ is empty)")
    if which == "last":
        return found
    if which == "best":
        best = store.best(found)
        return [best] if best is not None else found[:1]
    steps = [str(one.step) for one in found]
    if which not in steps:
        raise ValueError(
            f'{str(run_folder)!r} holds no checkpoint {which!r}: there are "last", "best", {", ".join(steps)}'
        )
    return [one for one in found if str(one.step) == which]


def _stored() -> list[dataclasses.Field[Any]]:
    """Fields that a checkpoint keeps."""
    return [f for f in dataclasses.fields(Checkpoint) if f.name not in ("skipped", "path")]


def _restored(state: dict[str, Any], skipped: tuple[str, ...], path: Path) -> Checkpoint:
    """A checkpoint of its state; fields that an older version did not have keep their defaults."""
    missing = dataclasses.MISSING
    needed = [f.name for f in _stored() if f.default is missing and f.default_factory is missing]
    if lacking := [name for name in needed if name not in state]:
        raise ValueError(f"it lacks {', '.join(lacking)}: another version of sngd wrote it")
    given = {f.name: state[f.name] for f in _stored() if f.name in state}
    return Checkpoint(**given, skipped=skipped, path=path)
