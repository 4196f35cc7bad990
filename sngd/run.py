"""From a config to a run folder: ranks, device, hooks, pictures."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sngd import plot
from sngd.collectives import Ranks, connect, host_rendezvous
from sngd.config import RunConfig, describe, digest
from sngd.failures import LOST_RANK, LostRankError, RankFailedError
from sngd.launcher import MARK, Launch, detect
from sngd.networks import Network
from sngd.tracking import Console, HistoryFile, ResultFile, Values, Writer, read_history
from sngd.train import Hook, Trained, train

__all__ = ["Source", "execute", "pick_device", "start_local_ranks"]

# What a rank that ended because another one failed may take before it is killed.
_GRACE_SECONDS = 5.0
SPECTRA = "spectra.npz"
# Entries of the Jacobian from which a step gains from threads. Below it they save a quarter of the time on an
# idle machine and cost tenfold on a busy one, where they wait for each other (benchmarks/NOTES.md).
_WORTH_THREADS = 3_000_000
# Launchers that may show every process a GPU of its own only.
_ONE_GPU_A_TASK = ("srun", "openmpi", "mpich")
# Exit codes: a mistake of the user's; Ctrl-C, as shells have it.
USER_ERROR, INTERRUPTED = 2, 130


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


def execute(run: RunConfig, source: Source, *, quiet: bool = False) -> Trained:
    """Run a config in this process, one rank of however many the environment names.

    Raises:
        ValueError: a mistake in config, problem or environment.
    """
    launch = detect(os.environ)
    device = pick_device(run.device, launch)
    _pick_threads(run, device)
    ranks = connect(device, launch)
    console = Console(quiet=quiet)
    try:
        folder = _claim_folder(run, ranks)
        hooks: list[Hook] = []
        if ranks.rank == 0:
            opened = _OnStart(lambda info: _open_folder(folder, run, source, ranks, info))
            files = [HistoryFile(folder / "history.jsonl"), ResultFile(folder / "result.json")]
            hooks = [opened, *files, console]
        trained = train(run, ranks, device, hooks=hooks, folder=folder)
        if ranks.rank == 0:
            _draw_once(run, trained, folder)
    except Exception as error:
        console.close()
        _end_by(error, ranks)
        raise
    except BaseException:
        console.close()
        raise
    console.close()
    ranks.close()
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
    mistake = isinstance(error, ValueError)
    text = str(error) if mistake else f"{type(error).__name__}: {error}"
    if not ranks.fail(text, common=mistake):
        raise RankFailedError(f"rank {ranks.rank} on {socket.gethostname()}: {text}") from error


def _draw_once(run: RunConfig, trained: Trained, folder: Path) -> None:
    """The pictures at the end of a run; what goes wrong with them does not undo the training."""
    try:
        spectra: dict[str, Any] = {f"step_{step}": sigma.numpy() for step, sigma in trained.spectra}
        np.savez(folder / SPECTRA, **spectra)
        draw(run, trained.network, trained.theta, folder)
    except (OSError, ValueError) as error:
        print(f"warning: no pictures: {error}; `sngd plot {folder}` draws them again", file=sys.stderr)


class _OnStart(Writer):
    """A hook that makes the run folder once the problem has proved sound."""

    def __init__(self, action: Callable[[Values], None]) -> None:
        super().__init__()
        self._action = action

    def start(self, info: Values) -> None:
        """Act."""
        self._action(info)


def _claim_folder(run: RunConfig, ranks: Ranks) -> Path:
    """The run's folder, chosen by rank 0; refused everywhere if it exists."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    wanted = run.run_dir or Path("runs") / f"{run.problem.name}-{stamp}"
    folder, taken = ranks.broadcast((str(wanted), check_folder(wanted)))
    if taken:
        raise ValueError(taken)
    return Path(folder)


def check_folder(folder: Path | None) -> str | None:
    """Why a run folder cannot be used, None when it can."""
    if folder is not None and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        return f"run_dir={str(folder)!r} exists; nothing is overwritten: name another or remove it"
    if folder is not None:
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            return (
                f"run_dir={str(folder)!r} cannot be made: {str(above)!r} is no folder that can be written to"
            )
    return None


def _open_folder(folder: Path, run: RunConfig, source: Source, ranks: Ranks, info: Values) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"run_dir={str(folder)!r} cannot be made: {error.strerror}") from error
    content = {
        "fields": describe(run),
        "source": {
            "path": str(source.path),
            "sha256": digest(source.text),
            "flags": source.flags,
            "text": source.text,
        },
        "world_size": ranks.size,
        "plan": info["plan"],
        "versions": {
            "sngd": importlib.metadata.version("sngd"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    try:
        with (folder / "config.json").open("x") as stream:
            stream.write(json.dumps(content, indent=2) + "\n")
    except FileExistsError:  # another run has claimed the folder meanwhile
        raise ValueError(check_folder(folder)) from None


def draw(run: RunConfig, network: Network, theta: Tensor, folder: Path) -> list[Path]:
    """The three pictures of a run folder, from its history, spectra and final parameters.

    Raises:
        ValueError: history or spectra are missing or damaged.
    """
    history_file, spectra_file = folder / "history.jsonl", folder / SPECTRA
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
    try:
        return _wait(children)
    except KeyboardInterrupt:  # the terminal has sent it to the ranks too: they finish their step
        return _wait(children)


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
    known = code in (USER_ERROR, INTERRUPTED)  # every rank has seen it or will; what is to be said is said
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
