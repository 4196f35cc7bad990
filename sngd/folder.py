"""The run folder: who may use it, what it says a run is, whether the run in it can go on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sngd.checkpoint import Checkpoint
from sngd.checks import finite
from sngd.config import RunConfig, describe, digest
from sngd.launcher import Launch
from sngd.stopping import RESUMABLE
from sngd.tracking import write_whole

if TYPE_CHECKING:
    from sngd.collectives import Ranks

__all__ = ["Claim", "Fence", "Source", "Standing", "check_folder", "claim_folder", "open_folder"]

CONFIG, HISTORY, RESULT, OWNER = "config.json", "history.jsonl", "result.json", "owner.json"
# Fields that a run may change when it goes on: none of them has a part in what a step computes.
_FREE = {
    *("max_steps", "max_seconds", "target_error", "evaluate_every", "evaluate_points"),
    *("device", "memory_gb", "checkpoint_seconds", "timeout_seconds", "tracking", "run_dir"),
}


@dataclass(frozen=True)
class Source:
    """Where a run came from: enough to run it again.

    Args:
        path: config file.
        text: its content.
        flags: flags that replaced fields.
    """

    path: Path
    text: str
    flags: list[str]


@dataclass(frozen=True)
class Claim:
    """A run folder that may be used.

    Args:
        folder: its path.
        earlier: the checkpoint to go on from.
        replace: an earlier start was lost before its first checkpoint; what it wrote is replaced.
        finished: how the run in it has ended, empty where there is something left to do.
    """

    folder: Path
    earlier: Checkpoint | None = None
    replace: bool = False
    finished: str = ""


def claim_folder(run: RunConfig, ranks: Ranks, launch: Launch, resume: bool) -> Claim:
    """The run's folder, chosen by rank 0, the same on all ranks.

    Args:
        run: its run_dir counts if it has one; a Slurm job's number names it otherwise, or else the time.
        ranks: told what rank 0 has found.
        launch: says whether these ranks were started before.
        resume: go on with the run in the folder, if there is one.

    Raises:
        ValueError: on every rank, where the folder cannot be used, or holds another run.
    """
    found: Claim | str = ""
    if ranks.rank == 0:
        try:
            found = _look(run, launch, resume or launch.restart > 0)
        except ValueError as error:
            found = str(error)
    found = ranks.broadcast(found)
    if isinstance(found, str):
        raise ValueError(found)
    return found


def _look(run: RunConfig, launch: Launch, resume: bool) -> Claim:
    folder = run.run_dir or _named(run, launch)
    if not resume:
        if taken := check_folder(folder):
            raise ValueError(taken)
        return Claim(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        if taken := check_folder(folder):
            raise ValueError(taken)
        return Claim(folder)
    _check_fit(run, folder)
    if not Checkpoint.exists(folder):
        return Claim(folder, replace=True)
    earlier = Checkpoint.load(folder)
    return Claim(folder, earlier, finished=_finished(run, folder, earlier))


def _named(run: RunConfig, launch: Launch) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    if launch.job is None:
        if launch.elastic:
            raise ValueError(
                "run_dir is missing: torchrun --max-restarts starts lost ranks again, which go on from the "
                "checkpoint in a folder that they must know; add --run-dir"
            )
        return Path("runs") / f"{run.problem.name}-{stamp}"
    folder = Path("runs") / f"{run.problem.name}-job{launch.job}"
    second = folder.exists() and not launch.restart  # in an allocation that is used interactively
    return folder.with_name(f"{folder.name}-{stamp}") if second else folder


def check_folder(folder: Path | None) -> str | None:
    """Why a folder cannot be that of a new run, None when it can."""
    if folder is not None and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        hint = "go on with the run in it by --resume, " if Checkpoint.exists(folder) else ""
        return f"run_dir={str(folder)!r} exists; nothing is overwritten: {hint}name another or remove it"
    if folder is not None:
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            return (
                f"run_dir={str(folder)!r} cannot be made: {str(above)!r} is no folder that can be written to"
            )
    return None


def _check_fit(run: RunConfig, folder: Path) -> None:
    """Refuse to go on with a run that is not this one.

    Raises:
        ValueError: config.json is missing or damaged, or fields differ that a step depends on.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"run_dir={str(folder)!r} holds no run ({CONFIG} is missing): name another folder")
    try:
        saved = json.loads(path.read_text())["fields"]
        before = {key: value for key, value in _leaves(saved) if key.split(".")[0] not in _FREE}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read ({type(error).__name__}): it is damaged") from error
    now = dict(_leaves(json.loads(json.dumps(describe(run)))))
    # a field that was None or empty, and has fields of its own now, is no leaf any more
    differing = [
        f"{key} was {value!r}, now is {_value(now, key)!r}"
        for key, value in before.items()
        if key not in now or now[key] != value
    ]
    if differing:
        raise ValueError(
            f"the run in {str(folder)!r} is another one and cannot go on with this config: "
            f"{'; '.join(differing)}; name another run_dir"
        )


