"""Runs of two ranks that are killed at random moments and go on, until they end as if nothing had happened.

A kill hits rank 0, rank 1, the launcher or all of them, either at a moment drawn evenly over what is left of
the run, or (aimed) at a file operation of rank 0 in the run folder, drawn evenly, and up to 2 ms after it:
where checkpoints, history and config are written. After each kill the survivors must end by themselves, every
checkpoint that stands there must be whole, and the next start goes on. A run that has come to its end is held
against one that nobody disturbed: parameters and losses bit for bit, every step once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sngd.checkpoint import Checkpoint, Store
from tests.faults.starts import CONFIG, Forks, Start, runs, wait_until
from tests.histories import column, losses, steps

VICTIMS = ("rank 0", "rank 1", "launcher", "all")
_AIMED = 0.4  # share of kills that are aimed at file operations
_LATEST = 0.002  # seconds after a file operation


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    Args:
        victim: of VICTIMS.
        moment: where it hit.
        code: exit code of the launcher.
        told: last line that launcher and survivor said.
        seconds: until all of them had ended.
        steps: in the history afterwards.
        kept: step of the checkpoint afterwards, 0 for none.
    """

    victim: str
    moment: str
    code: int
    told: str
    seconds: float
    steps: int
    kept: int


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbs.

    Args:
        theta: that it ends with.
        losses: of all steps.
        seconds: that it took.
        began: seconds before its first step.
        operations: on files in the run folder, by rank 0.
    """

    theta: torch.Tensor
    losses: list[float]
    seconds: float
    began: float
    operations: int


def command(folder: Path) -> list[str]:
    """Of every start: it goes on, or begins where there is nothing yet."""
    return ["train", CONFIG, "--ranks", "2", "--quiet", "--resume", "--run-dir", str(folder)]


def undisturbed(forks: Forks, folder: Path) -> Undisturbed:
    """The run that the others are held against."""
    log = folder.with_name(f"{folder.name}.log")
    began = time.monotonic()
    code, said = forks.start(
        command(folder), faults={"folder": str(folder), "rank": 0, "log": str(log)}
    ).wait()
    assert (code, said) == (0, "")
    seconds, operations = time.monotonic() - began, len(log.read_text().splitlines())
    began = seconds - column(folder, "seconds")[-1]
    return Undisturbed(Checkpoint.load(folder).theta, losses(folder), seconds, began, operations)


def campaign(count: int, seed: int, above: Path, forks: Forks, reference: Undisturbed) -> dict[str, Any]:
    """Kill until `count` kills have hit, finish the last run; every run is checked.

    Args:
        count: kills.
        seed: of victims and moments.
        above: folder for the run folders.
        forks: starts them.
        reference: what they must end as.
    """
    draw = random.Random(seed)
    kills: list[Kill] = []
    ended, starts = 0, 0
    while len(kills) < count:
        folder = above / f"run{ended}"
        while True:
            starts += 1
            found = _killed(forks, folder, draw, reference, disturb=len(kills) < count)
            if found is None:
                break
            kills.append(found)
            print(json.dumps(asdict(found)), flush=True)
        check_end(folder, reference)
        ended += 1
    return {
        "kills": len(kills),
        "starts": starts,
        "runs": ended,
        "seed": seed,
        "by_victim": Counter(kill.victim for kill in kills),
        "during_checkpoints": sum("checkpoint" in kill.moment for kill in kills),
        "each": [asdict(kill) for kill in kills],
    }


def _killed(
    forks: Forks, folder: Path, draw: random.Random, reference: Undisturbed, disturb: bool
) -> Kill | None:
    """A start that is killed, and what is left of it checked; None where it came to its end."""
    kept = _kept(folder)
    left = 1 - kept / len(reference.losses)
    if not disturb:
        start, victim, moment = forks.start(command(folder)), "", ""
    elif draw.random() < _AIMED:
        number, delay = (
            draw.randint(1, max(12, int(left * reference.operations))),
            draw.uniform(-1, 1) * _LATEST,
        )
        log = folder.with_name("operations.log")
        log.unlink(missing_ok=True)
        faults = {"folder": str(folder), "rank": 0, "log": str(log)}
        start = forks.start(command(folder), faults=faults | {"kill_at": number, "delay": delay})
        wait_until(lambda: start.ranks() or start.ended(), "ranks are there")
        wait_until(start.ended, "it is killed, or ends")
        last = log.read_text().splitlines()[-1:] if log.exists() else []
        moment = (
            f"file operation {last[-1].replace(str(folder), 'RUN')}, +{max(0.0, delay):.4f} s" if last else ""
        )
        victim = "rank 0"
    else:
        seconds = draw.uniform(0, reference.began + left * (reference.seconds - reference.began))
        start, moment = forks.start(command(folder)), f"{seconds:.3f} s"
        victim = _kill_after(start, seconds, draw.choice(VICTIMS))
    began = time.monotonic()
    code, said = start.wait()
    if code == 0:
        return None
    assert victim, f"ended with {code} though nobody killed it: {said}"
    now = _kept(folder)
    assert now >= kept, f"the checkpoint of step {kept} is lost, {now} is left"
    if victim in VICTIMS[:2]:
        assert code == 128 + signal.SIGKILL, (code, said)
        assert f"error: {victim} ended with signal 9" in said, said
    told = [line for line in said.splitlines() if line.startswith("error: ")][-1:]
    done = (steps(folder) or [0])[-1]
    return Kill(victim, moment, code, "".join(told), round(time.monotonic() - began, 2), done, now)


def _kill_after(start: Start, seconds: float, victim: str) -> str:
    """SIGKILL to a victim, to the launcher where there are no ranks yet; whom it has hit before the end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not start.ended():
        start.ranks()
        time.sleep(0.002)
    ranks = start.ranks()
    if not ranks and victim != "all":
        victim = "launcher"
    targets = {"launcher": [start.pid], "all": [start.pid, *ranks]}
    hit = False
    for pid in targets.get(victim) or [ranks[VICTIMS.index(victim)]]:
        if runs(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                hit = True
    return victim if hit else ""


def _kept(folder: Path) -> int:
    """Step of the checkpoint to go on from; all that are there must be whole."""
    store = Store(folder)
    found = [store.read(one.path)["step"] for one in store.all()]
    return found[0] if found else 0


def check_end(folder: Path, reference: Undisturbed) -> None:
    """Hold a run against the undisturbed one.

    Raises:
        AssertionError: a parameter, a loss or a step differs.
    """
    assert torch.equal(Checkpoint.load(folder).theta, reference.theta)
    assert steps(folder) == list(range(1, len(reference.losses) + 1))
    assert losses(folder) == reference.losses
    assert json.loads((folder / "result.json").read_text())["stop_reason"] == "max_steps"
