"""The command line: sngd train | resume | status | plan | submit | eval | plot | bench."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from sngd.allocation import OutOfMemoryError
from sngd.assembly import own_budget, plan_memory
from sngd.audience import draw
from sngd.bench.command import bench
from sngd.checkpoint import Checkpoint
from sngd.composite import build_network
from sngd.config import RunConfig, load_source, parse_overrides
from sngd.devices import pick_device
from sngd.evaluate import Evaluation
from sngd.exit_codes import INTERRUPTED, LOST_RANK, RESUME, USER_ERROR
from sngd.failures import LostRankError, RankFailedError, leave, record_failure
from sngd.folder import CONFIG, Source, Standing, check_folder
from sngd.launcher import Launch, detect
from sngd.local_ranks import start_local_ranks
from sngd.networks import AnyNetwork
from sngd.plan_table import parse_bytes, show
from sngd.planning import Forecast
from sngd.residual import ResidualError
from sngd.run import execute
from sngd.stopping import TOLD_TO_END
from sngd.submit import submit

__all__ = ["main"]


# How long a rank stays that leaves the telling of a mistake to another one.
_SILENT_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 for a mistake of the user's, which is told in one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="sngd", description="Physics-informed networks trained by sketched natural gradients."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = {
        "train": "train the run that a config file defines",
        "resume": "go on with a run that was stopped or lost",
        "status": "where a run stands; exit code 0 finished, 75 to be resumed, 1 neither",
        "plan": "what a run would hold, keep and send, without running it",
        "submit": "hand a run to Slurm",
        "eval": "errors of a finished run against the known solution",
        "plot": "draw a finished run again",
        "bench": "run a suite of benchmarks, or write their report",
    }
    for name, text in about.items():
        commands.add_parser(name, help=text, add_help=False)
    command = parser.parse_args(given[:1]).command
    run = {
        "train": _train,
        "resume": _resume,
        "status": _status,
        "plan": _plan,
        "submit": submit,
        "eval": _eval,
        "plot": _plot,
        "bench": bench,
    }[command]
    launch = Launch("alone")
    try:
        launch = detect(os.environ)
        return run(given[1:])
    except Exception as error:
        code = _tell(error, launch)
        if code is None:
            raise
    if launch.size > 1:
        leave(code)
    return code


def _tell(error: Exception, launch: Launch) -> int | None:
    """Say what a command ended with, once for all ranks where all have met it.

    Returns:
        The exit code; None for an unforeseen error of a process alone.
    """
    if isinstance(error, LostRankError):
        _complain(str(error))
        return LOST_RANK
    if isinstance(error, RankFailedError):
        cause = error.__cause__
        _complain(str(error), trace=None if isinstance(cause, ValueError) else cause)
        record_failure(cause or error)
        return USER_ERROR if isinstance(cause, ValueError) else 1
    here = f"rank {launch.rank} on {socket.gethostname()}: " if launch.size > 1 else ""
    if isinstance(error, (ResidualError, OutOfMemoryError)):  # one rank has the text
        named = isinstance(error, OutOfMemoryError) or not str(error)
        _complain(str(error) if named else f"{here}{error}")
        return USER_ERROR
    if isinstance(error, ValueError):
        if launch.local_rank == 0:  # every node tells it
            _complain(f"{here if launch.rank else ''}{error}")
        else:  # the first rank to end makes launchers end the others: not before they have told it
            time.sleep(_SILENT_SECONDS)
        return USER_ERROR
    if launch.size == 1:
        return None
    _complain(f"{here}{type(error).__name__}: {error}", trace=error)
    record_failure(error)
    return 1


def _complain(message: str, trace: BaseException | None = None) -> None:
    if trace is not None:
        traceback.print_exception(trace)
    if message:
        print(f"error: {message}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------
# sngd train
# ---------------------------------------------------------------------------------------------


def _train(given: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="sngd train",
        allow_abbrev=False,
        description="Train the run that CONFIG defines; every field of it can be replaced by a flag.",
        epilog="`sngd train CONFIG --help` lists the fields with the values that CONFIG gives them.",
        add_help=False,
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a Python file that assigns run, or a run's config.json"
    )
    parser.add_argument(
        "--ranks", default="1", help='processes to start here: a number, or "auto" for all GPUs or cores'
    )
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint in --run-dir, if there is one"
    )
    if not given or given[0] in ("-h", "--help"):
        parser.print_help()
        return 0 if given else USER_ERROR
    options, flags = parser.parse_known_args(given)
    launch = detect(os.environ)
    run, source = _load(Path(options.config), flags, f"sngd train {options.config}")
    if options.resume and run.run_dir is None and launch.job is None:
        raise ValueError("--resume needs --run-dir, the folder of the run to go on with")
    taken = None if options.resume else check_folder(run.run_dir)
    if taken and launch.size == 1 and not launch.restart:
        raise ValueError(taken)
    count = _rank_count(options.ranks, run.device, launch)
    if count > 1:
        switches = ["--quiet"] * options.quiet + ["--resume"] * options.resume
        return start_local_ranks(count, ["train", options.config, *flags, *switches])
    trained = execute(run, source, quiet=options.quiet, resume=options.resume)
    return 0 if trained is None else _exit_code(trained.result["stop_reason"], launch)


def _exit_code(reason: str, launch: Launch) -> int:
    """What a run that has come to an end tells whoever started it."""
    if reason == "superseded":
        if launch.rank == 0:
            _complain("another start of this run has taken over its folder; this one has left it alone")
        return 1
    if reason in TOLD_TO_END:
        # torchrun takes any other code for a failure, and would start the ranks again
        return 0 if launch.launcher == "torchrun" else RESUME
    return INTERRUPTED if reason == "interrupted" else 0


def _rank_count(wanted: str, device: str, launch: Launch) -> int:
    started = launch.size > 1 or launch.rendezvous_given
    if wanted == "auto":
        if started:
            return 1
        if device != "cpu" and torch.cuda.is_available():
            return torch.cuda.device_count()
        return len(os.sched_getaffinity(0))
    if not wanted.isdigit() or int(wanted) < 1:
        raise ValueError(f'--ranks={wanted} must be a whole number ≥ 1, or "auto"')
    if int(wanted) > 1 and started:
        raise ValueError(
            f"--ranks={wanted}, but {launch.title} has already started {launch.size} "
            f"rank{'s' * (launch.size > 1)}: leave --ranks out"
        )
    return int(wanted)


def _load(path: Path, flags: list[str], program: str) -> tuple[RunConfig, Source]:
    """The run of a config file or of a run folder's config.json, with flags applied."""
    if path.suffix == ".json":
        return _load_saved(path, flags, program)
    run, text = load_source(path)
    return parse_overrides(run, flags, program), Source(path, text, flags)


