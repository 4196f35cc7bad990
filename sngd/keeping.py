"""When a running training keeps a checkpoint, and what becomes of those that cannot be written.

Letters
    R        ranks
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sngd.allocation import first_line
from sngd.checkpoint import Checkpoint, CheckpointError, Share, Store, Writing, copied
from sngd.config import RunConfig
from sngd.findings import Findings

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["Keeper", "random_states", "restore_random_state"]

# A checkpoint that could not be written is tried again after so long, or sooner where they are more frequent.
_RETRY_SECONDS = 60.0
# A process alone that ends by an error finishes what it is writing, for so long at most.
_LAST_SECONDS = 60.0


class Keeper:
    """The checkpoints of a run, on one of its ranks: rank 0 writes, others where they hold shares of state.

    Args:
        run: how often, and how many are kept.
        ranks: who computes together.
        folder: of the run; None keeps nothing.
        findings: told of those that cannot be written.
        lost: whether the folder belongs to another process by now.
    """

    def __init__(
        self,
        run: RunConfig,
        ranks: Ranks,
        folder: Path | None,
        findings: Findings,
        lost: Callable[[], bool] | None = None,
    ) -> None:
        self.ranks, self.findings, self._lost = ranks, findings, lost
        self.folder = folder
        self.store = None if folder is None else Store(folder, run.keep_checkpoints)
        self._every, self._last = run.checkpoint_seconds, time.monotonic()
        self._writing, self._retry = Writing(), False
        self._step, self._whole, self._trouble = 0, 0, ""
        self._mark = ""  # of this start, where ranks write together

    def due(self) -> bool:
        """Whether it is time for the next one; none is begun while another is being written."""
        every = min(self._every, _RETRY_SECONDS) if self._retry else self._every
        return self.store is not None and not self._writing.busy and time.monotonic() - self._last > every

    def keep(self, checkpoint: Checkpoint, score: float | None) -> None:
        """Copy a state and write it while training goes on; every rank calls this.

        Args:
            checkpoint: the state.
            score: the smaller, the better.
        """
        self._last = time.monotonic()
        store, step, first = self.store, checkpoint.step, self.ranks.rank == 0
        if store is None:
            return
        plain, parts = checkpoint.encoded()
        shared = any(isinstance(x, Share) for x in parts.values())
        group, mark = self._together() if shared else (None, "")
        if not (first or shared):
            return
        self._step, tensors, lost = step, copied(parts, whole=first), self._lost
        self._writing.begin(lambda: store.write(step, plain, tensors, score, group, first, lost, mark))

    def _together(self) -> tuple[Any, str]:
        """The group of ranks that write together, and how they call this start."""
        group = self.ranks.side_group()
        self._mark = self._mark or self.ranks.broadcast(f"{os.getpid()}-{time.time_ns()}")
        return group, self._mark

    def finished(self, wait: bool = False) -> list[tuple[Path, int]]:
        """Checkpoints that are whole since the last call, with their steps.

        Args:
            wait: for the one that is under way.
        """
        if not self._writing.over(wait):
            return []
        try:
            path = self._writing.take()
        except Exception as error:
            self._fail(error)
            return []
        self._retry, self._trouble, self._whole = False, "", self._step
        return [] if path is None else [(path, self._step)]

    def _fail(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {first_line(error)}"
        whole = f"the last whole one is that of step {self._whole}" if self._whole else "there is none yet"
        text = f"the checkpoint of step {self._step} could not be written ({reason}); {whole}"
        if not self._trouble:
            again = min(self._every, _RETRY_SECONDS)
            self.findings.add("checkpoint", self._step, f"{text}; it is tried again every {again:g} s")
        self._retry, self._trouble = True, f"{text}: {_remedy(error)}"

    def check(self) -> None:
        """After the last one; rank 0 tells it for all.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._trouble and self.ranks.rank == 0:
            raise CheckpointError(self._trouble)

    def started(self, step: int, earlier: Path | None = None) -> None:
        """The run is about to begin.

        Args:
            step: that it goes on after, or 0.
            earlier: checkpoint that it goes on from.

        Raises:
            ValueError: newer checkpoints, which cannot be read, cannot be set aside.
        """
        self._whole = step
        superseded = self._lost is not None and self._lost()
        if self.store is None or self.ranks.rank or superseded:
            return
        try:
            self.store.clear(step, earlier)
        except OSError as error:
            raise ValueError(
                f"{str(self.store.folder)!r}: a damaged checkpoint cannot be set aside ({error.strerror}): "
                "remove it"
            ) from error

    def close(self) -> None:
        """Begin no more. What ranks write together is left: one of them may be gone."""
        self._writing.close(_LAST_SECONDS if self.ranks.size == 1 else 0.0)


def _remedy(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "make room, then `sngd resume` goes on from there"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "make the run folder writable, then `sngd resume` goes on from there"
    if not isinstance(error, OSError):
        return "`sngd resume` goes on from there"
    if number == errno.ENOENT:
        return "run_dir must be a folder that all ranks share and nobody removes"
    return "`sngd resume` goes on from there once the file system works"


def random_states(ranks: Ranks, device: torch.device) -> Tensor:
    """States of torch's generators on every rank, (R, bytes)."""
    own = torch.get_rng_state()
    if device.type == "cuda":
        own = torch.cat([own, torch.cuda.get_rng_state(device)])
    return ranks.gather(own.to(device), "checkpoint").cpu()


def restore_random_state(states: Tensor, rank: int, device: torch.device) -> None:
    """Take up a rank's generators from (R, bytes); those of another rank where there are more than before."""
    if not len(states):
        return
    own, length = states[rank % len(states)], len(torch.get_rng_state())
    torch.set_rng_state(own[:length].clone())
    if device.type == "cuda" and len(own) > length:
        torch.cuda.set_rng_state(own[length:].clone(), device)
