"""What a run tells the world: console, history and result files, Weights & Biases, TensorBoard. Rank 0 only.

Each class is a hook of the training loop: start(info) once, step(record) after every step, saved(path, step)
after every checkpoint, end(result) once, then drawn(pictures) and close(). The loop knows no tool by name.
A hook that cannot write (full disk, closed terminal, dead server) says so once and never stops a run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from sngd.tracking.base import Values, Writer
from sngd.tracking.config import Tracking, agreed_mode
from sngd.tracking.console import Console
from sngd.tracking.event_files import TensorBoard
from sngd.tracking.files import HistoryFile, ResultFile, read_history, write_whole
from sngd.tracking.system import SystemFigures
from sngd.tracking.weights_and_biases import WeightsAndBiases, tracker_id

__all__ = [
    "Console",
    "HistoryFile",
    "ResultFile",
    "SystemFigures",
    "TensorBoard",
    "Tracking",
    "Values",
    "WeightsAndBiases",
    "Writer",
    "make_hooks",
    "read_history",
    "tracker_id",
    "write_whole",
]


def make_hooks(tracking: Tracking, folder: Path, say: Callable[[str], None] = print) -> list[Writer]:
    """The hooks that a config asks for beside console and files. They stand after HistoryFile.

    Args:
        tracking: which.
        folder: run folder, which need not exist before they start.
        say: told in one line where a run is to be seen.

    Raises:
        ValueError: a package is missing, or WANDB_MODE is no mode.
    """
    hooks: list[Writer] = []
    mode, disagreement = agreed_mode(tracking.wandb)
    if disagreement:
        logging.getLogger(__name__).warning(disagreement)
    if mode != "disabled":
        hooks.append(WeightsAndBiases(tracking, folder, mode, say))
    if tracking.tensorboard:
        hooks.append(TensorBoard(folder))
    return hooks
