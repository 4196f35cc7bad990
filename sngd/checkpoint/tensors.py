"""Tensors in the files of torch.distributed.checkpoint, with an index in JSON instead of its pickle."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sngd.checkpoint.encoding import Share, Stored

__all__ = ["read_tensors", "write_tensors"]

Index = dict[str, dict[str, Any]]


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
    from torch.distributed import checkpoint as dcp  # takes a second to load
    from torch.distributed.checkpoint import state_dict_saver

    for harmless in ("torch.distributed is disabled", "TypedStorage is deprecated"):
        warnings.filterwarnings("ignore", harmless, UserWarning)
    index: Index = {}

    class Writer(dcp.FileSystemWriter):
        """Keeps the index that others would pickle."""

        def finish(self, metadata: Any, results: Any) -> None:
            stored = {
                (w.index.fqn, tuple(w.index.offset or ())): w.storage_data for part in results for w in part
            }
            for name, known in metadata.state_dict_metadata.items():
                chunks = []
                for chunk in known.chunks:
                    offset = tuple(chunk.offsets)
                    at = stored.get((name, offset)) or stored[name, ()]
                    first = offset[0] if offset else 0
                    chunks.append([first, list(chunk.sizes), at.relative_path, at.offset, at.length])
                dtype = str(known.properties.dtype).removeprefix("torch.")
                given = tensors[name]
                stride = [1] if isinstance(given, Share) else list(given.stride())
                about = {"dtype": dtype, "shape": list(known.size), "stride": stride}
                index[name] = {**about, "chunks": chunks}

    ready = {name: _distributed(x, group) if isinstance(x, Share) else x for name, x in tensors.items()}
    try:
        # dcp.save() of torch 2.6 takes every process group that there is for its own
        state_dict_saver._save_state_dict(ready, Writer(folder), group, no_dist=group is None)
    except dcp.api.CheckpointException as error:  # which holds the error of every rank that has one
        (rank, (cause, _)), *_ = error.failures.items()
        if group is not None and isinstance(cause, OSError):
            raise OSError(cause.errno, f"{cause.strerror}, on rank {rank}", cause.filename) from error
        raise cause from error
    return index


def _distributed(share: Share, group: Any) -> Any:
    """The share as torch knows tensors that are spread over ranks."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    shape = torch.Size((len(share.own) * share.ranks,))
    mesh = DeviceMesh.from_group(group, "cpu")
    return DTensor.from_local(share.own, mesh, [Shard(0)], run_check=False, shape=shape, stride=(1,))


def read_tensors(folder: Path, index: Index) -> dict[str, Tensor]:
    """The tensors of an index, whole, whoever wrote them.

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
