"""Who a run folder belongs to, where several starts of a run believe that it is theirs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from sngd.launcher import Launch
from sngd.tracking import write_whole

__all__ = ["OWNER", "Fence", "opening"]

OWNER = "owner.json"
# How long a start waits for another one that opens the folder; a stopped one may hold the lock for ever.
_LOCK_SECONDS = 10.0


class Fence:
    """Keeps a start that has been given up for lost out of the folder that another one goes on in.

    A batch system that loses sight of a machine starts the job again elsewhere, while the old processes may
    still run. Each start puts a file of its own into the folder; whoever finds another's has been replaced.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / OWNER
        self._mine: tuple[int, int] | None = None

    def take_over(self, launch: Launch) -> None:
        """The folder is this process's from now on."""
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": launch.job,
            "restart": launch.restart,
            "started": datetime.now().isoformat(timespec="seconds"),
        }
        write_whole(self.path, json.dumps(owner) + "\n")
        self._mine = self._look()

    def lost(self) -> bool:
        """Whether another process has taken over."""
        found = self._look()
        return None not in (self._mine, found) and found != self._mine

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except OSError:  # removed, or out of reach for the moment
            return None
        return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def opening(folder: Path) -> Iterator[None]:
    """Within, no other start opens the folder: each finds what the one before has left, whole.

    A lock on the folder itself, where the file system has locks; whoever holds it for long is not waited for.
    The folder is made.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:
                break
            else:
                break
        yield
    finally:
        os.close(number)
