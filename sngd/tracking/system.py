"""Figures of the machine: memory and load of this process, use of its GPU."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import torch

__all__ = ["SystemFigures"]

_STATUS = Path("/proc/self/statm")


class SystemFigures:
    """What this process takes of its machine, measured on a clock of its own: a step pays next to nothing.

    Rank 0 alone is asked: its figures stand for the other ranks', which hold as many points and the same
    parameters.

    Args:
        device: of this rank.
        every: seconds between two measurements; in between the last one is told again.
    """

    def __init__(self, device: torch.device, every: float = 2.0) -> None:
        self._device, self._every = device, every
        self._figures: dict[str, float] = {}
        self._asks_gpu = device.type == "cuda"
        self._taken, self._cpu_seconds = -float("inf"), 0.0

    def sample(self) -> dict[str, float]:
        """The figures, for a record of the history.

        Returns:
            memory_bytes: held by torch on this rank's GPU, or resident on a CPU;
            cpu_percent: processor time over elapsed time since the last measurement (from the second on), 100
                for one core that is never idle;
            gpu_percent: share of the last moments in which the GPU had work, where pynvml is installed.
        """
        now = time.monotonic()
        if now - self._taken >= self._every:
            used = time.process_time()
            if self._figures:
                share = (used - self._cpu_seconds) / (now - self._taken)
                self._figures["cpu_percent"] = round(100 * share, 1)
            self._figures["memory_bytes"] = self._memory()
            self._ask_gpu()
            self._taken, self._cpu_seconds = now, used
        return dict(self._figures)

    def _memory(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.memory_allocated(self._device))
        try:
            return int(_STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # no Linux: the peak is what there is
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def _ask_gpu(self) -> None:
        if self._asks_gpu:
            try:
                self._figures["gpu_percent"] = float(torch.cuda.utilization(self._device))
            except Exception:  # no pynvml, or no right to ask: not worth a word, a run needs none of it
                self._asks_gpu = False
