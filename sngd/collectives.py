"""Ranks as the mathematics is handed them (sngd/ranks.py); here alone tensors meet torch.distributed.

`LocalRanks` is one process alone, `TorchRanks` a process group.

Every collective names what it moves, and is accounted for under that label (sngd/traffic.py).

Letters
    R        ranks; s rows of one rank's share; k columns
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sngd.allocation import first_line
from sngd.bootstrap import host_store, meet
from sngd.device_errors import is_machine_failure
from sngd.failures import RollCall
from sngd.launcher import Launch
from sngd.ranks import Pending, Ranks
from sngd.traffic import Meter, Traffic

__all__ = ["LocalRanks", "TorchRanks", "connect"]

# torch 2.13 renamed them and warns of the old names.
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class LocalRanks:
    """One process: every sum is its own, nothing is copied and nothing moves."""

    rank = 0
    size = 1
    bytes_moved = 0

    def __init__(self, origin: str = "") -> None:
        self.origin = origin
        self._opened = False

    @property
    def traffic(self) -> dict[str, Traffic]:
        """Empty."""
        return {}

    def sum(self, x: Tensor, what: str) -> Tensor:
        """X itself."""
        return x

    def gather(self, x: Tensor, what: str) -> Tensor:
        """X with a leading axis of length 1."""
        return x.unsqueeze(0)

    def start_sum(self, x: Tensor, what: str) -> Pending:
        """X itself."""
        return Pending(x)

    def start_scatter_sum(self, x: Tensor, what: str) -> Pending:
        """X itself."""
        return Pending(x)

    def start_gather(self, x: Tensor, what: str) -> Pending:
        """X itself."""
        return Pending(x)

    def broadcast(self, x: Any) -> Any:
        """X itself."""
        return x

    def open_group(self, device: torch.device) -> None:
        """A group of this process alone, where there is none yet."""
        if not dist.is_initialized():
            dist.init_process_group(_backend(device), store=dist.HashStore(), rank=0, world_size=1)
            self._opened = True

    def side_group(self) -> Any:
        """None."""
        return None

    def fail(self, text: str, common: bool) -> bool:
        """This is rank 0, and nobody else has to know."""
        return True

    def close(self) -> None:
        """Leave the group that was opened for a library, if any."""
        if self._opened and dist.is_initialized():
            dist.destroy_process_group()
        self._opened = False


class TorchRanks:
    """A torch.distributed process group.

    Args:
        group: the group, None for the default one, which must be initialised.
        roll: finds out who is left when a collective fails.
        origin: how these ranks were started, in one line.
        timeout: after which a collective of the side group fails; torch's when absent.
    """

    def __init__(
        self,
        group: Any = None,
        roll: RollCall | None = None,
        origin: str = "",
        timeout: timedelta | None = None,
    ) -> None:
        self.group = group
        self.roll, self.origin, self._timeout = roll, origin, timeout
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self._meter = Meter()
        self._side: Any = None

    @property
    def traffic(self) -> dict[str, Traffic]:
        """The account of this rank so far, by label; waits for a GPU to finish what is counted."""
        return self._meter.read()

    @property
    def bytes_moved(self) -> int:
        """Bytes of all labels."""
        return sum(traffic.bytes for traffic in self._meter.totals.values())

    def _count(self, what: str, larger: Tensor) -> None:
        if self.size > 1:
            self._meter.add(what, Traffic(1, larger.numel() * larger.element_size()))

    @contextlib.contextmanager
    def _waiting(self, what: str, x: Tensor | None = None) -> Iterator[None]:
        """Count the time within, for a tensor; find out who is lost when the collective fails.

        Raises:
            LostRankError: it failed.
        """
        if x is None or self.size == 1:
            counter: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        else:
            counter = self._meter.waiting(what, x.device)
        try:
            with counter:
                if self.roll:
                    self.roll.doing = f"in {what!r}"
                yield
        except RuntimeError as error:
            if self.roll is None or is_machine_failure(error):
                raise
            raise self.roll.lost(what, error) from error
        if self.roll:
            self.roll.doing = "computing"

    def _pending(self, work: Any, result: Tensor, operand: Tensor, what: str) -> Pending:
        def finish() -> None:
            with self._waiting(what, operand):  # holds the operand, too, as long as it is read
                work.wait()

        return Pending(result, finish)

    def sum(self, x: Tensor, what: str) -> Tensor:
        """Sum x of any shape over ranks, in place.

        Raises:
            ValueError: x is not contiguous.
        """
        _check_contiguous(x, what)
        self._count(what, x)
        with self._waiting(what, x):
            dist.all_reduce(x, group=self.group)
        return x

    def gather(self, x: Tensor, what: str) -> Tensor:
        """X of every rank, stacked: (R, *x.shape)."""
        everyone = x.new_empty(self.size, *x.shape)
        self._count(what, everyone)
        with self._waiting(what, x):
            _all_gather(everyone.view(-1), x.contiguous().view(-1), group=self.group)
        return everyone

    def start_sum(self, x: Tensor, what: str) -> Pending:
        """Begin to sum x of any shape over ranks, in place; wait() gives x.

        Raises:
            ValueError: x is not contiguous.
        """
        _check_contiguous(x, what)
        self._count(what, x)
        with self._waiting(what):
            work = dist.all_reduce(x, group=self.group, async_op=True)
        return self._pending(work, x, x, what)

    def start_scatter_sum(self, x: Tensor, what: str) -> Pending:
        """Begin to sum x (R·s, …) over ranks; wait() gives this rank's rows of it, (s, …).

        Raises:
            ValueError: x is not contiguous, or its length is no multiple of R.
        """
        _check_contiguous(x, what)
        if x.dim() == 0 or len(x) % self.size:
            raise ValueError(
                f"{what}: a sum of shape {tuple(x.shape)} cannot be shared out evenly among {self.size} ranks"
            )
        self._count(what, x)
        mine = x.new_empty(len(x) // self.size, *x.shape[1:])
        if dist.get_backend(self.group) != "gloo":
            with self._waiting(what):
                work = _reduce_scatter(mine, x, group=self.group, async_op=True)
            return self._pending(work, mine, x, what)
        # gloo's own sums all rows on every rank and drops the others': twice what has to travel
        parts = torch.empty_like(x)
        with self._waiting(what):
            work = dist.all_to_all_single(parts, x, group=self.group, async_op=True)

        def finish() -> None:
            with self._waiting(what, x):
                work.wait()
                torch.sum(parts.view(self.size, *mine.shape), 0, out=mine)

        return Pending(mine, finish)

    def start_gather(self, x: Tensor, what: str) -> Pending:
        """Begin to collect every rank's x (s, …); wait() gives them in order, (R·s, …).

        Raises:
            ValueError: x is not contiguous, or a single number.
        """
        _check_contiguous(x, what)
        if x.dim() == 0:
            raise ValueError(f"{what}: a number without an axis cannot be joined along one")
        everyone = x.new_empty(self.size * len(x), *x.shape[1:])
        self._count(what, everyone)
        with self._waiting(what):
            work = _all_gather(everyone, x, group=self.group, async_op=True)
        return self._pending(work, everyone, x, what)

    def broadcast(self, x: Any) -> Any:
        """Rank 0's picklable object, on every rank."""
        box = [x]
        with self._waiting("broadcast"):
            dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def open_group(self, device: torch.device) -> None:
        """Nothing: libraries use the default group, which is this one.

        Raises:
            ValueError: this is a smaller group.
        """
        if self.size != dist.get_world_size():
            raise ValueError(f"a library would use all {dist.get_world_size()} ranks, not these {self.size}")

    def side_group(self) -> Any:
        """A process group of the same ranks on the CPU; the first call makes it, on every rank at once."""
        if self._side is None:
            with self._waiting("side group"):
                members = dist.get_process_group_ranks(self.group or dist.group.WORLD)
                self._side = dist.new_group(
                    members, self._timeout, backend="gloo", use_local_synchronization=True
                )
        return self._side

    def fail(self, text: str, common: bool) -> bool:
        """Tell the others that this rank ends by an error; whether rank 0 ends by a common one, too."""
        return self.roll.fail(text, common) if self.roll else True

    def close(self) -> None:
        """Leave the group."""
        if self.roll:
            self.roll.close()
        if self._side is not None and self.group is not None:
            dist.destroy_process_group(self._side)
        dist.destroy_process_group(self.group)


