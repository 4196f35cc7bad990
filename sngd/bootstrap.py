"""How ranks find each other: one store that all of them are connected to, whatever started them.

    torchrun, deepspeed, sngd --ranks   MASTER_ADDR and MASTER_PORT, which they set
    mpirun                              mpi4py sends an address of rank 0 and a port that is free there
    srun                                the first host of the step, a port made of job and step

MPI only bootstraps. It stays initialised to the end: mpirun ends all ranks when one leaves before.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from sngd.addresses import listener, on_one_machine, pick_interfaces, resolved, source_towards
from sngd.allocation import first_line
from sngd.launcher import Launch

__all__ = ["Rendezvous", "host_store", "meet"]

# Ports for srun: below those that the kernel hands out by itself (ip_local_port_range begins at 32768).
_FIRST_PORT, _PORTS = 20_000, 12_000
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Rendezvous:
    """A store that every rank is connected to.

    Args:
        address: where it is.
        port: where it is.
        store: this rank's connection.
        host: who would have to end for it to be gone.
        timeout: for a connection, and for a key that is waited for.
    """

    address: str
    port: int
    store: dist.Store
    host: str
    timeout: timedelta

    def connection(self) -> dist.Store:
        """Another connection, for a thread of its own."""
        return _prefixed(dist.TCPStore(self.address, self.port, None, False, self.timeout))

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


def meet(launch: Launch, timeout_seconds: float) -> Rendezvous:
    """Join the other ranks of a launch; sets what libraries look for: RANK, …, MASTER_ADDR, MASTER_PORT.

    Args:
        launch: of more than one rank, or of a launcher that names a rendezvous.
        timeout_seconds: how long the last rank may take to arrive.

    Raises:
        ValueError: the rendezvous cannot be reached or hosted, mpi4py is absent or of another MPI.
    """
    timeout = timedelta(seconds=timeout_seconds)
    if launch.launcher in ("openmpi", "mpich"):
        found = _through_mpi(launch, timeout)
    else:
        address, port = _given_rendezvous() or _slurm_rendezvous(launch)
        agent = launch.rendezvous_given and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        with _warning_of_loopback(launch, address):
            store = _open(address, port, launch, timeout, hosting=launch.rank == 0 and not agent)
        found = Rendezvous(address, port, _prefixed(store), "the launcher" if agent else "rank 0", timeout)
    os.environ.update(
        RANK=str(launch.rank),
        WORLD_SIZE=str(launch.size),
        LOCAL_RANK=str(launch.local_rank),
        LOCAL_WORLD_SIZE=str(launch.local_size),
        MASTER_ADDR=found.address,
        MASTER_PORT=str(found.port),
    )
    pick_interfaces(os.environ, found.address, on_one_machine(launch, found.address))
    return found


def _prefixed(store: dist.Store) -> dist.Store:
    """An elastic launcher may keep its store when it starts the ranks again: every start has its own keys."""
    return dist.PrefixStore(f"sngd/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _open(address: str, port: int, launch: Launch, timeout: timedelta, hosting: bool) -> dist.TCPStore:
    try:
        if hosting:
            return host_store(address, port, on_one_machine(launch, address), timeout)
        return dist.TCPStore(address, port, None, False, timeout, wait_for_workers=False)
    except (OSError, RuntimeError, ValueError) as error:
        what = "hosted: choose another MASTER_PORT" if hosting else "reached: is rank 0 running there?"
        raise ValueError(
            f"rank {launch.rank} on {socket.gethostname()}: the rendezvous {address}:{port} cannot be {what} "
            f"({first_line(error)})"
        ) from error


def host_store(address: str, port: int, alone: bool, timeout: timedelta) -> dist.TCPStore:
    """A store that listens at an address alone, where torch's own listens on all networks.

    Args:
        address: as the ranks are told it.
        port: 0 for a free one.
        alone: all ranks are on this machine.
        timeout: for a connection, and for a key that is waited for.

    Raises:
        OSError: the port is taken.
    """
    with listener(address, port, alone) as opened:
        port = opened.getsockname()[1]
        return dist.TCPStore(
            address,
            port,
            None,
            True,
            timeout,
            wait_for_workers=False,
            master_listen_fd=opened.detach(),
            use_libuv=torch.__version__ >= "2.8",  # before, libuv's store opened its socket itself
        )


def _given_rendezvous() -> tuple[str, int] | None:
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not address or not port:
        return None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"MASTER_PORT={port!r} in the environment must be a port, 1 … 65535")
    return address, int(port)


# ---------------------------------------------------------------------------------------------
# srun
# ---------------------------------------------------------------------------------------------


def _slurm_rendezvous(launch: Launch) -> tuple[str, int]:
    job, step = (int(os.environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    port = _FIRST_PORT + (31 * job + step) % _PORTS
    return ("127.0.0.1" if launch.nodes == 1 else _first_host()), port


def _first_host() -> str:
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "")
    command = ["scontrol", "show", "hostnames", nodes]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()
        if listed:
            return listed[0]
    launched_at = os.environ.get("SLURM_LAUNCH_NODE_IPADDR")  # the first host, if srun runs in a batch script
    if launched_at:
        return launched_at
    raise ValueError(f"the first host of {nodes!r} is unknown without scontrol: set MASTER_ADDR, MASTER_PORT")


# ---------------------------------------------------------------------------------------------
# mpirun
# ---------------------------------------------------------------------------------------------


def _through_mpi(launch: Launch, timeout: timedelta) -> Rendezvous:
    os.environ.setdefault("MPI4PY_MPIABI", launch.launcher)  # which library a wheel of mpi4py loads
    try:
        from mpi4py import MPI
    except ModuleNotFoundError as error:
        raise ValueError("started by mpirun, but mpi4py is not installed: pip install 'sngd[mpi]'") from error
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"started by {launch.title}, whose library mpi4py cannot load ({first_line(error)}): put the "
            "folder of its libmpi.so into LD_LIBRARY_PATH, or install mpi4py for it"
        ) from error
    everyone = MPI.COMM_WORLD
    if (everyone.rank, everyone.size) != (launch.rank, launch.size):
        vendor = " ".join(map(str, MPI.get_vendor()[:1]))
        raise ValueError(
            f"{launch.title} started rank {launch.rank} of {launch.size}, but mpi4py's {vendor} "
            f"counts rank {everyone.rank} of {everyone.size}: both must be of one MPI; put the folder of "
            "mpirun's libmpi.so into LD_LIBRARY_PATH, or call the other mpirun"
        )
    hosts = everyone.allgather(socket.gethostname())
    store: dist.TCPStore | None = None
    found: tuple[str, int] | str = ""
    if launch.rank == 0:
        try:
            address, port = _given_rendezvous() or (_own_address(hosts), 0)
            store = _open(address, port, launch, timeout, hosting=True)
            found = address, store.port
        except ValueError as error:
            found = str(error)
    found = everyone.bcast(found)
    if isinstance(found, str):
        raise ValueError(found)
    address, port = found
    if store is None:
        store = _open(address, port, launch, timeout, hosting=False)
    return Rendezvous(address, port, _prefixed(store), "rank 0", timeout)


def _own_address(hosts: list[str]) -> str:
    """An address of this machine that the others can reach."""
    others = [host for host in hosts if host != hosts[0]]
    if not others:
        return "127.0.0.1"
    for candidate in (resolved(hosts[0]), source_towards(others[0])):
        if candidate and not candidate.startswith("127."):
            return candidate
    raise ValueError(
        f"{hosts[0]!r} resolves to a loopback address and {others[0]!r} to none that can be reached from it: "
        "set MASTER_ADDR and MASTER_PORT to an address and a free port of rank 0's machine"
    )


@contextlib.contextmanager
def _warning_of_loopback(launch: Launch, address: str) -> Iterator[None]:
    """Say so when a node waits long for a rendezvous that it looks for on itself; the time-out is far off."""
    here = resolved(address) or ""
    told = (
        f"warning: rank {launch.rank} on {socket.gethostname()} still looks for rank 0 at {address} = "
        f"{here}, which is this machine itself, though there are {launch.nodes} nodes: "
        "MASTER_ADDR must be an address of the first one that the others can reach"
    )
    later = threading.Timer(_PATIENCE_SECONDS, lambda: print(told, file=sys.stderr))
    later.daemon = True
    if launch.nodes > 1 and launch.rank > 0 and launch.local_rank == 0 and here.startswith("127."):
        later.start()
    try:
        yield
    finally:
        later.cancel()
