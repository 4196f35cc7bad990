"""How a command ended that has raised an error: one line, once for all ranks where all have met it."""

from __future__ import annotations

import socket
import time

from sngd.agreement import DivergedRanksError
from sngd.allocation import OutOfMemoryError, first_line, is_out_of_memory
from sngd.checkpoint import CheckpointError
from sngd.commands.saying import complain
from sngd.device_errors import is_device_error, reason
from sngd.exit_codes import DEVICE, DIVERGED, LOST_RANK, NOT_KEPT, USER_ERROR
from sngd.failures import LostRankError, RankFailedError, record_failure
from sngd.launcher import Launch
from sngd.residual import ResidualError

__all__ = ["tell"]

# How long a rank stays that leaves the telling of a mistake to another one.
_SILENT_SECONDS = 3.0


def _foreseen(error: BaseException | None) -> int | None:
    """The exit code of an error that one rank has met, and that needs no trace; None for any other."""
    if is_device_error(error):
        return DEVICE
    codes = {CheckpointError: NOT_KEPT, DivergedRanksError: DIVERGED, ValueError: USER_ERROR}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), None)


def tell(error: Exception, launch: Launch) -> int | None:
    """Say what a command ended with, once for all ranks where all have met it.

    Returns:
        The exit code; None for an unforeseen error of a process alone.
    """
    if isinstance(error, LostRankError):
        complain(str(error))
        return LOST_RANK
    if isinstance(error, CheckpointError):
        complain(str(error))
        return NOT_KEPT
    if isinstance(error, RankFailedError):
        cause = error.__cause__
        code = _foreseen(cause)
        complain(str(error), trace=cause if code is None else None)
        record_failure(cause or error)
        return 1 if code is None else code
    if isinstance(error, DivergedRanksError):  # all have met it
        if launch.rank == 0:
            complain(str(error))
        else:
            time.sleep(_SILENT_SECONDS)
        return DIVERGED
    if is_device_error(error):
        complain(f"rank {launch.rank} on {socket.gethostname()}: {reason(error)}")
        return DEVICE
    here = f"rank {launch.rank} on {socket.gethostname()}: " if launch.size > 1 else ""
    if isinstance(error, (ResidualError, OutOfMemoryError)):  # one rank has the text
        named = isinstance(error, OutOfMemoryError) or not str(error)
        complain(str(error) if named else f"{here}{error}")
        return USER_ERROR
    if isinstance(error, ValueError):
        if launch.local_rank == 0:  # every node tells it
            complain(f"{here if launch.rank else ''}{error}")
        else:  # the first rank to end makes launchers end the others: not before they have told it
            time.sleep(_SILENT_SECONDS)
        return USER_ERROR
    if launch.size == 1 and isinstance(error, OSError) and error.filename is not None:
        complain(f"{str(error.filename)!r}: {error.strerror}")  # a full disk, a name that is too long
        return USER_ERROR
    if launch.size == 1 and is_out_of_memory(error):
        complain(f"not enough memory: {first_line(error)}")
        return USER_ERROR
    if launch.size == 1:
        return None
    complain(f"{here}{type(error).__name__}: {error}", trace=error)
    record_failure(error)
    return 1
