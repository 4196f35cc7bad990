"""From a config to a run folder: one rank's way through a run."""

from __future__ import annotations

import contextlib
import os
import socket

import torch

from sngd.agreement import DivergedRanksError
from sngd.allocation import OutOfMemoryError
from sngd.audience import Audience
from sngd.breakdown import telling_how_to_go_on
from sngd.checkpoint import CheckpointError
from sngd.collectives import connect
from sngd.config import RunConfig
from sngd.device_errors import DeviceError
from sngd.devices import pick_device, pick_threads
from sngd.failures import LostRankError, RankFailedError
from sngd.folder import Claim, Source, claim_folder
from sngd.launcher import Launch, detect, job_deadline
from sngd.ranks import Ranks
from sngd.stopping import Stopping, end_with_parent
from sngd.training import Trained, train

__all__ = ["execute"]

# Launchers whose process of Python is the parent of the ranks.
_PARENTS = ("sngd", "torchrun", "deepspeed")


def execute(run: RunConfig, source: Source, *, quiet: bool = False, resume: bool = False) -> Trained | None:
    """Run a config in this process, one rank of however many the environment names.

    Args:
        run: what to do.
        source: where it came from.
        quiet: no progress on the console.
        resume: go on with the run in run_dir, if there is one.

    Returns:
        What the run leaves behind; None where it was finished before.

    Raises:
        ValueError: a mistake in config, problem or environment.
    """
    launch = detect(os.environ)
    if launch.launcher in _PARENTS:
        end_with_parent()
    device = pick_device(run.device, launch)
    pick_threads(run, device)
    ranks = connect(device, launch, run.timeout_seconds)
    try:
        trained = _train_followed(run, source, launch, ranks, device, quiet, resume)
        # rank 0 has checkpoint and pictures to write: launchers would end it when the first rank has ended
        ranks.broadcast(None)
    except Exception as error:
        _end_by(error, ranks)
        raise
    ranks.close()
    return trained


def _train_followed(
    run: RunConfig,
    source: Source,
    launch: Launch,
    ranks: Ranks,
    device: torch.device,
    quiet: bool,
    resume: bool,
) -> Trained | None:
    claim = claim_folder(run, ranks, launch, resume)
    if claim.finished:
        if ranks.rank == 0:
            print(f"{claim.folder} is finished: {claim.finished}; nothing is left to do")
        return None
    with telling_how_to_go_on(device, claim.folder):
        return _train_claimed(run, source, launch, ranks, device, quiet, claim)


def _train_claimed(
    run: RunConfig,
    source: Source,
    launch: Launch,
    ranks: Ranks,
    device: torch.device,
    quiet: bool,
    claim: Claim,
) -> Trained:
    if ranks.rank:
        return train(run, ranks, device, folder=claim.folder, earlier=claim.earlier, ended=claim.ended)
    audience = Audience(claim, run, source, launch, ranks.origin, device, quiet)
    deadline = launch.deadline or (job_deadline(launch.job) if launch.job else None)
    with contextlib.closing(audience):
        trained = train(
            run,
            ranks,
            device,
            hooks=[audience],
            folder=claim.folder,
            earlier=claim.earlier,
            stopping=Stopping(deadline, audience.lost),
            about=audience.about,
            ended=claim.ended,
        )
        audience.draw_pictures(trained)
    return trained


def _end_by(error: Exception, ranks: Ranks) -> None:
    """Tell the other ranks of an error; a mistake that all have met is told by those that catch it.

    Raises:
        RankFailedError: the error is no mistake of the user's, or this rank alone has met it.
    """
    if ranks.size == 1:
        ranks.close()
    if ranks.size == 1 or isinstance(error, LostRankError):
        return
    common = isinstance(error, (ValueError, DivergedRanksError))
    told = common or isinstance(error, (CheckpointError, DeviceError))
    text = str(error) if told else f"{type(error).__name__}: {error}"
    if not ranks.fail(text, common=common):
        if not isinstance(error, OutOfMemoryError):  # which names the rank by itself
            text = f"rank {ranks.rank} on {socket.gethostname()}: {text}"
        raise RankFailedError(text) from error
