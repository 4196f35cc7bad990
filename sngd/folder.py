"""The run folder: who may use it, what it says a run is, whether the run in it can go on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from sngd.checkpoint import Checkpoint
from sngd.config import RunConfig, describe, digest
from sngd.differences import differences
from sngd.fence import OWNER, Fence
from sngd.launcher import Launch
from sngd.standing import CONFIG, HISTORY, RESULT, read
from sngd.stopping import RESUMABLE
from sngd.tracking import write_whole
from sngd.version import commit, version

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = [
    "Claim",
    "Source",
    "check_folder",
    "claim_folder",
    "open_folder",
    "unwritable",
    "versions",
]

# Fields that a run may change when it goes on: none but the precision has a part in what a step computes.
_FREE = {
    *("max_steps", "max_seconds", "target_error", "evaluate_every", "evaluate_points"),
    *("device", "precision", "memory_gb", "timeout_seconds", "pictures", "tracking", "run_dir"),
    *("checkpoint_seconds", "keep_checkpoints", "check_every", "holdout_every", "holdout_points"),
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
        ended: the same of a run that was lost after its last checkpoint, before it could write its result.
    """

    folder: Path
    earlier: Checkpoint | None = None
    replace: bool = False
    finished: str = ""
    ended: str = ""


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
    if not folder.is_dir() or _is_empty(folder):
        if taken := check_folder(folder):
            raise ValueError(taken)
        return Claim(folder)
    _check_fit(run, folder)
    if not Checkpoint.exists(folder):
        return Claim(folder, replace=True)
    earlier = Checkpoint.load(folder)
    _refuse_differences(run, folder, "checkpoint", earlier.about.get("fields", {}))
    reason, told = _end(run, folder, earlier)
    if told:
        return Claim(folder, earlier, finished=f"{reason} after {earlier.step} steps")
    return Claim(folder, earlier, ended=reason)


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
    if folder is not None and folder.exists() and not (folder.is_dir() and _is_empty(folder)):
        hint = "go on with the run in it by --resume, " if Checkpoint.exists(folder) else ""
        return f"run_dir={str(folder)!r} exists; nothing is overwritten: {hint}name another or remove it"
    if folder is not None:
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            return (
                f"run_dir={str(folder)!r} cannot be made: {str(above)!r} is no folder that can be written to"
            )
    return None


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in it but what starts have left aside that were killed before they claimed it."""
    return all(path.name.startswith(f".{CONFIG}.") for path in folder.iterdir())


def _check_fit(run: RunConfig, folder: Path) -> None:
    """Refuse to go on with a run that is not this one.

    Raises:
        ValueError: config.json is missing or damaged, or fields differ that a step depends on.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"run_dir={str(folder)!r} holds no run ({CONFIG} is missing): name another folder")
    try:
        saved = dict(json.loads(path.read_text())["fields"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read ({type(error).__name__}): it is damaged") from error
    _refuse_differences(run, folder, "run", saved)


def _refuse_differences(run: RunConfig, folder: Path, what: str, saved: Mapping[str, Any]) -> None:
    """Refuse to go on from what was written with other fields.

    Raises:
        ValueError: fields differ that a step depends on; it lists them.
    """
    if saved and (found := differences(saved, run, _FREE)):
        raise ValueError(
            f"the {what} in {str(folder)!r} is another one and cannot go on with this config: "
            f"{'; '.join(found)}; name another run_dir"
        )


def _end(run: RunConfig, folder: Path, earlier: Checkpoint) -> tuple[str, bool]:
    """How a run has ended for good, empty where it has something left to do; whether its result says so."""
    result = read(folder / RESULT)
    reason = (result or {}).get("stop_reason") or earlier.reason or "max_steps"
    if reason == "max_steps":
        over = earlier.step >= run.max_steps
    elif reason == "max_seconds":
        over = run.max_seconds is not None and earlier.seconds >= run.max_seconds
    elif reason == "target_error" and result is not None:
        error = result.get("relative_l2")
        over = run.target_error is not None and error is not None and error <= run.target_error
    elif reason == "target_error":
        before = earlier.about.get("fields", {}).get("target_error")
        over = None not in (run.target_error, before) and run.target_error >= before
    else:
        over = reason not in RESUMABLE
    return (reason, result is not None) if over else ("", False)


def open_folder(
    claim: Claim,
    run: RunConfig,
    source: Source,
    launch: Launch,
    plan: Any,
    started: Mapping[str, Any] = MappingProxyType({}),
) -> Fence:
    """Take a folder over, within `opening`, and write down what the run is.

    Args:
        claim: the folder.
        run: what is run.
        source: where it came from.
        launch: how it was started.
        plan: lines that say how memory and traffic are arranged.
        started: launch and machine, as they are to be told.

    Raises:
        ValueError: it cannot be written to, or another run has claimed it meanwhile.
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
        **started,
        "versions": versions(),
    }
    text = json.dumps(content, indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not again:
            write_whole(folder / CONFIG, text, new=True)
        fence.take_over(launch)
        for name in (CONFIG, HISTORY, RESULT, OWNER):  # left aside by a start that was killed
            for path in folder.glob(f".{name}.*"):
                path.unlink(missing_ok=True)
        if again:
            write_whole(folder / CONFIG, text)
            (folder / RESULT).unlink(missing_ok=True)  # it is not finished any more
    except (FileExistsError, FileNotFoundError) as error:  # another run has claimed the folder meanwhile
        raise ValueError(check_folder(folder) or unwritable(folder, error)) from None
    except OSError as error:
        raise ValueError(unwritable(folder, error)) from error
    return fence


def unwritable(folder: Path, error: OSError) -> str:
    """What to tell of a folder that cannot be written to."""
    return (
        f"run_dir={str(folder)!r} cannot be written to ({error.strerror}): free space, mend "
        "its permissions, or name another folder"
    )


def versions() -> dict[str, str | None]:
    """Of what a run depends on; `commit` is that of a checkout."""
    return {
        "sngd": version(),
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
