"""What goes wrong inside a process, as its environment says; by sitecustomize in fresh interpreters.

FAULTS = {"folder": PATH, "rank": 0, "kill_at": 17, "delay": 0.001}   SIGKILL at its 17th file operation
         {"log": PATH}                      every file operation within the folder, a line each
         {"jump": seconds, "at": PATH}      the wall clock jumps once a file exists
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "FAULTS"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Audit events of the interpreter that change files, and where their arguments name a path.
_EVENTS = {
    "open": 0,
    "os.mkdir": 0,
    "os.rename": 1,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.link": 1,
    "os.truncate": 0,
    "shutil.rmtree": 0,
}


def install(environment: Mapping[str, str]) -> None:
    """Set the traps that an environment asks for; nothing without FAULTS."""
    if NAME not in environment:
        return
    wanted: dict[str, Any] = json.loads(environment[NAME])
    if str(wanted.get("rank", environment.get("RANK", "0"))) != environment.get("RANK", "0"):
        return
    if "folder" in wanted:
        _watch_files(wanted)
    if "jump" in wanted:
        _let_the_clock_jump(float(wanted["jump"]), Path(wanted["at"]))


def _watch_files(wanted: dict[str, Any]) -> None:
    folder, kill_at, delay = str(wanted["folder"]), wanted.get("kill_at"), float(wanted.get("delay", 0))
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if "log" in wanted else None
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in _EVENTS or not _within(folder, event, arguments):
            return
        seen += 1
        if log is not None:
            os.write(log, f"{seen} {event} {arguments[: _EVENTS[event] + 1]}\n".encode())
        if seen == kill_at:
            if not delay:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    sys.addaudithook(hook)


def _within(folder: str, event: str, arguments: tuple[Any, ...]) -> bool:
    path = arguments[_EVENTS[event]]
    if not isinstance(path, (str, bytes, os.PathLike)) or not os.fsdecode(path).startswith(folder):
        return False
    return event != "open" or bool((arguments[2] or 0) & _WRITING)


def _let_the_clock_jump(seconds: float, trigger: Path) -> None:
    true = time.time
    time.time = lambda: true() + (seconds if trigger.exists() else 0.0)
