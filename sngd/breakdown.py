"""What is told of a run whose device or network has failed: that, the last whole checkpoint, how to go on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from sngd.checkpoint import Checkpoint
from sngd.checkpoint.writing import THREAD
from sngd.device_errors import DeviceError, is_device_error, is_network_error, reason
from sngd.failures import LostRankError
from sngd.standing import CONFIG

__all__ = ["how_to_go_on", "telling_how_to_go_on"]

_RESUME = "sngd resume"
# For a checkpoint that is being written; less than launchers leave a rank that is to end.
_WRITE_SECONDS = 4.0


def how_to_go_on(folder: Path) -> str:
    """The last whole checkpoint of a run folder, and the command that goes on from it."""
    if not (folder / CONFIG).is_file():
        return "nothing was written yet: start the run again"
    command = f"`{_RESUME} {folder}`"
    if not Checkpoint.exists(folder):
        return f"{folder} holds no checkpoint yet: {command} begins anew"
    try:
        step = Checkpoint.load(folder).step
    except ValueError as error:
        return str(error)
    return f"the last whole checkpoint in {folder} is of step {step}: {command} goes on from it"


@contextlib.contextmanager
def telling_how_to_go_on(device: torch.device, folder: Path) -> Iterator[None]:
    """Have errors of devices and networks end in one line that says what is left to do.

    Args:
        device: of this rank.
        folder: of the run, on every rank.

    Raises:
        DeviceError: the device or a connection has failed inside the block.
        LostRankError: another rank is lost; with the same words, where this rank is to tell it.
    """
    try:
        yield
    except LostRankError as error:
        _let_writing_end()
        if not str(error) or _RESUME in str(error):  # told elsewhere, or here in another rank's words
            raise
        raise LostRankError(f"{error}; {how_to_go_on(folder)}") from error
    except RuntimeError as error:
        if is_device_error(error):
            failed = f"device {device} has failed"
        elif is_network_error(error):
            failed = "the connection to the other ranks has failed"
        else:
            raise
        _let_writing_end()
        raise DeviceError(f"{failed}: {reason(error)}; {how_to_go_on(folder)}") from error


def _let_writing_end() -> None:
    """Wait, but not for long, for the checkpoint under way, which the end of the process would cut off."""
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD):
            thread.join(_WRITE_SECONDS)
