"""Weights & Biases: config, history, summary, pictures and checkpoints of a run."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sngd.tracking import wandb_worker
from sngd.tracking.background import BackgroundWriter
from sngd.tracking.base import Values, plain
from sngd.tracking.config import Mode, Tracking
from sngd.tracking.wandb_worker import IDENTITY, remove_path

__all__ = ["WeightsAndBiases", "tracker_id"]

_DEFAULT_PROJECT = "sngd"
_LAST_WORDS_SECONDS = 2.0
_FIGURES = ("name", "parameters", "points", "world_size", "device", "dtype", "optimizer", "launch", "run_dir")
_PACKAGES = ("sngd", "torch", "numpy", "wandb")


class WeightsAndBiases(BackgroundWriter):
    """A run of W&B that follows ours. A process of its own talks to wandb; training never waits for it.

    Packing a record for wandb takes 0.4 to 0.9 ms of Python, 1 to 4 % of a short step, during which training
    would wait for the interpreter. So a thread hands records on, in batches, to `wandb_worker`, which runs at
    idle priority. It ends by itself: when the run ends, or when the process that trains is gone, having sent
    what it has.

    One run stays one run: its id is kept in the run folder, and whoever goes on from a checkpoint takes it
    up. Row n of W&B's history is step n, each there once:

    - online, the run is resumed. A process that was killed took records with it that W&B had not sent: those
      that the server lacks are taken from history.jsonl. Those that it has beyond the checkpoint are not sent
      again; the steps that are taken again are the same.
    - offline, W&B writes a new folder ("segment") for each process, with the same id. `wandb sync` uploads
      the segments of one id in the order of their starts and appends each to the rows that the server has,
      whatever their steps (core/internal/runsync, runupserter of wandb 0.31). Hence each segment holds every
      step from 1 on, the earlier ones from history.jsonl, and those before it are marked as done
      (.wandb.synced, which `wandb sync` skips): the last segment by itself is the run. What an online process
      is known to have sent before is left out. Who synchronises a run that has not ended, and goes on
      offline, has rows twice.

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
        found = importlib.util.find_spec("wandb")
        if found is None or found.origin is None:  # without an origin: a folder wandb/ that runs have left
            raise ValueError(
                f"tracking.wandb={mode} needs a package: pip install 'sngd[wandb]', "
                "or --tracking.wandb disabled"
            )
        self._tracking, self._folder, self._mode, self._say = tracking, folder.absolute(), mode, say
        self._worker: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self._snapshots = 0

    def start(self, info: Values) -> None:
        """Open the run."""
        tracking = self._tracking
        settings = {
            "mode": self._mode,
            "project": tracking.project or os.environ.get("WANDB_PROJECT") or _DEFAULT_PROJECT,
            "entity": tracking.entity,
            "run_group": tracking.group,
            "run_name": tracking.name or self._folder.name,
            "run_notes": tracking.notes,
            "run_tags": list(tracking.tags) or None,
        }
        opening = {
            "settings": settings,
            "config": _config(info),
            "folder": str(self._folder),
            "resumed": int(info.get("resumed") or 0),
        }
        self._later(lambda: self._open(opening))

    def step(self, record: Values) -> None:
        """Hand a record over."""
        self._later(lambda: self._send("step", record=record))

    def saved(self, path: Path, step: int) -> None:
        """Keep a checkpoint as an artifact, if it is wanted."""
        if self._tracking.artifacts and not self._failed:
            self._attempt(lambda: self._keep(path, step), self._what)

    def end(self, result: Values) -> None:
        """The result becomes the summary."""
        self._later(lambda: self._send("end", result=result))

    def drawn(self, pictures: Sequence[Path]) -> None:
        """The pictures, in the row of the last step."""
        paths = [str(path.absolute()) for path in pictures]
        self._later(lambda: self._send("pictures", paths=paths))

    def _keep(self, path: Path, step: int) -> None:
        """A checkpoint as it is now: it may be removed before it is read."""
        self._snapshots += 1
        kept = self._folder / f".wandb_{path.name}.{os.getpid()}.{self._snapshots}"
        if path.is_dir():
            shutil.copytree(path, kept, copy_function=_linked)
        else:
            _linked(path, kept)
        told = {"path": str(kept.absolute()), "name": path.name, "step": step, "remove": True}
        self._later(lambda: self._send("checkpoint", **told))

    # In the background

    def _open(self, opening: dict[str, Any]) -> None:
        self._worker = subprocess.Popen(
            [sys.executable, "-P", wandb_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for the process that trains
        )
        assert self._worker.stdout is not None
        self._listener = threading.Thread(
            target=self._listen, args=(self._worker.stdout,), name=f"{self._what}, answers", daemon=True
        )
        self._listener.start()
        self._send("open", **opening)

    def _send(self, what: str, **told: Any) -> None:
        assert self._worker is not None
        assert self._worker.stdin is not None
        with self._last_words():
            self._worker.stdin.write(json.dumps({"do": what, **plain(told)}, allow_nan=False) + "\n")

    def _flush(self) -> None:
        if self._worker is not None and self._worker.stdin is not None and not self._worker.stdin.closed:
            with self._last_words():
                self._worker.stdin.flush()

    @contextlib.contextmanager
    def _last_words(self) -> Iterator[None]:
        """Where the worker is gone, hear first why: that is the warning, not a broken pipe."""
        try:
            yield
        except OSError:
            if self._listener is not None:
                self._listener.join(_LAST_WORDS_SECONDS)
            raise

    def _listen(self, answers: IO[str]) -> None:
        for line in answers:
            ((kind, text),) = json.loads(line).items()
            if kind == "say":
                with contextlib.suppress(OSError, ValueError):  # nobody listens
                    self._say(f"{self._what}: {text}")
            elif kind == "warn":
                logging.getLogger(__name__).warning("%s: %s", self._what, text)
            else:
                self._give_up(RuntimeError(text))

    def _finish(self) -> None:
        if self._worker is not None and self._worker.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it is gone, and has been heard
                self._worker.stdin.close()
            self._worker.wait()
        if self._listener is not None:
            self._listener.join()
        if self._worker is not None and self._worker.returncode and not self._failed:
            raise RuntimeError(f"its process ended with exit code {self._worker.returncode}")

    def _release(self) -> None:
        for kept in self._folder.glob(f".wandb_*.{os.getpid()}.*"):
            remove_path(kept)
        self._finish()


def _linked(source: str | Path, target: str | Path) -> None:
    """A second name of a file, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def tracker_id(folder: Path) -> str | None:
    """W&B's id of the run in a folder; None where it has none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((folder / IDENTITY).read_text())["id"])
    return None


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
