"""Checkpoints: what a run needs to go on, written whole or not at all, and read without running foreign code.

    RUN/checkpoints/step-000000120/    one checkpoint
        manifest.json                  numbers, words, and where the tensors lie
        rank-0.tensors, …              tensors: a file of each rank that wrote some
        SHA256SUMS                     of the files above, written last; `sha256sum -c` knows it

A checkpoint is written aside and renamed once it is on the disk. torch.save writes the tensors, and
torch.load reads them as weights alone: reading a pickle would run whatever code it names.
"""

from __future__ import annotations

from sngd.checkpoint.encoding import Share, copied
from sngd.checkpoint.state import Checkpoint
from sngd.checkpoint.store import CheckpointError, Store
from sngd.checkpoint.writing import Writing

__all__ = ["Checkpoint", "CheckpointError", "Share", "Store", "Writing", "copied"]
