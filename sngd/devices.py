"""The device of a rank, and how many threads it takes."""

from __future__ import annotations

import os

import torch

from sngd.composite import build_network
from sngd.config import RunConfig
from sngd.launcher import Launch

__all__ = ["pick_device", "pick_threads"]

# Entries of the Jacobian from which a step gains from threads. Below it they save a quarter of the time on an
# idle machine and cost tenfold on a busy one, where they wait for each other (benchmarks/NOTES.md).
_WORTH_THREADS = 3_000_000
# Launchers that may show every process a GPU of its own only.
_ONE_GPU_A_TASK = ("srun", "openmpi", "mpich")


def pick_device(wanted: str, launch: Launch) -> torch.device:
    """The device of this process: "auto" takes this local rank's GPU where there is one.

    Raises:
        ValueError: CUDA is asked for and absent, or there are fewer GPUs than ranks here.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' but torch finds no CUDA device here; use --device cpu or auto")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    shown, local = torch.cuda.device_count(), launch.local_rank
    if shown == 1 and "CUDA_VISIBLE_DEVICES" in os.environ and launch.launcher in _ONE_GPU_A_TASK:
        local = 0  # its own, as srun --gpus-per-task=1 hands them out
    if local >= shown:
        raise ValueError(
            f"local rank {local} has no GPU of its own: this machine shows {shown}; "
            "start fewer ranks or use --device cpu"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def pick_threads(run: RunConfig, device: torch.device) -> None:
    """One thread for a small problem on a CPU, unless OMP_NUM_THREADS says otherwise."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        network = build_network(run.problem, run.network, run.seed)
        if network.parameters * run.problem.points < _WORTH_THREADS:
            torch.set_num_threads(1)