def _load_saved(path: Path, flags: list[str], program: str) -> tuple[RunConfig, Source]:
    try:
        saved = json.loads(path.read_text())["source"]
        original, text, stored = Path(saved["path"]), saved["text"], list(saved["flags"])
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not the config.json of a run: {error}") from error
    if not all(isinstance(flag, str) for flag in stored):
        raise ValueError(f"{str(path)!r} is not the config.json of a run: source.flags={stored!r}")
    stored = _without(stored, "--run-dir")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / original.name
        copy.write_text(text)
        with _importable(original.resolve().parent):
            run, _ = load_source(copy)
    return parse_overrides(run, [*stored, *flags], program), Source(original, text, [*stored, *flags])


def _without(flags: list[str], name: str) -> list[str]:
    """Flags less one of them and its value: a run folder is never used twice."""
    spellings = (name, name[:2] + name[2:].replace("-", "_"))
    kept, skip = [], False
    for flag in flags:
        named = flag in spellings or flag.startswith(tuple(f"{spelling}=" for spelling in spellings))
        if not skip and not named:
            kept.append(flag)
        skip = flag in spellings and not skip
    return kept


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


# ---------------------------------------------------------------------------------------------
# sngd resume, sngd status
# ---------------------------------------------------------------------------------------------


def _resume(given: list[str]) -> int:
    if not given or given[0].startswith("-"):
        print("usage: sngd resume RUN [flags of sngd train]\n\nGo on with the run in the folder RUN.")
        return 0 if given and given[0] in ("-h", "--help") else USER_ERROR
    folder = Path(given[0])
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{str(folder)!r} holds no run ({CONFIG} is missing)")
    return _train([str(folder / CONFIG), "--run-dir", str(folder), "--resume", *given[1:]])


