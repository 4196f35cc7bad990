"""Ranks that this process starts on its machine: `sngd --ranks`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sngd.collectives import host_rendezvous
from sngd.exit_codes import DEVICE, DIVERGED, INTERRUPTED, LOST_RANK, NOT_KEPT, RESUME, SUPERSEDED, USER_ERROR
from sngd.launcher import MARK

__all__ = ["start_local_ranks"]

# What a rank that ended because another one failed may take before it is killed.
_GRACE_SECONDS = 5.0


def start_local_ranks(
    count: int,
    arguments: list[str],
    module: str = "sngd.cli",
    *,
    prefixes: Sequence[Sequence[str]] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Start ranks 0 … count−1 of this program on this machine and wait for them.

    The parent hosts the rendezvous on a free port of the loopback address, unless variables name another.
    When one rank fails, the others are ended.

    Args:
        count: ranks.
        arguments: of the program, for `sngd` without --ranks.
        module: the program, as of `python -m`.
        prefixes: for each rank what to put before its command, e.g. to run it in a network namespace.
        variables: of the ranks' environment; where MASTER_ADDR is among them, rank 0 hosts the rendezvous.

    Returns:
        0, or the exit code of the first rank that failed.
    """
    if "MASTER_ADDR" in variables:
        rendezvous = {}
    else:
        store = host_rendezvous()  # to be kept alive while the ranks run
        rendezvous = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    children = []
    for rank in range(count):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "OMP_NUM_THREADS": threads,
            MARK: str(count),
            **rendezvous,
            **variables,
        }
        command = [*(prefixes[rank] if prefixes else ()), sys.executable, "-m", module, *arguments]
        children.append(subprocess.Popen(command, env=environment))
    with _passing_on(children):
        try:
            return _wait(children)
        except KeyboardInterrupt:  # the terminal has sent it to the ranks too: they finish their step
            return _wait(children)


@contextlib.contextmanager
def _passing_on(children: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Requests to stop that reach this process go to its ranks, which finish their step."""

    def pass_on(number: int, frame: Any) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGUSR1)
    try:
        previous = {number: signal.signal(number, pass_on) for number in numbers}
    except ValueError:  # not in the main thread
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [child.poll() for child in children]
        failed = [code for code in codes if code]
        if failed:
            break
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.05)
    code = min(failed, key=_remoteness)
    rank = codes.index(code)
    # every rank has seen it or will; what is to be said is said
    known = code in (USER_ERROR, DEVICE, DIVERGED, NOT_KEPT, RESUME, SUPERSEDED, INTERRUPTED)
    deadline = time.monotonic() + _GRACE_SECONDS
    for child in children:
        if not known and child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
    if not known:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        print(f"error: rank {rank} ended with {how}; the other ranks were stopped", file=sys.stderr)
    return code if code > 0 else 128 - code


def _remoteness(code: int) -> int:
    """From the cause: who knows why it ended, or was killed, comes before those that merely lost it."""
    if code == USER_ERROR:
        return 0
    return 1 if code < 0 else 3 if code == LOST_RANK else 2