def _check_contiguous(x: Tensor, what: str) -> None:
    if not x.is_contiguous():
        raise ValueError(f"{what}: a collective needs a contiguous tensor, got strides {x.stride()}")


def connect(device: torch.device, launch: Launch, timeout_seconds: float = 600.0) -> Ranks:
    """The ranks of a launch.

    Args:
        device: decides the backend, nccl for cuda and gloo for cpu.
        launch: what `launcher.detect` has found.
        timeout_seconds: after which a collective that a rank does not join fails, and how long the last rank
            may take to arrive.

    Returns:
        `LocalRanks` for a process alone, and for one rank of a launcher that names no rendezvous.

    Raises:
        ValueError: the ranks do not find each other.
    """
    if launch.size == 1 and not launch.rendezvous_given:
        return LocalRanks(launch.describe(device.type, "", timeout_seconds, ""))
    # as torchrun sets it: a collective that times out ends the process
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    met, backend = meet(launch, timeout_seconds), _backend(device)
    timeout = timedelta(seconds=timeout_seconds)
    try:
        dist.init_process_group(
            backend, store=met.store, rank=launch.rank, world_size=launch.size, timeout=timeout
        )
    except RuntimeError as error:
        raise ValueError(
            f"rank {launch.rank} has met the others at {met}, but {backend} cannot connect to them: "
            f"{first_line(error)}; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names the network to use"
        ) from error
    origin = launch.describe(device.type, backend, timeout_seconds, str(met))
    return TorchRanks(None, RollCall(launch, met) if launch.size > 1 else None, origin, timeout)


def _backend(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"


def host_rendezvous() -> dist.TCPStore:
    """A store on a free port of the loopback address, for ranks that this process starts.

    Keep the returned object alive while they run; its `port` is theirs to connect to, with
    TORCHELASTIC_USE_AGENT_STORE=True in their environment.
    """
    return host_store("127.0.0.1", 0, True, timedelta(minutes=5))
