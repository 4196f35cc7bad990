"""States as JSON and tensors: nested dicts, lists and tuples of numbers and words, tensors apart by name.

12, 0.1, "x", None, True     as they are
[1, 2]                       as it is
(1, 2)                       {"tuple": [1, 2]}
{"a": 1, 0: 2}               {"dict": [["a", 1], [0, 2]]}
tensor                       {"tensor": its name}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Share", "Stored", "copied", "decode", "encode"]


@dataclass(frozen=True)
class Share:
    """One rank's part of a vector that is spread over ranks, all parts of equal length, in order of ranks.

    Args:
        own: (s,) this rank's.
        rank: which one this is.
        ranks: R; the whole has R·s numbers.
    """

    own: Tensor
    rank: int
    ranks: int


Stored = Tensor | Share


def encode(value: Any, tensors: dict[str, Stored], name: str = "state") -> Any:
    """The value as JSON; its tensors are added to `tensors`, which `copied` copies.

    Args:
        value: what to keep.
        tensors: by name.
        name: of the value.

    Raises:
        TypeError: something is none of the above, named by where it stands.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Tensor, Share)):
        while name in tensors:  # keys may have dots
            name += "'"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, (list, tuple)):
        items = [encode(one, tensors, f"{name}.{i}") for i, one in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, (int, str))]:
            raise TypeError(f"{name} has the key {odd[0]!r}, which a checkpoint cannot keep")
        return {"dict": [[key, encode(one, tensors, f"{name}.{key}")] for key, one in value.items()]}
    raise TypeError(f"{name} is {type(value).__name__}, which a checkpoint cannot keep")


def copied(tensors: dict[str, Stored], whole: bool = True) -> dict[str, Stored]:
    """Copies on the CPU, with memory of their own: training goes on while they are written.

    Args:
        tensors: by name.
        whole: those that are no shares, too.
    """
    return {
        name: Share(_copied(x.own), x.rank, x.ranks) if isinstance(x, Share) else _copied(x)
        for name, x in tensors.items()
        if whole or isinstance(x, Share)
    }


def _copied(x: Tensor) -> Tensor:
    """A copy with the strides of x, where x is dense.

    Products of the same numbers in another order of memory round differently.
    """
    return torch.empty_like(x.detach(), device="cpu").copy_(x.detach())


def decode(plain: Any, tensors: dict[str, Tensor]) -> Any:
    """The value that was encoded, with its tensors of any shape.

    Raises:
        ValueError: this is no encoded value.
    """
    if isinstance(plain, list):
        return [decode(one, tensors) for one in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        ((kind, content),) = plain.items()
        if kind == "tensor" and content in tensors:
            return tensors[content]
        if kind == "tuple" and isinstance(content, list):
            return tuple(decode(one, tensors) for one in content)
        if kind == "dict" and isinstance(content, list):
            return {key: decode(one, tensors) for key, one in content}
    raise ValueError(f"no part of a checkpoint: {str(plain)[:80]}")
