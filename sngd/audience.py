"""Those who follow a run on rank 0: run folder, history, result, trackers, console, pictures."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sngd import plot
from sngd.config import RunConfig
from sngd.folder import HISTORY, RESULT, Claim, Fence, Source, open_folder
from sngd.launcher import Launch
from sngd.networks import AnyNetwork
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
)
from sngd.train import Trained

__all__ = ["Audience", "draw"]

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
        quiet: nothing on the console.

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
        self._figures = SystemFigures(device)
        self._fence: Fence | None = None
        files = [HistoryFile(claim.folder / HISTORY), ResultFile(claim.folder / RESULT)]
        trackers = make_hooks(run.tracking, claim.folder, (lambda line: None) if quiet else print)
        self.hooks: list[Writer] = [*files, *trackers, Console(quiet=quiet)]

    def lost(self) -> bool:
        """Whether another start has taken the folder over."""
        return self._fence is not None and self._fence.lost()

    def start(self, info: Values) -> None:
        """Make the folder, now that the problem has proved sound."""
        self._fence = open_folder(self.claim, self.run, self.source, self.launch, info["plan"])
        told = {**info, "launch": self.origin, "replace": self.claim.replace}
        for hook in self.hooks:
            hook.start(told)

    def step(self, record: Values) -> None:
        """Add the machine's figures."""
        told = {**record, "system": self._figures.sample()}
        for hook in self.hooks:
            hook.step(told)

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
        """The pictures at the end of a run; what goes wrong with them does not undo the training.

        A run that was told to end has no time for them, and none that has lost its folder writes there.
        """
        reason, folder = trained.result["stop_reason"], self.claim.folder
        if reason == "superseded":
            return
        try:
            spectra: dict[str, Any] = {f"step_{step}": sigma.numpy() for step, sigma in trained.spectra}
            np.savez(folder / SPECTRA, **spectra)
            if reason in TOLD_TO_END:
                return
            pictures = draw(self.run, trained.network, trained.theta, folder)
        except (OSError, ValueError) as error:
            print(f"warning: no pictures: {error}; `sngd plot {folder}` draws them again", file=sys.stderr)
            return
        self.drawn(pictures)


def draw(run: RunConfig, network: AnyNetwork, theta: Tensor, folder: Path) -> list[Path]:
    """The three pictures of a run folder, from its history, spectra and final parameters.

    Raises:
        ValueError: history or spectra are missing or damaged.
    """
    history_file, spectra_file = folder / HISTORY, folder / SPECTRA
    for path in (history_file, spectra_file):
        if not path.is_file():
            raise ValueError(f"{str(folder)!r} holds no finished run ({path.name} is missing)")
    history = read_history(history_file)
    try:
        with np.load(spectra_file) as stored:
            spectra = sorted((int(name.removeprefix("step_")), stored[name]) for name in stored.files)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(spectra_file)!r} is damaged ({type(error).__name__})") from error
    damping = next((r["damping"] for r in reversed(history) if r["accepted"]), None)
    pictures = [
        plot.plot_solution(run.problem, network, theta, folder / "solution.png"),
        plot.plot_convergence(history, folder / "convergence.png"),
    ]
    if spectra:
        pictures.append(plot.plot_spectrum(spectra, folder / "spectrum.png", damping))
    return pictures
