"""The only file that talks to torch.distributed.

`Ranks` is what the mathematics is handed: sums over ranks and gathers of small arrays. `LocalRanks` is one
process alone, `TorchRanks` a process group. Both count the bytes that one rank sends, as payloads: what a
collective is asked to move, not what its algorithm moves.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["LocalRanks", "Ranks", "TorchRanks", "connect"]


class Ranks(Protocol):
    """R processes that compute together."""

    rank: int
    size: int
    bytes_sent: int

    def sum(self, x: Tensor) -> Tensor:
        """Sum x over ranks, in place; the result is the same on every rank, bit for bit."""
        ...

    def gather(self, x: Tensor) -> Tensor:
        """X of every rank, stacked: (R, *x.shape)."""
        ...

    def broadcast(self, x: Any) -> Any:
        """Rank 0's picklable object, on every rank."""
        ...

    def open_group(self, device: torch.device) -> None:
        """Have torch.distributed ready for a library that talks to it by itself."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class LocalRanks:
    """One process: every sum is its own."""

    rank = 0
    size = 1

    def __init__(self) -> None:
        self.bytes_sent = 0
        self._opened = False

    def sum(self, x: Tensor) -> Tensor:
        """X itself."""
        return x

    def gather(self, x: Tensor) -> Tensor:
        """X with a leading axis of length 1."""
        return x.unsqueeze(0)

    def broadcast(self, x: Any) -> Any:
        """X itself."""
        return x

    def open_group(self, device: torch.device) -> None:
        """A group of this process alone, where there is none yet."""
        if not dist.is_initialized():
            dist.init_process_group(_backend(device), store=dist.HashStore(), rank=0, world_size=1)
            self._opened = True

    def close(self) -> None:
        """Leave the group that was opened for a library, if any."""
        if self._opened and dist.is_initialized():
            dist.destroy_process_group()
        self._opened = False


class TorchRanks:
    """A torch.distributed process group.

    Args:
        group: the group, None for the default one, which must be initialised.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self.bytes_sent = 0

    def sum(self, x: Tensor) -> Tensor:
        """Sum x over ranks, in place."""
        if not x.is_contiguous():
            raise ValueError("Ranks.sum needs a contiguous tensor")
        self.bytes_sent += x.numel() * x.element_size()
        dist.all_reduce(x, group=self.group)
        return x

    def gather(self, x: Tensor) -> Tensor:
        """X of every rank, stacked: (R, *x.shape)."""
        x = x.contiguous()
        self.bytes_sent += x.numel() * x.element_size()
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x, group=self.group)
        return torch.stack(parts)

    def broadcast(self, x: Any) -> Any:
        """Rank 0's picklable object, on every rank."""
        box = [x]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def open_group(self, device: torch.device) -> None:
        """Nothing: libraries use the default group, which is this one.

        Raises:
            ValueError: this is a smaller group.
        """
        if self.size != dist.get_world_size():
            raise ValueError(f"a library would use all {dist.get_world_size()} ranks, not these {self.size}")

    def close(self) -> None:
        """Leave the group."""
        dist.destroy_process_group(self.group)


def connect(device: torch.device, timeout_seconds: float = 600.0) -> Ranks:
    """The ranks that the environment describes: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.

    Args:
        device: decides the backend, nccl for cuda and gloo for cpu.
        timeout_seconds: after which a collective that a rank does not join fails.

    Returns:
        `LocalRanks` when WORLD_SIZE is absent or one and no rendezvous is set up.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return LocalRanks()
    dist.init_process_group(_backend(device), timeout=timedelta(seconds=timeout_seconds))
    return TorchRanks()


def _backend(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"


def host_rendezvous(world_size: int) -> dist.TCPStore:
    """A store on a free port of the loopback address, for ranks that this process starts.

    Keep the returned object alive while they run; its `port` is theirs to connect to, with
    TORCHELASTIC_USE_AGENT_STORE=True in their environment.
    """
    return dist.TCPStore("127.0.0.1", 0, world_size + 1, is_master=True, wait_for_workers=False)
