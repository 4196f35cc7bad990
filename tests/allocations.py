"""What a computation allocates, seen from the operators it dispatches.

    with largest_allocation() as seen:
        ...
    assert seen.elements < 1000, seen

Every tensor that an operator returns is inspected, also those of the reverse pass on the CPU. What a kernel
allocates and frees within itself (the workspace of a LAPACK routine) is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Allocations:
    """Storages created so far.

    Args:
        elements: numbers in the largest of them.
        operator: which operator created it.
        peak_bytes: most bytes of them that were alive at the same time.
        count: how many were created.
    """

    elements: int = 0
    operator: str = "none"
    peak_bytes: int = 0
    count: int = 0


class _Watch(TorchDispatchMode):
    def __init__(self, seen: Allocations) -> None:
        super().__init__()
        self.seen = seen
        # a weak reference keeps a storage's address from being used again
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.bytes = 0  # of these, at most: some may be dead

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = {storage._cdata for storage in _storages((args, kwargs))}
        out = func(*args, **kwargs)
        for storage in _storages(out):
            key = storage._cdata
            if key in self.live or key in given:  # a view, or written in place
                continue
            self.live[key] = (StorageWeakRef(storage), storage.nbytes())
            self.bytes += storage.nbytes()
            self.seen.count += 1
            elements = storage.nbytes() // storage_itemsize(out, key)
            if elements > self.seen.elements:
                self.seen.elements, self.seen.operator = elements, str(func)
        if self.bytes > self.seen.peak_bytes:  # the dead leave only where it matters
            self.live = {key: held for key, held in self.live.items() if not held[0].expired()}
            self.bytes = sum(size for _, size in self.live.values())
            self.seen.peak_bytes = max(self.seen.peak_bytes, self.bytes)
        return out


def _storages(tree) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def storage_itemsize(tree, key: int) -> int:
    """Bytes per number of the tensor in `tree` that owns a storage."""
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata == key:
            return leaf.element_size()
    raise AssertionError("the storage belongs to one of the tensors")


@contextmanager
def largest_allocation() -> Iterator[Allocations]:
    """Watch every storage that is created inside the block; what existed before does not count."""
    seen = Allocations()
    with _Watch(seen):
        yield seen
