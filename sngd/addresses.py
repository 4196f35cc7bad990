"""Addresses and interfaces: where a rendezvous listens, which network the ranks talk over.

Nothing is to listen on a network that the run does not use: what is called 127.0.0.1 or localhost is bound to
that, any other address of this machine to that address alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
from collections.abc import MutableMapping

from sngd.launcher import Launch

__all__ = ["listener", "on_one_machine", "pick_interfaces", "resolved", "source_towards"]

_SIOCGIFADDR = 0x8915  # Linux: address of an interface
_BACKLOG = 4096  # ranks that connect at once; the kernel's limit (net.core.somaxconn) caps it
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
# Launchers that tell how many nodes there are. RANK and WORLD_SIZE set by hand do not.
_COUNT_NODES = ("torchrun", "deepspeed", "openmpi", "mpich", "srun")


def resolved(host: str) -> str | None:
    """IPv4 address of a host, None where it has none."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return None


def source_towards(host: str) -> str | None:
    """The address that packets to a host leave from; none is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])
    return None


def on_one_machine(launch: Launch, address: str) -> bool:
    """Whether all ranks are on this machine.

    Args:
        launch: of the ranks.
        address: of their rendezvous; one of loopback can be reached from nowhere else.
    """
    if address == "localhost" or address.startswith("127."):
        return True
    return launch.nodes == 1 and launch.launcher in _COUNT_NODES


def listener(address: str, port: int, alone: bool) -> socket.socket:
    """A socket that listens at an address, and nowhere else if that can be.

    It listens on all interfaces where the address is none of this machine (one of a service before it), or is
    loopback here though ranks are elsewhere, whose host files may differ.

    Args:
        address: as the other ranks are told it.
        port: 0 for a free one.
        alone: all ranks are on this machine.

    Raises:
        OSError: the port is taken.
    """
    own = resolved(address) or ""
    if own and (alone or not own.startswith("127.")):
        try:
            return socket.create_server((own, port), backlog=_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=_BACKLOG)


def pick_interfaces(environment: MutableMapping[str, str], address: str, alone: bool) -> None:
    """Name the network for gloo and NCCL, unless the user has.

    Ranks of one machine talk over loopback. Of several, gloo takes the interface that leads to the rendezvous
    where the host's own name, which it would go by, means loopback; NCCL finds one by itself.

    Args:
        environment: gets GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME.
        address: of the rendezvous.
        alone: all ranks are on this machine.
    """
    if alone:
        loopback = _interface_of("127.0.0.1")
        for name in _INTERFACES:
            if loopback:
                environment.setdefault(name, loopback)
        return
    own, source = resolved(socket.gethostname()), source_towards(address)
    if "GLOO_SOCKET_IFNAME" in environment or source is None or source.startswith("127."):
        return
    if (own is None or own.startswith("127.")) and (interface := _interface_of(source)):
        environment["GLOO_SOCKET_IFNAME"] = interface


def _interface_of(address: str) -> str | None:
    """The last one that has an address."""
    named = [name for _, name in socket.if_nameindex() if _address_of(name) == address]
    return named[-1] if named else None


def _address_of(interface: str) -> str | None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    return None
