"""`sngd doctor`: what this machine has for a run, what fails, and what to do about it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import netrc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import rich.box
import rich.table
import torch

from sngd.commands.saying import table_console
from sngd.flags import Parser
from sngd.launcher import unlaunched
from sngd.machine import machine
from sngd.sizes import available_bytes
from sngd.version import commit, version

__all__ = ["Finding", "doctor", "doctor_parser", "findings"]

_OLDEST = (2, 6)  # torch, as pyproject.toml has it
_WIDE = 140  # columns of the table where there is no terminal
_TRIAL_SECONDS = 120.0
_ANSWER_SECONDS = 10.0
_WANDB = "api.wandb.ai"
_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Args:
        what: was looked at.
        state: "fine"; "absent", where only those who want it miss it; "wrong", where runs fail.
        found: what there is.
        remedy: what to do, empty for nothing.
    """

    what: str
    state: Literal["fine", "absent", "wrong"]
    found: str
    remedy: str = ""


def doctor_parser() -> Parser:
    """The parser of `sngd doctor`."""
    parser = Parser(
        prog="sngd doctor",
        description="Look at torch, devices, memory, ranks, MPI, DeepSpeed, trackers and Slurm, and say what "
        "to do. It trains two small runs in a temporary folder, the second on two ranks. Exit code 1 where "
        "something would fail a run; what is only absent does not.",
        examples={"doctor": "half a minute", "doctor --no-trial": "a few seconds"},
    )
    parser.add_argument("--no-trial", action="store_true", help="train nothing")
    return parser


def doctor(given: list[str]) -> int:
    """The command `sngd doctor`; 1 where something is wrong."""
    options = doctor_parser().parse_args(given)
    console = table_console(_WIDE)
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "", "found", "what to do"):
        table.add_column(column, no_wrap=not column)
    wrong = 0
    for finding in findings(trial=not options.no_trial):
        mark = {"fine": "ok", "absent": "–", "wrong": "FAILS"}[finding.state]
        table.add_row(mark, finding.what, finding.found, finding.remedy)
        wrong += finding.state == "wrong"
    console.print(table)
    console.print(
        f"{wrong} of these would fail a run" if wrong else "runs will work here: sngd init mypde.py"
    )
    return int(wrong > 0)


def findings(trial: bool) -> Iterator[Finding]:
    """All that is looked at, in the order of the table.

    Args:
        trial: train, on one rank and on two.
    """
    yield Finding("sngd", "fine", ", commit ".join(filter(None, (version(), commit()))))
    yield _torch()
    yield _processor()
    yield _gpus()
    yield _folder()
    if trial:
        yield _trial("one rank", [])
        device = "auto" if torch.cuda.device_count() > 1 else "cpu"  # ranks do not share a GPU
        yield _trial("two ranks", ["--ranks", "2", "--device", device])
    yield _command("MPI", "mpirun", "where it is wanted: pip install 'sngd[mpi]', or the cluster's module")
    for what, package, extra in (
        ("DeepSpeed", "deepspeed", "deepspeed"),
        ("TensorBoard", "tensorboard", "tensorboard"),
        ("meshes", "trimesh", "mesh"),
        ("ONNX", "onnx", "export"),
        ("SOAP", "pytorch-optimizer", "soap"),
    ):
        yield _package(what, package, extra)
    yield _wandb()
    yield _command(
        "Slurm", "sinfo", "`sngd submit` works where Slurm does: a login node", ask=("--noheader",)
    )


def _torch() -> Finding:
    found = f"{torch.__version__}, Python {machine('cpu')['python']}"
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _OLDEST:
        return Finding("torch", "wrong", found, f"pip install 'torch>={'.'.join(map(str, _OLDEST))}'")
    return Finding("torch", "fine", found)


def _processor() -> Finding:
    about, free = machine("cpu"), available_bytes(torch.device("cpu"))
    threads = os.environ.get("OMP_NUM_THREADS")
    how = f", OMP_NUM_THREADS={threads}" if threads else ""
    return Finding(
        "processor", "fine", f"{about['cpu']}, {about['cores']} cores, {free / _GB:.3g} GB free{how}"
    )


