"""R ranks as threads of one process: the same interface as `sngd.ranks.Ranks`, without sockets."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeVar

import torch
from torch import Tensor

from sngd.ranks import Pending
from sngd.traffic import Traffic

T = TypeVar("T")
_SECONDS = 30.0


class ThreadRanks:
    """One of `size` threads; `slots` and `barrier` are shared by all of them."""

    def __init__(self, rank: int, size: int, slots: list[Any], barrier: Barrier) -> None:
        self.rank, self.size = rank, size
        self.traffic: dict[str, Traffic] = {}
        self._slots, self._barrier = slots, barrier

    def _exchange(self, x: Any) -> list[Any]:
        self._slots[self.rank] = x
        self._barrier.wait(_SECONDS)
        everyone = list(self._slots)
        self._barrier.wait(_SECONDS)
        return everyone

    def _count(self, what: str, larger: Tensor) -> None:
        if self.size > 1:
            added = Traffic(1, larger.numel() * larger.element_size())
            self.traffic[what] = self.traffic.get(what, Traffic()) + added

    @property
    def bytes_moved(self) -> int:
        return sum(traffic.bytes for traffic in self.traffic.values())

    def gather(self, x: Tensor, what: str) -> Tensor:
        everyone = torch.stack(self._exchange(x))
        self._barrier.wait(_SECONDS)  # nobody goes on, and changes x, before all have read it
        self._count(what, everyone)
        return everyone

    def sum(self, x: Tensor, what: str) -> Tensor:
        assert x.is_contiguous(), what
        self._count(what, x)
        return x.copy_(self._total(self._exchange(x)))

    def _total(self, everyone: list[Tensor]) -> Tensor:
        """The sum in the same order on every rank, without an array that holds all of them."""
        total = everyone[0].clone()
        for other in everyone[1:]:
            total += other
        self._barrier.wait(_SECONDS)
        return total

    # What is begun here is done at once: an operand that is changed too early shows on processes only.

    def start_sum(self, x: Tensor, what: str) -> Pending:
        return Pending(self.sum(x, what))

    def start_scatter_sum(self, x: Tensor, what: str) -> Pending:
        assert x.is_contiguous(), what
        assert len(x) % self.size == 0, what
        self._count(what, x)
        return Pending(self._total([other.chunk(self.size)[self.rank] for other in self._exchange(x)]))

    def start_gather(self, x: Tensor, what: str) -> Pending:
        assert x.is_contiguous(), what
        return Pending(self.gather(x, what).flatten(0, 1))

    def broadcast(self, x: Any) -> Any:
        return self._exchange(x)[0]

    def close(self) -> None:
        pass


def on_ranks(size: int, work: Callable[[ThreadRanks], T]) -> list[T]:
    """work(ranks) on every one of `size` ranks at once; results in order.

    A failure breaks the barrier, also for those that have passed it and are about to fail themselves: the
    failure that broke it is the one to be raised.
    """
    slots, barrier = [None] * size, Barrier(size)

    def run(rank: int) -> T:
        try:
            return work(ThreadRanks(rank, size, slots, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
    errors = [error for future in futures if (error := future.exception())]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, BrokenBarrierError))
    return [future.result() for future in futures]
