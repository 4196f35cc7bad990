"""Tensors in files, one of each rank that has some, with an index in JSON of where they lie.

A file is what torch.save makes of one tensor, and of the next; they are read as weights, never as code.
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sngd.checkpoint.encoding import Share, Stored

__all__ = ["read_tensors", "write_tensors"]

Index = dict[str, dict[str, Any]]
Spans = dict[str, tuple[int, int]]  # name → first byte, bytes

_FILE = "rank-{}.tensors"


def write_tensors(folder: Path, tensors: dict[str, Stored], group: Any = None) -> Index:
    """Write tensors to files in a folder and sync them.

    Args:
        folder: made if absent.
        tensors: by name, on the CPU. Where some are shares, every rank of the group writes, and calls this.
        group: a process group of the CPU, None for this process alone.

    Returns:
        On the group's first rank name → dtype, shape, stride, chunks (offset along the first axis, shape,
        file, first byte, bytes); elsewhere nothing.

    Raises:
        OSError: a file cannot be written.
    """
    rank = 0 if group is None else dist.get_rank(group)
    mine = {name: x for name, x in tensors.items() if rank == 0 or isinstance(x, Share)}
    everyone: list[tuple[Spans, Exception | None]] = [_tried(folder / _FILE.format(rank), mine)]
    if group is not None:
        (own,) = everyone
        everyone = [own] * dist.get_world_size(group)
        dist.all_gather_object(everyone, own, group)
    for number, (_, error) in enumerate(everyone):
        if group is not None and isinstance(error, OSError):
            raise OSError(error.errno, f"{error.strerror}, on rank {number}", error.filename)
        if error is not None:
            raise error
    if rank:
        return {}
    spans = [found for found, _ in everyone]
    return {name: _entry(name, x, spans) for name, x in tensors.items()}


def _entry(name: str, x: Stored, spans: list[Spans]) -> dict[str, Any]:
    """What the index says of a tensor; a share (s,) is a chunk of a vector (R·s,), any other is one chunk.

    Args:
        name: of the tensor.
        x: it, or this rank's share.
        spans: of every rank's file.
    """
    if isinstance(x, Share):
        size, dtype, shape, stride = len(x.own), x.own.dtype, [len(x.own) * x.ranks], [1]
        chunks = [[r * size, [size], _FILE.format(r), *spans[r][name]] for r in range(x.ranks)]
    else:
        dtype, shape, stride = x.dtype, list(x.shape), list(x.stride())
        chunks = [[0, shape, _FILE.format(0), *spans[0][name]]]
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "shape": shape,
        "stride": stride,
        "chunks": chunks,
    }


def _tried(path: Path, tensors: dict[str, Stored]) -> tuple[Spans, Exception | None]:
    """Write a rank's file; where its tensors lie, and what went wrong, which all ranks are to know of."""
    spans: Spans = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for name, x in tensors.items():
                first = stream.tell()
                # by itself: of a view the whole storage would be written
                torch.save(_alone(x.own if isinstance(x, Share) else x), stream)
                spans[name] = (first, stream.tell() - first)
            stream.flush()
            os.fsync(stream.fileno())
    except Exception as error:
        return {}, error.with_traceback(None)
    return spans, None


def _alone(x: Tensor) -> Tensor:
    """X with a storage of its own, and its strides where it is dense."""
    if x.untyped_storage().nbytes() == x.numel() * x.element_size():
        return x
    return torch.empty_like(x).copy_(x)


def read_tensors(folder: Path, index: Index) -> dict[str, Tensor]:
    """The tensors of an index, of the shapes that it tells, whole, whoever wrote them.

    Raises:
        ValueError: index or files are damaged.
        OSError: a file cannot be read.
    """
    found = {}
    for name, known in index.items():
        dtype = getattr(torch, known["dtype"])
        whole = torch.empty_strided(known["shape"], known["stride"], dtype=dtype)
        filled = 0
        for first, shape, file, start, length in known["chunks"]:
            with (folder / Path(file).name).open("rb") as stream:
                stream.seek(start)
                part = torch.load(io.BytesIO(stream.read(length)), map_location="cpu", weights_only=True)
            if not isinstance(part, Tensor) or list(part.shape) != shape or part.dtype != dtype:
                raise ValueError(f"{file} holds another tensor than {name}")
            target = whole[first : first + shape[0]] if shape else whole
            target.copy_(part)
            filled += math.prod(shape)
        if filled != whole.numel():
            raise ValueError(f"{name} has {whole.numel()} numbers, of which {filled} are there")
        found[name] = whole
    return found