def _gpus() -> Finding:
    if not torch.cuda.is_available():
        seen = shutil.which("nvidia-smi")
        remedy = "nvidia-smi is here, but torch sees no GPU: install torch's CUDA build" if seen else ""
        return Finding("GPUs", "wrong" if seen else "absent", "none: runs take the CPU", remedy)
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    free = min(available_bytes(torch.device("cuda", number)) for number in range(len(names)))
    nccl = torch.distributed.is_nccl_available()  # noqa: TID251
    found = f"{len(names)} × {names[0]}, {free / _GB:.3g} GB free, NCCL {'there' if nccl else 'missing'}"
    if len(names) > 1 and not nccl:
        return Finding("GPUs", "wrong", found, "ranks on several GPUs need NCCL: a torch built with it")
    return Finding("GPUs", "fine", found)


def _folder() -> Finding:
    try:
        with tempfile.TemporaryFile(dir=Path.cwd()):
            pass
    except OSError as error:
        found = f"{Path.cwd()} cannot be written to ({error.strerror})"
        return Finding("run folder", "wrong", found, "change to another folder, or give --run-dir")
    free = shutil.disk_usage(Path.cwd()).free
    return Finding("run folder", "fine", f"runs/ in {Path.cwd()}, {free / _GB:.3g} GB free")


def _trial(what: str, flags: list[str]) -> Finding:
    """A few steps of the heat equation, by the command that a user would give."""
    steps = ["--max-steps", "3", "--evaluate-points", "100", "--no-pictures", "--quiet"]
    with tempfile.TemporaryDirectory(prefix="sngd-doctor-") as folder:
        command = [sys.executable, "-m", "sngd.cli", "train", "problems:heat", *steps, *flags]
        try:
            done = subprocess.run(
                [*command, "--run-dir", f"{folder}/run"],
                env=unlaunched(os.environ),
                capture_output=True,
                text=True,
                timeout=_TRIAL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            remedy = "ranks do not meet? a firewall on the loopback interface, or GLOO_SOCKET_IFNAME"
            return Finding(what, "wrong", f"no end after {_TRIAL_SECONDS:.0f} s", remedy if flags else "")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        remedy = f"{' '.join(command[1:])} says more"
        return Finding(what, "wrong", said[-1] if said else f"exit code {done.returncode}", remedy)
    return Finding(what, "fine", "trained the heat equation for 3 steps")


def _package(what: str, package: str, extra: str) -> Finding:
    try:
        return Finding(what, "fine", f"{package} {importlib.metadata.version(package)}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(what, "absent", "not installed", f"pip install 'sngd[{extra}]' where it is wanted")


def _command(what: str, name: str, remedy: str, ask: tuple[str, ...] = ()) -> Finding:
    """A program: what it calls itself, and whether it answers what `ask` adds to its name."""
    beside = Path(sys.executable).parent / name
    path = shutil.which(name) or (str(beside) if beside.exists() else None)
    if path is None:
        return Finding(what, "absent", f"no {name}", remedy)
    version = path
    for arguments in (ask, ("--version",)) if ask else (("--version",),):
        said = _answer([path, *arguments])
        if isinstance(said, str):
            return Finding(what, "absent", f"{path} does not work: {said}", remedy)
        version = (said.stdout.strip() or path).splitlines()[0]
    return Finding(what, "fine", version)


def _answer(command: list[str]) -> subprocess.CompletedProcess[str] | str:
    """What a program answers, or why it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {_ANSWER_SECONDS:.0f} s"
    except OSError as error:
        return str(error.strerror)
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return said[-1] if done.returncode else done


def _wandb() -> Finding:
    finding = _package("W&B", "wandb", "wandb")
    if finding.state != "fine":
        return finding
    remedy = "`wandb login`, or --tracking.wandb offline"
    if os.environ.get("WANDB_API_KEY"):
        return Finding("W&B", "fine", f"{finding.found}, key in WANDB_API_KEY")
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        if netrc.netrc().authenticators(_WANDB) is not None:
            return Finding("W&B", "fine", f"{finding.found}, key in ~/.netrc")
    return Finding("W&B", "absent", f"{finding.found}, no key", remedy)
