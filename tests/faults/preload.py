"""Imported once by the server that forks starts (tests/faults/starts.py)."""

import torch
import torch.distributed

import sngd.cli  # noqa: F401
import tests.faults.starts  # noqa: F401

torch.set_num_threads(1)
