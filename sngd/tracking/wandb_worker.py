"""The process that talks to Weights & Biases: one JSON object a line on standard input says what.

It is started as a file, so that it imports neither torch nor sngd, and takes processor time only where nobody
else wants it. On standard output it answers {"say": …}, {"warn": …} or, when it gives up, {"fail": …}.

    {"do": "open", "settings": …, "config": …, "folder": …, "resumed": …}     first of all
    {"do": "step", "record": …}    {"do": "pictures", "paths": …}    {"do": "checkpoint", …}
    {"do": "end", "result": …}     unless the run was cut off
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["IDENTITY", "Session", "flat", "main", "remove_path"]

IDENTITY = "wandb_run.json"
_INIT_SECONDS, _FINISH_SECONDS = 15.0, 25.0
_LOCK_SECONDS = 30.0  # a process before this one may still be sending what it has
_GOES_ON = ("terminated", "time_limit")  # ends of a process after which another goes on with the run
_TO_BE_RESUMED = 75  # EX_TEMPFAIL; after mark_preempting W&B calls a run preempted if it ends with an error


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names like "losses/walls"; what is None or empty is left out."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}/")
        elif value is not None:
            found[f"{prefix}{key}"] = value
    return found


def remove_path(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class Session:
    """One process's part of a run of W&B.

    Args:
        wandb: the module.
        folder: run folder.
        resumed: last step of the checkpoint that the run goes on from.
    """

    def __init__(self, wandb: Any, folder: Path, resumed: int) -> None:
        self._wandb, self._folder, self._resumed = wandb, folder, resumed
        self._run: Any = None
        self._first = 0  # row that W&B wants next when the run opens
        self._last = 0  # row that is open
        self._sent = -1  # last row that W&B has or will have
        self._artifacts = True  # until one fails
        self._result: dict[str, Any] | None = None  # until the end
        self._online = False

    def open(self, settings: dict[str, Any], config: dict[str, Any]) -> None:
        """Make the run or take it up, offline if there is no other way; write the steps before."""
        wandb = self._wandb
        wandb.setup(wandb.Settings(silent=True))  # or it would ask for a key on the terminal
        if not _swept():
            settings = settings | {"run_id": self._identity()["id"]}
        else:
            settings = {k: v for k, v in settings.items() if k not in ("project", "entity")}
        try:
            self._run = self._init(settings, config)
        except Exception as error:
            if settings["mode"] != "online":
                raise
            _answer("warn", f"{_first_line(error)}; the run is written offline, for `wandb sync`")
            settings["mode"] = "offline"
            wandb.teardown()  # its service still holds the id
            wandb.setup(wandb.Settings(silent=True))
            self._run = self._init(settings, config)
        self._online = settings["mode"] == "online"
        if self._online:
            self._first = self._run.step
            _answer("say", str(self._run.url))
        else:  # its files/ is what wandb calls its dir
            self._first = 0 if _swept() else self._identity().get("sent", -1) + 1
            _answer("say", f"offline, to be uploaded by `wandb sync {Path(self._run.dir).parent}`")
        self._sent = self._first - 1
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        for record in _history(self._folder / "history.jsonl", self._resumed):
            self.step(record)
        if not self._online:
            self._supersede()

    def step(self, record: Mapping[str, Any]) -> None:
        """One row of the history, unless W&B has it."""
        step = int(record["step"])
        if step >= self._first:
            self._run.log(flat(record), step=step)
            self._sent = step
        self._last = max(step, self._first, self._last)

    def pictures(self, paths: list[str]) -> None:
        """Pictures, in the row of the last step."""
        images = {f"pictures/{Path(path).stem}": self._wandb.Image(path) for path in paths}
        self._run.log(images, step=self._last)

    def checkpoint(self, path: str, name: str, step: int, remove: bool) -> None:
        """A file or folder as an artifact; a file may be ours to remove. One that fails is the last."""
        try:
            if not self._artifacts:
                return
            artifact = self._wandb.Artifact(f"checkpoint-{self._run.id}", "model", metadata={"step": step})
            if os.path.isdir(path):
                artifact.add_dir(path)
            else:
                artifact.add_file(path, name=name, skip_cache=True)
            self._run.log_artifact(artifact, aliases=["latest", f"step-{step}"])
        except Exception as error:
            self._artifacts = False
            _answer("warn", f"{_first_line(error)}; no more checkpoints are kept there")
        finally:
            if remove:
                remove_path(Path(path))

    def end(self, result: dict[str, Any]) -> None:
        """Keep the result for the summary, which is written last: every row of the history adds to it."""
        self._result = result

    def close(self) -> None:
        """Write the last row and the summary; wait for W&B to be done. A run without a result has failed."""
        if self._run is None:
            return
        result, code = self._result or {}, 1 if self._result is None else 0
        self._run.log({}, commit=True)
        self._run.summary.update(flat(result))
        if result.get("stop_reason") in _GOES_ON:
            self._run.mark_preempting()
            code = _TO_BE_RESUMED
        self._run.finish(exit_code=code)
        if self._online and not _swept():
            self._keep(self._identity() | {"sent": self._sent})

    def _identity(self) -> dict[str, Any]:
        """The run's id of before, or one that is its id from now on; "sent": the server's last row."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads((self._folder / IDENTITY).read_text())
            return found | {"id": str(found["id"])}
        return self._keep({"id": os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)})

    def _keep(self, identity: dict[str, Any]) -> dict[str, Any]:
        path = self._folder / IDENTITY
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(identity) + "\n")
        os.replace(aside, path)
        return identity

    def _supersede(self) -> None:
        """Mark the segments before this one as done: it holds what they hold."""
        own = Path(self._run.dir).parent
        for file in self._folder.glob(f"wandb/offline-run-*/run-{self._run.id}.wandb"):
            marker = file.with_name(file.name + ".synced")
            if file.parent.name != own.name and not file.parent.is_symlink() and not marker.exists():
                marker.write_text(f"superseded by {own.name}\n")

    def _init(self, settings: dict[str, Any], config: dict[str, Any]) -> Any:
        more = {
            "resume": "allow" if settings["mode"] == "online" else None,
            "root_dir": str(self._folder),
            "run_job_type": "train",
            "console": "off",
            "silent": True,
            "disable_code": True,
            "init_timeout": _INIT_SECONDS,
            "login_timeout": _INIT_SECONDS,
            "finish_timeout": _FINISH_SECONDS,
            "x_stats_pid": os.getppid(),
        }
        given = {name: value for name, value in (settings | more).items() if value is not None}
        return self._wandb.init(config=config, settings=self._wandb.Settings(**given))


