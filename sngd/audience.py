"""Those who follow a run on rank 0: run folder, history, result, trackers, console, pictures."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sngd import plot
from sngd.checks import finite, told
from sngd.config import RunConfig, describe
from sngd.evaluate import time_axis
from sngd.fence import Fence, opening
from sngd.folder import Claim, Source, open_folder, unwritable, versions
from sngd.launcher import Launch
from sngd.machine import machine
from sngd.networks import AnyNetwork
from sngd.records import SPECTRUM
from sngd.report import REPORT, write_report
from sngd.standing import HISTORY, RESULT
from sngd.stopping import TOLD_TO_END
from sngd.tracking import (
    Console,
    HistoryFile,
    ResultFile,
    SystemFigures,
    Values,
    Writer,
    make_hooks,
    read_history,
    tracker_id,
)
from sngd.training import Trained

__all__ = ["PICTURES", "Audience", "draw"]

SPECTRA = "spectra.npz"


class Audience(Writer):
    """One hook for all of them. What they are told is completed here, once the run folder is made.

    Args:
        claim: the folder.
        run: what is run.
        source: where it came from.
        launch: how it was started.
        origin: the same in one line.
        device: of this rank.
        quiet: nothing on the console but warnings.

    Raises:
        ValueError: a tracker's package is missing.
    """

    def __init__(
        self,
        claim: Claim,
        run: RunConfig,
        source: Source,
        launch: Launch,
        origin: str,
        device: torch.device,
        quiet: bool,
    ) -> None:
        super().__init__()
        self.claim, self.run, self.source, self.launch, self.origin = claim, run, source, launch, origin
        self._figures, self._quiet, self._kind = SystemFigures(device), quiet, device.type
        self._fence: Fence | None = None
        self._history = HistoryFile(claim.folder / HISTORY)
        files = [self._history, ResultFile(claim.folder / RESULT)]
        trackers = make_hooks(run.tracking, claim.folder, (lambda line: None) if quiet else print)
        self._console = Console(quiet=quiet)
        self.keepers: list[Writer] = [*files, *trackers]
        self.hooks: list[Writer] = [*self.keepers, self._console]

    def lost(self) -> bool:
        """Whether another start has taken the folder over."""
        return self._fence is not None and self._fence.lost()

    def about(self) -> dict[str, Any]:
        """What a checkpoint says of the run."""
        fields = json.loads(json.dumps(describe(self.run)))
        return {"fields": fields, "versions": versions(), "tracker": tracker_id(self.claim.folder)}

    def start(self, info: Values) -> None:
        """Make the folder, now that the problem has proved sound.

        Raises:
            ValueError: it cannot be written to, or another run has claimed it meanwhile.
        """
        told = {**info, "launch": self.origin, "replace": self.claim.replace}
        try:
            with opening(self.claim.folder):
                started = {
                    "launch": self.origin,
                    "machine": {"host": socket.gethostname(), **machine(self._kind)},
                }
                self._fence = open_folder(
                    self.claim, self.run, self.source, self.launch, info["plan"], started
                )
                (self.claim.folder / REPORT).unlink(missing_ok=True)  # of an earlier end
                self._history.start(told)
        except OSError as error:
            raise ValueError(unwritable(self.claim.folder, error)) from error
        for hook in self.hooks:
            if hook is not self._history:
                hook.start(told)

    def step(self, record: Values) -> None:
        """Add the machine's figures; warnings are told even where nothing else is."""
        if self._quiet:
            for text in record.get("warnings") or ():
                print(f"warning: {text}", file=sys.stderr, flush=True)
        told = {**record, "system": self._figures.sample()}
        kept = {key: value for key, value in told.items() if key != SPECTRUM}
        for hook in self.keepers:
            hook.step(kept)
        self._console.step(told)

    def saved(self, path: Path, step: int) -> None:
        """Pass it on."""
        for hook in self.hooks:
            hook.saved(path, step)

    def end(self, result: Values) -> None:
        """Pass it on."""
        for hook in self.hooks:
            hook.end(result)

    def drawn(self, pictures: Sequence[Path]) -> None:
        """Pass it on."""
        for hook in self.hooks:
            hook.drawn(pictures)

    def close(self) -> None:
        """Pass it on."""
        for hook in self.hooks:
            hook.close()

    def draw_pictures(self, trained: Trained) -> None:
        """Pictures and report at the end of a run; what goes wrong with them does not undo the training.

        A run that was told to end has no time for them, and none that has lost its folder writes there.
        """
        reason, folder = trained.result["stop_reason"], self.claim.folder
        if reason == "superseded":
            return
        try:
            spectra: dict[str, Any] = {f"step_{step}": sigma.numpy() for step, sigma in trained.spectra}
            np.savez(folder / SPECTRA, **spectra)
            if reason in TOLD_TO_END or not self.run.pictures:
                return
            pictures = draw(self.run, trained.network, trained.theta, folder)
        except (OSError, ValueError) as error:
            print(f"warning: no pictures: {error}; `sngd plot {folder}` draws them again", file=sys.stderr)
            return
        self.drawn(pictures)
        try:
            write_report(folder, pictures)
        except Exception as error:  # whatever breaks here is worth less than the run
            why = " ".join(str(error).split()) or type(error).__name__
            print(f"warning: no {REPORT}: {why}; `sngd report {folder}` writes it", file=sys.stderr)