def _status(given: list[str]) -> int:
    options = _run_folder_parser("status", "Where a run stands.").parse_args(given)
    standing = Standing.of(options.run)
    print(f"{options.run}: {standing.text}")
    return 0 if standing.finished else RESUME if standing.resumable else 1


# ---------------------------------------------------------------------------------------------
# sngd plan
# ---------------------------------------------------------------------------------------------


def _plan(given: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="sngd plan",
        allow_abbrev=False,
        description="Show how the run that CONFIG defines would be arranged: memory of a rank, what is kept "
        "and what travels, without running it. Flags replace fields of CONFIG as for sngd train.",
        add_help=False,
    )
    parser.add_argument("config", metavar="CONFIG", help="as for sngd train")
    parser.add_argument("--ranks", default="1", help="number of ranks (default 1)")
    parser.add_argument(
        "--memory",
        help="of a rank: 80GB, 500MB, 1.5GiB or GB; default: memory_gb, or half of what is free here",
    )
    parser.add_argument("--rank", help="sketch rank to start with, in place of the config's")
    if not given or given[0] in ("-h", "--help"):
        parser.print_help()
        return 0 if given else USER_ERROR
    options, flags = parser.parse_known_args(given)
    run, _ = _load(Path(options.config), flags, f"sngd plan {options.config}")
    ranks = _whole("--ranks", options.ranks)
    rank = None if options.rank is None else _whole("--rank", options.rank)
    device = _planned_device(run, options.memory)
    told = options.memory is not None
    budget = parse_bytes(options.memory, "--memory") if told else own_budget(run, ranks, device)
    network = build_network(run.problem, run.network, run.seed)
    forecast = Forecast(run, network, plan_memory(run, network, ranks, device, budget), device, rank)
    show(forecast)
    shortage = forecast.shortage()
    if shortage:
        raise ValueError(shortage)
    return 0


def _whole(flag: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{flag}={text} must be a whole number ≥ 1")
    return int(text)


def _planned_device(run: RunConfig, memory: str | None) -> torch.device:
    """The kind of device to plan for, which need not be here as long as its memory is told."""
    here = torch.cuda.is_available()
    kind = ("cuda" if here else "cpu") if run.device == "auto" else run.device
    if kind == "cuda" and not here and memory is None and run.memory_gb is None:
        raise ValueError("--memory is missing: no CUDA device is here to ask, say what one has, e.g. 80GB")
    return torch.device(kind)


# ---------------------------------------------------------------------------------------------
# sngd eval, sngd plot
# ---------------------------------------------------------------------------------------------


def _run_folder_parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"sngd {command}", description=description)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    return parser


def _restore(folder: Path) -> tuple[RunConfig, AnyNetwork, torch.Tensor]:
    """Config, network and final parameters of a run folder."""
    if not folder.is_dir():
        raise ValueError(f"run folder {str(folder)!r} does not exist")
    run, _ = _load(folder / "config.json", [], "sngd")
    theta = Checkpoint.load(folder).theta
    network = build_network(run.problem, run.network, run.seed)
    if theta.numel() != network.parameters:
        raise ValueError(
            f"the checkpoint holds {theta.numel()} parameters, the config's network has {network.parameters}"
        )
    return run, network.to(theta.dtype, "cpu"), theta


def _eval(given: list[str]) -> int:
    parser = _run_folder_parser("eval", "Errors of a finished run against the known solution, as JSON.")
    parser.add_argument("--points", type=int, default=100_000, help="evaluation points (default 100000)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    options = parser.parse_args(given)
    if options.points < 1:
        raise ValueError(f"--points={options.points} must be ≥ 1")
    run, network, theta = _restore(options.run)
    if run.problem.solution is None:
        raise ValueError(f"problem {run.problem.name!r} has no known solution to compare with")
    device = pick_device(options.device, Launch("alone"))
    network = network.to(theta.dtype, device)
    evaluation = Evaluation(run.problem, network, options.points, theta.dtype, device)
    print(json.dumps(evaluation.errors(theta.to(device)), indent=2))
    return 0


def _plot(given: list[str]) -> int:
    options = _run_folder_parser("plot", "Draw a finished run's pictures again.").parse_args(given)
    run, network, theta = _restore(options.run)
    for picture in draw(run, network, theta, options.run):
        print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
