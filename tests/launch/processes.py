"""Processes, ports and names of machines, for tests that start services."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HOSTS = Path("/etc/hosts")


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it does not hold after so many seconds; the message says what was waited for.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s it is not so that {what}")
        time.sleep(0.1)


def execute(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise OSError(f"`{' '.join(command)}` failed ({done.returncode}): {done.stderr.strip()}")
    return str(done.stdout)


def free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to outgoing connections, where it can be."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def read_pid(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().strip(), 10, f"{path.name} is written")
    return int(path.read_text())


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def edit_hosts(lines: list[str], names: list[str]) -> None:
    """Add lines to /etc/hosts in place of those of the names, and of clusters whose process has gone."""

    def stays(line: str) -> bool:
        words = line.split()
        owner = re.fullmatch(r"s(\d+)x\d+n\d+", words[1]) if len(words) == 2 else None
        return owner is None or (words[1] not in names and os.path.exists(f"/proc/{owner.group(1)}"))

    with _locked(Path("/tmp/sngd-hosts.lock")):
        before = HOSTS.read_text().splitlines(keepends=True)
        after = "".join(filter(stays, before)) + "".join(f"{line}\n" for line in lines)
        if after != "".join(before):
            HOSTS.write_text(after)  # in place: a container mounts this very file
