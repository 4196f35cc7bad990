"""What the mathematics knows of other ranks: sums and gathers, also with work going on meanwhile.

Every collective names what it moves, and is accounted for under that label (sngd/traffic.py).

Letters
    R        ranks; s rows of one rank's share
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from sngd.traffic import Traffic

__all__ = ["Pending", "Ranks"]


class Pending:
    """A collective under way. Its operands must be left alone until `wait` has returned.

    Args:
        result: the tensor that will hold the result.
        finish: returns once it does; None where it does already.
    """

    def __init__(self, result: Tensor, finish: Callable[[], None] | None = None) -> None:
        self._result, self._finish = result, finish

    def wait(self) -> Tensor:
        """The result, of the shape that the call tells; a second call returns it at once."""
        if self._finish is not None:
            self._finish()
            self._finish = None
        return self._result


class Ranks(Protocol):
    """R processes that compute together. Every rank makes the same calls in the same order.

    Sums are equal on every rank, bit for bit, and so are gathered results. `what` is the label that a
    collective is accounted for under.
    """

    rank: int
    size: int
    origin: str  # how they were started, in one line; empty for a process alone

    @property
    def traffic(self) -> dict[str, Traffic]:
        """The account of this rank so far, by label; empty on one process."""
        ...

    @property
    def bytes_moved(self) -> int:
        """Bytes of all labels."""
        ...

    def sum(self, x: Tensor, what: str) -> Tensor:
        """Sum a contiguous x of any shape over ranks, in place."""
        ...

    def gather(self, x: Tensor, what: str) -> Tensor:
        """X of every rank, stacked: (R, *x.shape)."""
        ...

    def start_sum(self, x: Tensor, what: str) -> Pending:
        """Begin to sum a contiguous x of any shape over ranks, in place; wait() gives x."""
        ...

    def start_scatter_sum(self, x: Tensor, what: str) -> Pending:
        """Begin to sum a contiguous x (R·s, …) over ranks; wait() gives this rank's rows of it, (s, …)."""
        ...

    def start_gather(self, x: Tensor, what: str) -> Pending:
        """Begin to collect every rank's contiguous x (s, …); wait() gives them in order, (R·s, …)."""
        ...

    def broadcast(self, x: Any) -> Any:
        """Rank 0's picklable object, on every rank; not accounted for."""
        ...

    def open_group(self, device: torch.device) -> None:
        """Have torch.distributed ready for a library that talks to it by itself."""
        ...

    def side_group(self) -> Any:
        """A process group of the same ranks on the CPU, for work beside the steps; None for one process."""
        ...

    def fail(self, text: str, common: bool) -> bool:
        """Tell the others that this rank ends by an error; whether rank 0 ends by a common one, too."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...
