"""R ranks as threads of one process: the same interface as `sngd.collectives.Ranks`, without sockets."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
_SECONDS = 30.0


class ThreadRanks:
    """One of `size` threads; `slots` and `barrier` are shared by all of them."""

    def __init__(self, rank: int, size: int, slots: list[Any], barrier: Barrier) -> None:
        self.rank, self.size, self.bytes_sent = rank, size, 0
        self._slots, self._barrier = slots, barrier

    def _exchange(self, x: Any) -> list[Any]:
        self._slots[self.rank] = x
        self._barrier.wait(_SECONDS)
        everyone = list(self._slots)
        self._barrier.wait(_SECONDS)
        return everyone

    def gather(self, x: Tensor) -> Tensor:
        self.bytes_sent += x.numel() * x.element_size()
        return torch.stack(self._exchange(x.clone()))

    def sum(self, x: Tensor) -> Tensor:
        return x.copy_(self.gather(x).sum(0))

    def broadcast(self, x: Any) -> Any:
        return self._exchange(x)[0]

    def close(self) -> None:
        pass


def on_ranks(size: int, work: Callable[[ThreadRanks], T]) -> list[T]:
    """work(ranks) on every one of `size` ranks at once; results in order. A failure breaks the barrier."""
    slots, barrier = [None] * size, Barrier(size)

    def run(rank: int) -> T:
        try:
            return work(ThreadRanks(rank, size, slots, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return [future.result() for future in [pool.submit(run, rank) for rank in range(size)]]