def _swept() -> bool:
    """Whether a sweep's agent has started and named the run."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def _history(path: Path, last: int) -> Iterator[dict[str, Any]]:
    """The records of a history file up to a step; training appends later ones meanwhile."""
    if last:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                yield record
                if record["step"] >= last:
                    return


def _answer(kind: str, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody is there any more
        print(json.dumps({kind: text}), flush=True)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def _stand_back() -> None:
    """Take processor time that nobody else wants; let signals be the training process's business."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # no Linux
        with contextlib.suppress(AttributeError, OSError):
            os.nice(19)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for a process that still talks for this run folder, but not for ever."""
    import fcntl

    with open(folder / ".wandb_lock", "w") as file:
        until = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < until:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:  # a file system without locks
                break
        yield


def _serve(lines: Iterator[dict[str, Any]]) -> None:
    import wandb

    opened = next(lines, None)
    if opened is None:
        return
    folder = Path(opened["folder"])
    with _alone(folder):
        session = Session(wandb, folder, opened["resumed"])
        session.open(opened["settings"], opened["config"])
        actions: dict[str, Callable[..., None]] = {
            "step": session.step,
            "pictures": session.pictures,
            "end": session.end,
        }
        try:
            for line in lines:
                match line.pop("do"):
                    case "checkpoint":
                        session.checkpoint(**line)
                    case what:
                        actions[what](*line.values())
        finally:
            session.close()


def main() -> int:
    """Serve standard input until it ends; 1 when it had to give up."""
    _stand_back()
    try:
        _serve(json.loads(line) for line in sys.stdin)
    except Exception as error:
        _answer("fail", _first_line(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
