"""From a config to a run folder: ranks, device, hooks, pictures."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sngd import plot
from sngd.collectives import connect, host_rendezvous
from sngd.config import RunConfig
from sngd.folder import HISTORY, RESULT, Claim, Fence, Source, claim_folder, open_folder
from sngd.launcher import Launch, detect, job_deadline
from sngd.networks import Network
from sngd.stopping import Stopping
from sngd.tracking import Console, HistoryFile, ResultFile, Values, Writer, read_history
from sngd.train import Trained, train

__all__ = ["execute", "pick_device", "start_local_ranks"]

# What a rank that ended because another one failed may take before it is killed.
_GRACE_SECONDS = 5.0
SPECTRA = "spectra.npz"
# Entries of the Jacobian from which a step gains from threads. Below it they save a quarter of the time on an
# idle machine and cost tenfold on a busy one, where they wait for each other (benchmarks/NOTES.md).
_WORTH_THREADS = 3_000_000
# Exit codes: a mistake of the user's; stopped with a checkpoint, to be started again (EX_TEMPFAIL of
# sysexits.h); Ctrl-C, as shells have it.
USER_ERROR, RESUME, INTERRUPTED = 2, 75, 130


def pick_device(wanted: str) -> torch.device:
    """The device of this process: "auto" takes this local rank's GPU where there is one.

    Raises:
        ValueError: CUDA is asked for and absent.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' but torch finds no CUDA device here; use --device cpu or auto")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise ValueError(
            f"local rank {local} has no GPU of its own: this machine shows {torch.cuda.device_count()}; "
            "start fewer ranks or use --device cpu"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def _pick_threads(run: RunConfig, device: torch.device) -> None:
    """One thread for a small problem on a CPU, unless OMP_NUM_THREADS says otherwise."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        network = run.network.build(run.problem.domain, len(run.problem.fields), run.seed)
        if network.parameters * run.problem.points < _WORTH_THREADS:
            torch.set_num_threads(1)


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
    device = pick_device(run.device)
    _pick_threads(run, device)
    ranks = connect(device, run.timeout_seconds)
    hooks: list[Writer] = []
    try:
        claim = claim_folder(run, ranks, launch, resume)
        if claim.finished:
            if ranks.rank == 0:
                print(f"{claim.folder} is finished: {claim.finished}; nothing is left to do")
            return None
        stopping = Stopping()
        if ranks.rank == 0:
            fence = _Opening(claim, run, source, launch)
            deadline = launch.deadline or (job_deadline(launch.job) if launch.job else None)
            stopping = Stopping(deadline, fence.lost)
            files = [HistoryFile(claim.folder / HISTORY), ResultFile(claim.folder / RESULT)]
            hooks = [fence, *files, Console(quiet=quiet)]
        trained = train(
            run,
            ranks,
            device,
            hooks=hooks,
            folder=claim.folder,
            earlier=claim.earlier,
            stopping=stopping,
            about={"replace": claim.replace},
        )
        if ranks.rank == 0:
            _leave(run, trained, claim.folder, hooks)
    finally:
        for hook in hooks:
            hook.close()
        ranks.close()
    return trained


class _Opening(Writer):
    """A hook that makes the run folder once the problem has proved sound, and knows whether it is lost."""

    def __init__(self, claim: Claim, run: RunConfig, source: Source, launch: Launch) -> None:
        super().__init__()
        self._open = lambda plan: open_folder(claim, run, source, launch, plan)
        self._fence: Fence | None = None

    def start(self, info: Values) -> None:
        """Make the folder."""
        self._fence = self._open(info["plan"])

    def lost(self) -> bool:
        """Whether another start has taken the folder over."""
        return self._fence is not None and self._fence.lost()


def _leave(run: RunConfig, trained: Trained, folder: Path, hooks: Sequence[Writer]) -> None:
    """The pictures at the end of a run; what goes wrong with them does not undo the training.

    A run that was told to end has no time for them, and none that has lost its folder writes there.
    """
    reason = trained.result["stop_reason"]
    if reason == "superseded":
        return
    try:
        spectra: dict[str, Any] = {f"step_{step}": sigma.numpy() for step, sigma in trained.spectra}
        np.savez(folder / SPECTRA, **spectra)
        if reason in ("terminated", "time_limit"):
            return
        pictures = draw(run, trained.network, trained.theta, folder)
    except (OSError, ValueError) as error:
        print(f"warning: no pictures: {error}; `sngd plot {folder}` draws them again", file=sys.stderr)
        return
    for hook in hooks:
        hook.drawn(pictures)


def draw(run: RunConfig, network: Network, theta: Tensor, folder: Path) -> list[Path]:
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


def start_local_ranks(
    count: int,
    arguments: list[str],
    module: str = "sngd.cli",
    *,
    prefixes: Sequence[Sequence[str]] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Start ranks 0 … count−1 of this program on this machine and wait for them.

    The parent hosts the rendezvous on a free port of the loopback address, unless variables name another.
    When one rank fails, the others are ended.

    Args:
        count: ranks.
        arguments: of the program, for `sngd` without --ranks.
        module: the program, as of `python -m`.
        prefixes: for each rank what to put before its command, e.g. to run it in a network namespace.
        variables: of the ranks' environment; where MASTER_ADDR is among them, rank 0 hosts the rendezvous.

    Returns:
        0, or the exit code of the first rank that failed.
    """
    if "MASTER_ADDR" in variables:
        rendezvous = {}
    else:
        store = host_rendezvous(count)  # to be kept alive while the ranks run
        rendezvous = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    children = []
    for rank in range(count):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "OMP_NUM_THREADS": threads,
            **rendezvous,
            **variables,
        }
        command = [*(prefixes[rank] if prefixes else ()), sys.executable, "-m", module, *arguments]
        children.append(subprocess.Popen(command, env=environment))
    with _passing_on(children):
        try:
            return _wait(children)
        except KeyboardInterrupt:  # the terminal has sent it to the ranks too: they finish their step
            return _wait(children)


@contextlib.contextmanager
def _passing_on(children: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Requests to stop that reach this process go to its ranks, which finish their step."""

    def pass_on(number: int, frame: Any) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGUSR1)
    try:
        previous = {number: signal.signal(number, pass_on) for number in numbers}
    except ValueError:  # not in the main thread
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [child.poll() for child in children]
        failed = [code for code in codes if code]
        if failed:
            break
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.05)
    # one that knows why it ended comes before those that merely lost it
    code = USER_ERROR if USER_ERROR in failed else failed[0]
    rank = codes.index(code)
    known = code in (
        USER_ERROR,
        RESUME,
        INTERRUPTED,
    )  # every rank has seen it or will; what is to be said is said
    deadline = time.monotonic() + _GRACE_SECONDS
    for child in children:
        if not known and child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
    if not known:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        print(f"error: rank {rank} ended with {how}; the other ranks were stopped", file=sys.stderr)
    return code if code > 0 else 128 - code