# The pictures of `sngd plot`, with the names of their files; the first four are drawn when a run ends.
PICTURES = {
    "fields": "solution",
    "convergence": "convergence",
    "spectrum": "spectrum",
    "coefficients": "coefficients",
    "slices": "slices",
    "time": "error_over_time",
    "points": "points",
}
_AT_THE_END = ("fields", "convergence", "spectrum", "coefficients")
# What of a record is drawn.
_NUMBERS = ("step", "seconds", "loss", "relative_l2", "damping", "rank", "effective_dimension", "sigma_k")
_POINTS = 2000  # collocation points of a condition that are drawn


def draw(
    run: RunConfig,
    network: AnyNetwork,
    theta: Tensor,
    folder: Path,
    what: Sequence[str] = _AT_THE_END,
    form: str = "png",
    dpi: int = 150,
    into: Path | None = None,
) -> list[Path]:
    """Pictures of a run folder, from its history, spectra and final parameters.

    Args:
        run: what was run.
        network: on the dtype and device of theta.
        theta: (P,) final parameters.
        folder: holds history and spectra.
        what: names of PICTURES; those that do not apply to the run are left out.
        form: "png" or "pdf".
        dpi: dots per inch.
        into: where the pictures go; the folder when absent.

    Returns:
        The files.

    Raises:
        ValueError: history or spectra are missing or damaged.
    """
    history, spectra = _records(folder)
    damping = next((r.get("damping") for r in reversed(history) if r.get("accepted")), None)
    problem, shown = run.problem, (run.problem, network, theta)
    timed = time_axis(problem.domain.names) is not None and problem.solution is not None
    drawers: dict[str, tuple[bool, Callable[[Path], Path]]] = {
        "fields": (True, lambda path: plot.plot_solution(*shown, path, dpi)),
        "convergence": (True, lambda path: plot.plot_convergence(history, path, dpi)),
        "spectrum": (bool(spectra), lambda path: plot.plot_spectrum(spectra, path, damping, dpi)),
        "coefficients": (
            any(record.get("coefficients") for record in history),
            lambda path: plot.plot_coefficients(history, path, _exact_coefficients(run), dpi),
        ),
        "slices": (problem.domain.dim > 1, lambda path: plot.plot_slices(*shown, path, dpi)),
        "time": (timed, lambda path: plot.plot_time(*shown, path, dpi)),
        "points": (True, lambda path: plot.plot_points(problem, _first_points(run), path, dpi)),
    }
    return [
        drawers[name][1]((into or folder) / f"{PICTURES[name]}.{form}")
        for name in PICTURES
        if name in what and drawers[name][0]
    ]


def _records(folder: Path) -> tuple[list[dict[str, Any]], list[tuple[int, np.ndarray]]]:
    """History and spectra of a run folder."""
    history_file, spectra_file = folder / HISTORY, folder / SPECTRA
    for path in (history_file, spectra_file):
        if not path.is_file():
            raise ValueError(f"{str(folder)!r} holds no finished run ({path.name} is missing)")
    history = read_history(history_file)
    for line, record in enumerate(history, start=1):
        _check_record(record, f"{str(history_file)!r}, line {line}")
    try:
        with np.load(spectra_file, allow_pickle=False) as stored:
            found = {int(name.removeprefix("step_")): stored[name] for name in stored.files}
        spectra = sorted(found.items(), key=lambda pair: pair[0])
    except Exception as error:  # damaged files fail in any way
        raise ValueError(f"{str(spectra_file)!r} is damaged ({type(error).__name__})") from error
    for _, sigma in spectra:
        if sigma.dtype.kind != "f":
            raise ValueError(f"{str(spectra_file)!r} is damaged: it holds {sigma.dtype}")
    return history, spectra


def _check_record(record: dict[str, Any], where: str) -> None:
    """Refuse a record in which numbers are none.

    Raises:
        ValueError: one is.
    """
    for key in _NUMBERS:
        _check_number(record.get(key), f"{where}: {key}")
    for key in ("losses", "coefficients"):
        values = record.get(key) or {}
        if not isinstance(values, dict):
            raise ValueError(f"{where}: {key}={told(values)} must hold numbers by name")
        for name, value in values.items():
            _check_number(value, f"{where}: {key}[{name!r}]")


def _check_number(value: Any, what: str) -> None:
    if not (value is None or finite(value)):
        raise ValueError(f"{what}={told(value)} must be a number")


def _exact_coefficients(run: RunConfig) -> dict[str, float]:
    """True values of the unknown coefficients where the problem tells them."""
    return {n: float(c.exact) for n, c in run.problem.unknowns.items() if c.exact is not None}


def _first_points(run: RunConfig) -> dict[str, np.ndarray]:
    """Some of the collocation points that the run began with, by condition."""
    drawn = {}
    for number, condition in enumerate(run.problem.conditions):
        key, count = (run.seed, 0, number), min(condition.points, _POINTS)
        x = condition.region.sample(0, count, key, condition.sampling, total=condition.points)
        drawn[condition.name] = x.numpy()
    return drawn
