"""Weights & Biases: config, history, summary, pictures and checkpoints of a run."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sngd.tracking.background import BackgroundWriter
from sngd.tracking.base import Values, flat, plain
from sngd.tracking.config import Mode, Tracking
from sngd.tracking.files import read_history, write_whole

__all__ = ["WeightsAndBiases"]

IDENTITY = "wandb_run.json"
_DEFAULT_PROJECT = "sngd"
_INIT_SECONDS, _FINISH_SECONDS = (
    15.0,
    25.0,
)  # that wandb may take; the thread that waits for it is not training's
_GOES_ON = ("terminated", "time_limit")  # ends of a process after which another goes on with the run
_FIGURES = ("name", "parameters", "points", "world_size", "device", "dtype", "optimizer", "launch", "run_dir")
_PACKAGES = ("sngd", "torch", "numpy", "wandb")


class WeightsAndBiases(BackgroundWriter):
    """A run of W&B that follows ours. All talking is done in the background; training never waits for it.

    One run stays one run: its id is kept in the run folder, and whoever goes on from a checkpoint takes it
    up. Row n of W&B's history is step n, each there once:

    - online, the run is resumed. A process that was killed took records with it that W&B had not sent: those
      that the server lacks are taken from history.jsonl. Those that it has beyond the checkpoint are not sent
      again; the steps that are taken again are the same.
    - offline, W&B writes a new folder ("segment") for each process, with the same id. `wandb sync` uploads
      segments of one id in the order of their starts, each from row 0 on: it resumes nothing, so its offset
      into the history is 0 (core/internal/runsync, runupserter and filestream of wandb 0.31), and a later
      segment overwrites the rows of an earlier one. Hence each segment holds every step from 1 on, the
      earlier ones from history.jsonl, and the last segment by itself is the run.

    Without a key or a server the run is written offline after one warning, for `wandb sync`. The key itself
    is wandb's business: wandb reads it from WANDB_API_KEY or ~/.netrc, and it is written nowhere.

    Inside of a sweep's agent (WANDB_SWEEP_ID) the run is the one that the sweep has made: id, project and
    entity are the agent's.

    Args:
        tracking: what to call it, and whether to keep checkpoints.
        folder: run folder.
        mode: "online" or "offline".
        say: told one line: where the run is to be seen, or how it is uploaded.

    Raises:
        ValueError: the package is missing.
    """

    def __init__(
        self, tracking: Tracking, folder: Path, mode: Mode, say: Callable[[str], None] = print
    ) -> None:
        super().__init__("Weights & Biases")
        try:
            import wandb  # now: half a second that would otherwise disturb the first steps
        except ImportError as error:
            raise ValueError(
                f"tracking.wandb={mode} needs a package ({error}): pip install 'sngd[wandb]', "
                "or --tracking.wandb disabled"
            ) from error
        self._wandb, self._tracking, self._folder, self._mode, self._say = wandb, tracking, folder, mode, say
        self._run: Any = None
        self._first = self._last = 0  # row that W&B wants next when the run opens; last row written
        self._result: dict[str, Any] | None = None  # until `end` tells it
        self._snapshots = 0

    def start(self, info: Values) -> None:
        """Open the run, in the background."""
        config = _config(info)
        resumed = int(info.get("resumed") or 0)
        self._later(lambda: self._open(config, resumed))

    def step(self, record: Values) -> None:
        """Hand a record over."""
        self._later(lambda: self._write(record))

    def saved(self, path: Path, step: int) -> None:
        """Keep a checkpoint as an artifact, if it is wanted."""
        if self._tracking.artifacts and not self._failed:
            self._attempt(lambda: self._keep(path, step), self._what)

    def end(self, result: Values) -> None:
        """Keep the result for the summary, which is written last: every row of the history adds to it."""
        self._result = flat(plain(result))

    def drawn(self, pictures: Sequence[Path]) -> None:
        """The pictures, in the row of the last step."""
        self._later(lambda: self._draw(list(pictures)))

    # In the background

    def _open(self, config: dict[str, Any], resumed: int) -> None:
        wandb = self._wandb
        wandb.setup(wandb.Settings(silent=True))  # or it would ask for a key on the terminal
        identity = self._identity()
        try:
            self._run = self._init(config, identity, self._mode)
        except Exception as error:
            if self._mode != "online":
                raise
            self._mode = "offline"
            logging.getLogger(__name__).warning(
                "%s: %s; the run is written offline, for `wandb sync`", self._what, _first_line(error)
            )
            wandb.teardown()  # its service still holds the id
            wandb.setup(wandb.Settings(silent=True))
            self._run = self._init(config, identity, self._mode)
        if self._mode == "online":
            self._first = self._run.step
            self._tell(f"{self._what}: {self._run.url}")
        else:
            self._tell(f"{self._what}: offline, to be uploaded by `wandb sync {self._place()}`")
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        if resumed:
            for record in read_history(self._folder / "history.jsonl"):
                if record["step"] <= resumed:
                    self._write(record)

    def _identity(self) -> str | None:
        """The run's id of before, or one that will be its id from now on; None where a sweep has given it."""
        if os.environ.get("WANDB_SWEEP_ID"):
            return None
        path = self._folder / IDENTITY
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(path.read_text())["id"])
        identity = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
        write_whole(path, json.dumps({"id": identity}) + "\n")
        return identity

    def _init(self, config: dict[str, Any], identity: str | None, mode: Mode) -> Any:
        wandb, tracking = self._wandb, self._tracking
        settings: dict[str, Any] = {
            "mode": mode,
            "root_dir": str(self._folder.absolute()),
            "run_group": tracking.group,
            "run_name": tracking.name or self._folder.absolute().name,
            "run_notes": tracking.notes,
            "run_tags": tracking.tags or None,
            "run_job_type": "train",
            "resume": "allow" if mode == "online" else None,
            "console": "off",
            "silent": True,
            "disable_code": True,
            "init_timeout": _INIT_SECONDS,
            "login_timeout": _INIT_SECONDS,
            "finish_timeout": _FINISH_SECONDS,
            "reinit": "create_new",  # whoever else has a run in this process keeps it
        }
        if identity is not None:
            project = tracking.project or os.environ.get("WANDB_PROJECT") or _DEFAULT_PROJECT
            settings |= {"run_id": identity, "project": project, "entity": tracking.entity}
        given = {name: value for name, value in settings.items() if value is not None}
        return wandb.init(config=config, settings=wandb.Settings(**given))

    def _write(self, record: Values) -> None:
        step = int(record["step"])
        if step >= self._first:  # W&B has what is below
            self._run.log(flat(record), step=step)
        self._last = max(step, self._first, self._last)

    def _draw(self, pictures: list[Path]) -> None:
        images = {f"pictures/{path.stem}": self._wandb.Image(str(path)) for path in pictures}
        self._run.log(images, step=self._last)

    def _keep(self, path: Path, step: int) -> None:
        """A checkpoint as it is now: the next one will replace the file, perhaps before it is read."""
        self._snapshots += 1
        kept = path
        if path.is_file():
            kept = self._folder / f".{path.name}.{os.getpid()}.{self._snapshots}"
            try:
                os.link(path, kept)
            except OSError:  # no links here
                shutil.copyfile(path, kept)
        self._later(lambda: self._send(path, kept, step))

    def _send(self, path: Path, kept: Path, step: int) -> None:
        try:
            artifact = self._wandb.Artifact(f"checkpoint-{self._run.id}", "model", metadata={"step": step})
            if kept.is_dir():
                artifact.add_dir(str(kept))
            else:
                artifact.add_file(str(kept), name=path.name, skip_cache=True)
            self._run.log_artifact(artifact, aliases=["latest", f"step-{step}"])
        finally:
            if kept != path:
                kept.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._run is None:
            return
        result = self._result or {}
        self._run.log({}, commit=True)  # the last row
        self._run.summary.update(result)
        if result.get("stop_reason") in _GOES_ON:
            self._run.mark_preempting()
        self._run.finish(exit_code=1 if self._result is None else 0)

    def _release(self) -> None:
        for kept in self._folder.glob(f".*.{os.getpid()}.*"):
            kept.unlink(missing_ok=True)
        if self._run is not None:
            self._run.finish(exit_code=1)

    def _place(self) -> Path:
        """The folder that `wandb sync` is to be told, from where the user stands."""
        place = Path(self._run.dir).parent  # its files/ is what wandb calls its dir
        with contextlib.suppress(ValueError):
            return place.relative_to(Path.cwd())
        return place

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens
            self._say(line)


def _config(info: Values) -> dict[str, Any]:
    """The config's fields as they are, and under "launch" what came of them here."""
    launch = {name: info.get(name) for name in _FIGURES if info.get(name) is not None}
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    fields = info.get("fields")
    return plain(
        {**(fields if isinstance(fields, Mapping) else {}), "launch": launch | {"versions": versions}}
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
