"""Real runs that are killed, stopped and starved: started by a fork, or by the command line.

    with Forks() as forks:
        start = forks.start(["train", CONFIG, "--ranks", "2", "--run-dir", folder])
        os.kill(start.ranks()[1], signal.SIGKILL)
        code, said = start.wait()

A server that has imported torch and sngd once forks what `sngd` would be, and that forks its ranks where
`sngd --ranks` starts fresh interpreters. All else is the product's. `fresh` starts the command line itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sngd.launcher import unlaunched
from tests.faults import traps

ROOT = Path(__file__).parents[2]
CONFIG = str(Path(__file__).with_name("small.py"))
_TELL = signal.SIGUSR2  # has a forked process write its stacks
PATIENCE = 120.0  # seconds after which a process that still runs is a failure


def environment(**more: str) -> dict[str, str]:
    """Of a start: nothing of a launcher's, one thread, this checkout."""
    path = os.pathsep.join([str(ROOT / "tests" / "faults" / "site"), str(ROOT)])
    return {**unlaunched(os.environ), "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def wait_until(true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Look every few milliseconds, until it is true.

    Raises:
        AssertionError: it does not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.002)
    return found


def runs(pid: int) -> bool:
    """Whether a process is there and more than a name in the table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Of a process, in the order in which it started them."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Start:
    """A start of a run under way.

    Args:
        process: what was started.
        said: file of its standard error.
        size: ranks.
    """

    def __init__(self, process: Any, said: Path, size: int) -> None:
        self.process, self.size, self._said = process, size, said
        self.known: list[int] = []

    @property
    def pid(self) -> int:
        """Of the launcher, or of the one rank."""
        return self.process.pid

    def ranks(self) -> list[int]:
        """Processes of the ranks, once all are there; of one rank, itself."""
        if self.size == 1:
            return [self.pid]
        if len(self.known) < self.size:
            self.known = children(self.pid)
        return self.known if len(self.known) == self.size else []

    def said(self) -> str:
        """Standard error so far."""
        return self._said.read_text() if self._said.exists() else ""

    def ended(self) -> bool:
        """Whether launcher and ranks have ended."""
        code = self.process.exitcode if hasattr(self.process, "exitcode") else self.process.poll()
        return code is not None and not any(runs(pid) for pid in self.known)

    def wait(self, seconds: float = PATIENCE) -> tuple[int, str]:
        """Exit code and standard error, once launcher and ranks have ended by themselves."""
        try:
            wait_until(self.ended, "launcher and ranks have ended", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._stacks()}") from None
        finally:
            self.kill()
        code = self.process.exitcode if hasattr(self.process, "exitcode") else self.process.returncode
        return code, self.said()

    def _stacks(self) -> str:
        """Where the processes stand that are still there."""
        left = [pid for pid in [self.pid, *self.known] if runs(pid)]
        for pid in left:
            os.kill(pid, _TELL)
        time.sleep(1)
        return f"{left} of {[self.pid, *self.known]} are left; standard error:\n{self.said()}"

    def kill(self) -> None:
        """All that is left of it."""
        for pid in [self.pid, *self.known, *children(self.pid)]:
            if runs(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)


class Forks:
    """Starts that cost a fork each.

    Args:
        hurry: factor on the seconds that ranks wait for one another once one is lost.
    """

    def __init__(self, hurry: float = 1.0) -> None:
        self.hurry = hurry
        self._folder = tempfile.TemporaryDirectory()
        self._numbers = iter(range(10**9))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.preload"])
        self._begun: list[Start] = []

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        for start in self._begun:
            start.kill()
        self._folder.cleanup()

    def start(
        self,
        arguments: Sequence[str],
        *,
        faults: Mapping[str, Any] | None = None,
        powerless: bool = False,
        **variables: str,
    ) -> Start:
        """Fork `sngd *arguments`.

        Args:
            arguments: of the command line.
            faults: of the ranks (tests/faults/traps.py).
            powerless: also root needs permission to write.
            variables: of the environment.
        """
        said = Path(self._folder.name) / f"{next(self._numbers)}.txt"
        settings = environment(**variables)
        if faults:
            settings[traps.NAME] = json.dumps(faults)
        process = self._context.Process(
            target=_command, args=(list(arguments), settings, str(said), self.hurry, powerless)
        )
        process.start()
        self._begun.append(Start(process, said, _size(arguments)))
        return self._begun[-1]


def _size(arguments: Sequence[str]) -> int:
    return int(arguments[arguments.index("--ranks") + 1]) if "--ranks" in arguments else 1


@contextlib.contextmanager
def fresh(
    arguments: Sequence[str],
    said: Path,
    *,
    faults: Mapping[str, Any] | None = None,
    prefix: Sequence[str] = (),
    **variables: str,
) -> Iterator[Start]:
    """`python -m sngd.cli *arguments`; what it says on standard error goes to a file."""
    settings = environment(**variables)
    if faults:
        settings[traps.NAME] = json.dumps(faults)
    command = [*prefix, sys.executable, "-m", "sngd.cli", *arguments]
    with said.open("w") as stream:
        process = subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL, stderr=stream)
    start = Start(process, said, _size(arguments))
    try:
        yield start
    finally:
        start.kill()
        process.wait()


def _command(
    arguments: list[str], settings: dict[str, str], said: str, hurry: float, powerless: bool
) -> None:
    """What `sngd` is, in a forked process."""
    from sngd import failures, local_ranks

    _enter(settings, said)
    if powerless:
        _drop_capabilities()
    failures._ANSWER_SECONDS *= hurry
    failures._END_SECONDS *= hurry
    failures._LAST_SECONDS *= hurry
    if "--ranks" in arguments:
        local_ranks.subprocess = _Subprocess
    else:
        traps.install(settings)
    _run(arguments)


def _enter(settings: dict[str, str], said: str) -> None:
    os.environ.clear()
    os.environ.update(settings)
    target, nothing = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), os.open(os.devnull, os.O_RDWR)
    for number, source in ((0, nothing), (1, nothing), (2, target)):
        os.dup2(source, number)


def _drop_capabilities() -> None:
    version, no_one, nothing = 0x20080522, 0, [0] * 6  # linux/capability.h
    header, data = (ctypes.c_uint32 * 2)(version, no_one), (ctypes.c_uint32 * 6)(*nothing)
    if ctypes.CDLL(None, use_errno=True).capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def _run(arguments: list[str]) -> None:
    faulthandler.register(_TELL, file=2)
    import traceback

    from sngd.cli import main

    code = 1
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Fork(subprocess.Popen):
    """Forks where Popen would execute a fresh interpreter: [python, "-m", module, *arguments]."""

    def _execute_child(self, args: list[str], *rest: Any) -> None:
        env = rest[5]
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            self._child_created = True
            return
        os.closerange(3, 4096)
        os.environ.clear()
        os.environ.update(env)
        traps.install(env)
        _run(list(args[3:]))


class _Subprocess:
    """What sngd/local_ranks.py asks of subprocess."""

    Popen, TimeoutExpired = _Fork, subprocess.TimeoutExpired
