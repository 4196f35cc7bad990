"""Ranks on hosts of their own: network namespaces of this machine behind links of a given rate.

    node 0 ── link ──┐
    node 1 ── link ──┤ switch
    …                ┘

Every node is a network namespace; its link is a veth pair to a bridge in one more namespace, the switch. A
token bucket (tc-tbf) limits both directions of a link, as on a full-duplex wire. Needs Linux, root, iproute2.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

__all__ = ["INTERFACE", "Hosts", "Placement", "obstacle"]

INTERFACE = "eth0"
_PREFIX = "sngd"
# Inside of namespaces that nobody else is in any address and port is free.
_ADDRESS, _PORT = "10.214.0.{}", 29500
# Tokens of a bucket, which pass at full speed after a pause. A bucket that runs full while the kernel is late
# to empty it loses rate: it holds some milliseconds, and two of the segments of 64 kB that are handed over.
_BURST_SECONDS, _LEAST_BURST_BYTES = 2e-3, 128 * 1024
# Longest queue of a link: above the most that one TCP connection keeps in flight, so that nothing is dropped.
_QUEUE_BYTES = 8 * 2**20
_numbers = itertools.count()


@dataclass(frozen=True)
class Placement:
    """Where ranks run, in plain values.

    Args:
        prefixes: for each rank the command that runs its arguments on its host.
        variables: of the environment, which lead ranks to each other.
    """

    prefixes: Sequence[Sequence[str]]
    variables: Mapping[str, str] = field(default_factory=dict)


def obstacle() -> str:
    """Why namespaces cannot be made here; empty where they can."""
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return (
            f"{' and '.join(missing)} (iproute2) not found: limited links need Linux with network namespaces"
        )
    if os.geteuid() != 0:
        return "limited links need root: network namespaces are made and removed"
    try:
        with Hosts(1, 1e9):
            return ""
    except OSError as error:
        return str(error)


class Hosts:
    """Network namespaces behind limited links, for as long as the context lasts.

    Args:
        count: nodes, 1 … 200.
        bits_per_second: of every link, in each direction.

    Raises:
        OSError: on entering, when a command of iproute2 fails; what was made is removed.
    """

    def __init__(self, count: int, bits_per_second: float) -> None:
        assert 1 <= count <= 200
        self.count, self.rate = count, bits_per_second
        base = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.switch, self.nodes = f"{base}-switch", [f"{base}-{node}" for node in range(count)]

    def __enter__(self) -> Hosts:
        _remove_orphans()
        try:
            self._make()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove every namespace, and with them what is in them."""
        there = _namespaces()
        for name in [*self.nodes, self.switch]:
            if name in there:
                _run("ip", "netns", "delete", name)

    def command(self, node: int) -> list[str]:
        """What to put before a command so that it runs on a node."""
        return ["ip", "netns", "exec", self.nodes[node]]

    def placement(self) -> Placement:
        """One rank a node; rank 0 hosts the rendezvous."""
        return Placement(
            [self.command(node) for node in range(self.count)],
            {
                "MASTER_ADDR": _ADDRESS.format(1),
                "MASTER_PORT": str(_PORT),
                "TORCHELASTIC_USE_AGENT_STORE": "False",
                "TORCH_CPP_LOG_LEVEL": "ERROR",  # the store warns that hosts have no names
                "GLOO_SOCKET_IFNAME": INTERFACE,
                "NCCL_SOCKET_IFNAME": INTERFACE,
            },
        )

    def _make(self) -> None:
        burst = max(_LEAST_BURST_BYTES, int(_BURST_SECONDS * self.rate / 8))
        _run("ip", "netns", "add", self.switch)
        _run("ip", "-n", self.switch, "link", "add", "name", "bridge", "type", "bridge")
        _run("ip", "-n", self.switch, "link", "set", "bridge", "up")
        for number, node in enumerate(self.nodes):
            port = f"port{number}"
            _run("ip", "netns", "add", node)
            pair = ["name", INTERFACE, "netns", node, "type", "veth"]
            _run("ip", "link", "add", *pair, "peer", "name", port, "netns", self.switch)
            address = _ADDRESS.format(number + 1)
            _run("ip", "-n", node, "address", "add", f"{address}/24", "dev", INTERFACE)
            _run("ip", "-n", self.switch, "link", "set", port, "master", "bridge")
            for name, device in ((node, "lo"), (node, INTERFACE), (self.switch, port)):
                _run("ip", "-n", name, "link", "set", device, "up")
            for name, device in ((node, INTERFACE), (self.switch, port)):
                limit = [
                    "rate",
                    f"{self.rate:.0f}bit",
                    "burst",
                    str(burst),
                    "limit",
                    str(_QUEUE_BYTES),
                ]
                _run("tc", "-n", name, "qdisc", "add", "dev", device, "root", "tbf", *limit)


def _run(*command: str) -> str:
    """Output of a command.

    Raises:
        OSError: it failed; the message is its own.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().replace("\n", "; ")
        raise OSError(f"`{' '.join(command)}` failed: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _namespaces() -> set[str]:
    return {line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line}


def _remove_orphans() -> None:
    """Remove namespaces of processes that were killed before they could."""
    for name in _namespaces():
        owner = re.match(rf"{_PREFIX}-(\d+)-", name)
        if owner and not os.path.exists(f"/proc/{owner.group(1)}"):
            _run("ip", "netns", "delete", name)
