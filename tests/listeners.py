"""The sockets that processes listen on, as the kernel tells it."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

_LISTENING = "0A"


def listening(pid: int) -> list[tuple[str, int]]:
    """Address and port of every TCP socket that a process listens on; "::" and "0.0.0.0" are all networks."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            own.add(link.readlink().name)
    found = []
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENING and f"socket:[{inode}]" in own:
                address, _, port = local.partition(":")
                words = [struct.pack("=I", int(address[i : i + 8], 16)) for i in range(0, len(address), 8)]
                found.append((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return sorted(found)


def family_of(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += map(int, path.read_text().split())
    return [pid, *(found for child in children for found in family_of(child))]


def variable(pid: int, name: str) -> str | None:
    """One of the environment that a process was started with."""
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        key, _, value = entry.decode().partition("=")
        if key == name:
            return value
    return None
