"""The command line: sngd COMMAND, the commands being those of sngd/commands, submit and bench."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence

from sngd.agreement import DivergedRanksError
from sngd.allocation import OutOfMemoryError, first_line, is_out_of_memory
from sngd.checkpoint import CheckpointError
from sngd.commands.common import complain
from sngd.commands.completion import completion
from sngd.commands.doctor import doctor
from sngd.commands.init import init
from sngd.commands.overview import chosen
from sngd.commands.plan import plan
from sngd.commands.problems import problems
from sngd.commands.results import evaluate, export, plot
from sngd.commands.runs import resume, status, train
from sngd.device_errors import is_device_error, reason
from sngd.exit_codes import DEVICE, DIVERGED, INTERRUPTED, LOST_RANK, NOT_KEPT, USER_ERROR
from sngd.failures import LostRankError, RankFailedError, leave, record_failure
from sngd.launcher import Launch, detect
from sngd.residual import ResidualError
from sngd.submit import submit

__all__ = ["main"]


# How long a rank stays that leaves the telling of a mistake to another one.
_SILENT_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 for a mistake of the user's, which is told in one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {
        "doctor": doctor,
        "init": init,
        "train": train,
        "resume": resume,
        "status": status,
        "plan": plan,
        "submit": submit,
        "eval": evaluate,
        "plot": plot,
        "export": export,
        "problems": problems,
        "bench": _bench,
        "completion": completion,
    }
    launch = Launch("alone")
    try:
        launch = detect(os.environ)
        command, rest = chosen(given)
        return commands[command](rest)
    except BrokenPipeError:  # whoever read the output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:  # where no training catches it
        if launch.size > 1:
            raise
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        code = _tell(error, launch)
        if code is None:
            raise
    if launch.size > 1 or code == DEVICE:  # what is left on a broken device would abort the exit
        leave(code)
    return code


def _foreseen(error: BaseException | None) -> int | None:
    """The exit code of an error that one rank has met, and that needs no trace; None for any other."""
    if is_device_error(error):
        return DEVICE
    codes = {CheckpointError: NOT_KEPT, DivergedRanksError: DIVERGED, ValueError: USER_ERROR}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), None)


def _tell(error: Exception, launch: Launch) -> int | None:
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


def _bench(given: list[str]) -> int:
    from sngd.bench.command import bench  # and scipy.optimize, which no rank of a run needs

    return bench(given)


if __name__ == "__main__":
    sys.exit(main())