def _leaves(fields: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Fields in fields, by dotted names; one that holds none is a field itself."""
    found: list[tuple[str, Any]] = []
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            found += _leaves(value, f"{above}{name}.")
        else:
            found.append((above + name, value))
    return found


def _value(leaves: Mapping[str, Any], key: str) -> Any:
    """A field by its dotted name: a leaf, or all that stands below; None where it is absent."""
    below = {name: value for name, value in leaves.items() if name.startswith(f"{key}.")}
    return leaves.get(key, below or None)


def _finished(run: RunConfig, folder: Path, earlier: Checkpoint) -> str:
    """How a run has ended for good, empty where it has something left to do."""
    result = _read(folder / RESULT) or {}
    reason = result.get("stop_reason")
    if reason == "max_steps" or not reason:
        over = earlier.step >= run.max_steps
    elif reason == "max_seconds":
        over = run.max_seconds is not None and earlier.seconds >= run.max_seconds
    elif reason == "target_error":
        error = result.get("relative_l2")
        over = run.target_error is not None and error is not None and error <= run.target_error
    else:
        over = reason not in RESUMABLE
    return f"{reason or 'max_steps'} after {earlier.step} steps" if over else ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


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


def open_folder(claim: Claim, run: RunConfig, source: Source, launch: Launch, plan: Any) -> Fence:
    """Make the folder, or take it over, and write down what the run is.

    Args:
        claim: the folder.
        run: what is run.
        source: where it came from.
        launch: how it was started.
        plan: lines that say how memory and traffic are arranged.

    Raises:
        ValueError: it cannot be made, or another run has claimed it meanwhile.
    """
    folder, fence = claim.folder, Fence(claim.folder)
    again = claim.replace or claim.earlier is not None
    content = {
        "fields": describe(run),
        "source": {
            "path": str(source.path),
            "sha256": digest(source.text),
            "flags": source.flags,
            "text": source.text,
        },
        "world_size": launch.size,
        "plan": plan,
        "versions": {
            "sngd": importlib.metadata.version("sngd"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    text = json.dumps(content, indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not again:
            with (folder / CONFIG).open("x") as stream:
                stream.write(text)
        fence.take_over(launch)
        if again:
            write_whole(folder / CONFIG, text)
            (folder / RESULT).unlink(missing_ok=True)  # it is not finished any more
    except FileExistsError:  # another run has claimed the folder meanwhile
        raise ValueError(check_folder(folder)) from None
    except OSError as error:
        raise ValueError(f"run_dir={str(folder)!r} cannot be made: {error.strerror}") from error
    return fence


@dataclass(frozen=True)
class Standing:
    """Where the run of a folder stands.

    Args:
        text: a line for people.
        finished: nothing is left to do.
        resumable: it was stopped and can go on.
    """

    text: str
    finished: bool = False
    resumable: bool = False

    @staticmethod
    def of(folder: Path) -> Standing:
        """That of a folder.

        Raises:
            ValueError: it holds no run.
        """
        if not (folder / CONFIG).is_file():
            raise ValueError(f"{str(folder)!r} holds no run ({CONFIG} is missing)")
        result = _read(folder / RESULT)
        if result is not None:
            reason = str(result.get("stop_reason"))
            resumable = reason in RESUMABLE
            text = f"{reason} after {result.get('steps')} steps"
            for name, key in (("loss", "loss"), ("relative L2 error", "relative_l2")):
                if finite(value := result.get(key)):
                    text += f", {name} {value:.3g}"
            return Standing(text, not resumable, resumable)
        if not Checkpoint.exists(folder):
            return Standing("no checkpoint yet: it runs, or was lost before the first one")
        return Standing(f"no result yet: it runs, or was lost after step {Checkpoint.load(folder).step}")
