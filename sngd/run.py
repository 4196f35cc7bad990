"""From a config to a run folder: ranks, device, hooks, pictures."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sngd import plot
from sngd.collectives import Ranks, connect, host_rendezvous
from sngd.config import RunConfig
from sngd.failures import LOST_RANK, LostRankError, RankFailedError
from sngd.folder import HISTORY, RESULT, Claim, Fence, Source, claim_folder, open_folder
from sngd.launcher import MARK, Launch, detect, job_deadline
from sngd.networks import Network
from sngd.stopping import Stopping
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
from sngd.train import Trained, train

__all__ = ["execute", "pick_device", "start_local_ranks"]

# What a rank that ended because another one failed may take before it is killed.
_GRACE_SECONDS = 5.0
SPECTRA = "spectra.npz"
# Entries of the Jacobian from which a step gains from threads. Below it they save a quarter of the time on an
# idle machine and cost tenfold on a busy one, where they wait for each other (benchmarks/NOTES.md).
_WORTH_THREADS = 3_000_000
# Launchers that may show every process a GPU of its own only.
_ONE_GPU_A_TASK = ("srun", "openmpi", "mpich")
# Exit codes: a mistake of the user's; stopped with a checkpoint, to be started again (EX_TEMPFAIL of
# sysexits.h); Ctrl-C, as shells have it.
USER_ERROR, RESUME, INTERRUPTED = 2, 75, 130


def pick_device(wanted: str, launch: Launch) -> torch.device:
    """The device of this process: "auto" takes this local rank's GPU where there is one.

    Raises:
        ValueError: CUDA is asked for and absent, or there are fewer GPUs than ranks here.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' but torch finds no CUDA device here; use --device cpu or auto")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    shown, local = torch.cuda.device_count(), launch.local_rank
    if shown == 1 and "CUDA_VISIBLE_DEVICES" in os.environ and launch.launcher in _ONE_GPU_A_TASK:
        local = 0  # its own, as srun --gpus-per-task=1 hands them out
    if local >= shown:
        raise ValueError(
            f"local rank {local} has no GPU of its own: this machine shows {shown}; "
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
    device = pick_device(run.device, launch)
    _pick_threads(run, device)
    ranks = connect(device, launch, run.timeout_seconds)
    audience: _Audience | None = None
    try:
        claim = claim_folder(run, ranks, launch, resume)
        if claim.finished:
            if ranks.rank == 0:
                print(f"{claim.folder} is finished: {claim.finished}; nothing is left to do")
            ranks.close()
            return None
        stopping = Stopping()
        if ranks.rank == 0:
            audience = _gather_audience(claim, run, source, launch, ranks, device, quiet)
            deadline = launch.deadline or (job_deadline(launch.job) if launch.job else None)
            stopping = Stopping(deadline, audience.lost)
        hooks = [audience] if audience else []
        trained = train(
            run, ranks, device, hooks=hooks, folder=claim.folder, earlier=claim.earlier, stopping=stopping
        )
        if audience:
            _leave(run, trained, claim.folder, audience)
    except Exception as error:
        if audience:
            audience.close()
        _end_by(error, ranks)
        raise
    except BaseException:
        if audience:
            audience.close()
        raise
    if audience:
        audience.close()
    ranks.close()
    return trained


def _gather_audience(
    claim: Claim,
    run: RunConfig,
    source: Source,
    launch: Launch,
    ranks: Ranks,
    device: torch.device,
    quiet: bool,
) -> _Audience:
    folder = claim.folder
    files = [HistoryFile(folder / HISTORY), ResultFile(folder / RESULT)]
    trackers = make_hooks(run.tracking, folder, (lambda line: None) if quiet else print)
    return _Audience(
        claim,
        lambda plan: open_folder(claim, run, source, launch, plan),
        {"launch": ranks.origin},
        SystemFigures(device),
        [*files, *trackers, Console(quiet=quiet)],
    )


def _end_by(error: Exception, ranks: Ranks) -> None:
    """Tell the other ranks of an error; a mistake that all have met is told by those that catch it.

    Raises:
        RankFailedError: the error is no mistake of the user's, or this rank alone has met it.
    """
    if ranks.size == 1:
        ranks.close()
    if ranks.size == 1 or isinstance(error, LostRankError):
        return
    mistake = isinstance(error, ValueError)
    text = str(error) if mistake else f"{type(error).__name__}: {error}"
    if not ranks.fail(text, common=mistake):
        raise RankFailedError(f"rank {ranks.rank} on {socket.gethostname()}: {text}") from error


class _Audience(Writer):
    """Those who follow a run: what they are told is completed here, once the run folder is made.

    Args:
        claim: the folder.
        opening: makes it, from the lines of the plan.
        about: told at the start beside what the loop knows.
        figures: of the machine.
        hooks: who is told.
    """

    def __init__(
        self,
        claim: Claim,
        opening: Callable[[Any], Fence],
        about: Mapping[str, Any],
        figures: SystemFigures,
        hooks: Sequence[Writer],
    ) -> None:
        super().__init__()
        self.claim, self.hooks = claim, hooks
        self._opening, self._about, self._figures = opening, about, figures
        self._fence: Fence | None = None

    def lost(self) -> bool:
        """Whether another start has taken the folder over."""
        return self._fence is not None and self._fence.lost()

    def start(self, info: Values) -> None:
        """Make the folder, now that the problem has proved sound."""
        self._fence = self._opening(info["plan"])
        told = {**info, **self._about, "replace": self.claim.replace}
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


def _leave(run: RunConfig, trained: Trained, folder: Path, audience: Writer) -> None:
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
    audience.drawn(pictures)


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
            MARK: str(count),
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
    code = USER_ERROR if USER_ERROR in failed else min(failed, key=lambda code: code == LOST_RANK)
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
