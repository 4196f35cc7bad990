"""What collectives have cost a rank, by label.

bytes    size of the larger of a collective's two buffers: of x for a sum, of x (R·s, k) for a
reduce-scatter, of the result for a gather. What is asked for, not what an algorithm moves. (As
NCCL's tests count.)
seconds  how long this rank waited for it: what lies between start and wait() is not counted
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch

__all__ = ["Meter", "Traffic"]


@dataclass(frozen=True)
class Traffic:
    """What collectives of one label have cost a rank.

    Args:
        calls: how many.
        bytes: size of their larger buffers.
        seconds: that this rank waited for them.
    """

    calls: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.calls + other.calls, self.bytes + other.bytes, self.seconds + other.seconds)

    def since(self, before: Traffic | None) -> Traffic:
        """What was added to an earlier account, None for an empty one."""
        if before is None:
            return self
        return Traffic(self.calls - before.calls, self.bytes - before.bytes, self.seconds - before.seconds)


class Meter:
    """Traffic by label.

    On a GPU a wait is an interval of the device's stream: two events mark it, and nobody waits for them
    until the account is read.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Traffic] = {}  # without the seconds of marks that are still to be read
        self._marks: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()

    def add(self, what: str, traffic: Traffic) -> None:
        """Count something under a label."""
        self.totals[what] = self.totals.get(what, Traffic()) + traffic

    @contextlib.contextmanager
    def waiting(self, what: str, device: torch.device) -> Iterator[None]:
        """Count the time within."""
        if device.type != "cuda":
            began = time.perf_counter()
            yield
            self.add(what, Traffic(seconds=time.perf_counter() - began))
            return
        stream = torch.cuda.current_stream(device)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(stream)
        yield
        end.record(stream)
        self._marks.append((what, begin, end))
        while self._marks and self._marks[0][2].query():  # so that they do not pile up where nobody reads
            self._settle()

    def _settle(self) -> None:
        what, begin, end = self._marks.popleft()
        end.synchronize()
        self.add(what, Traffic(seconds=begin.elapsed_time(end) / 1e3))

    def read(self) -> dict[str, Traffic]:
        """Totals so far; waits for a GPU to reach the last mark."""
        while self._marks:
            self._settle()
        return dict(self.totals)
