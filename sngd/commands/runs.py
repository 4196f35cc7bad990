"""`sngd train`, `sngd resume`."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from sngd.commands.common import load
from sngd.commands.saying import complain, run_folder_parser
from sngd.exit_codes import INTERRUPTED, RESUME, SUPERSEDED, USER_ERROR
from sngd.flags import HELP, Parser
from sngd.folder import check_folder
from sngd.launcher import Launch, detect
from sngd.local_ranks import start_local_ranks
from sngd.run import execute
from sngd.standing import CONFIG, check_run
from sngd.stopping import TOLD_TO_END

__all__ = ["rank_count", "resume", "resume_parser", "train", "train_parser"]

# Of a number of ranks.
_DIGITS = 6


def train_parser() -> Parser:
    """The parser of `sngd train`; fields of CONFIG are what it leaves over."""
    parser = Parser(
        prog="sngd train",
        usage="sngd train CONFIG [--ranks N] [--quiet] [--resume] [--FIELD VALUE ...]",
        description="Train the run that CONFIG defines. Every field of it can be replaced by a flag: --seed "
        "1, --max-seconds 300, --network.hidden 32 32, --optimizer spring, --optimizer.rank 128.",
        epilog="`sngd train CONFIG --help` lists the fields with the values that CONFIG gives them. Results "
        "are written to runs/NAME-TIME, or to the folder that --run-dir names. Exit code 0: done; 2: a "
        "mistake, told in one line; 75: stopped with a checkpoint, `sngd resume` goes on.",
        examples={
            "train mypde.py": "one process, all its threads",
            "train mypde.py --ranks auto": "all GPUs, or else all cores",
            "train mypde.py --help": "every field with its value in mypde.py",
            "train problems:heat --max-steps 50": "a problem of the library (sngd problems)",
            "train runs/heat-20261124-101500/config.json": "an earlier run again, in a new folder",
        },
        add_help=False,
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a Python file that assigns run, problems:NAME, or a run's config.json",
    )
    parser.add_argument(
        "--ranks",
        default="1",
        metavar="N",
        help='processes to start here: a number (default 1), or "auto" for all GPUs or cores',
    )
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint in --run-dir, if there is one"
    )
    return parser


def train(given: list[str]) -> int:
    """The command `sngd train`."""
    options, flags = train_parser().split(given)
    launch = detect(os.environ)
    run, source = load(options.config, flags, f"sngd train {options.config}")
    if options.resume and run.run_dir is None and launch.job is None:
        raise ValueError("--resume needs --run-dir, the folder of the run to go on with")
    taken = None if options.resume else check_folder(run.run_dir)
    if taken and launch.size == 1 and not launch.restart:
        raise ValueError(taken)
    count = rank_count(options.ranks, run.device, launch)
    if count > 1:
        switches = ["--quiet"] * options.quiet + ["--resume"] * options.resume
        return start_local_ranks(count, ["train", options.config, *flags, *switches])
    trained = execute(run, source, quiet=options.quiet, resume=options.resume)
    return 0 if trained is None else _exit_code(trained.result["stop_reason"], launch)


def _exit_code(reason: str, launch: Launch) -> int:
    """What a run that has come to an end tells whoever started it."""
    if reason == "superseded":
        if launch.rank == 0:
            complain("another start of this run has taken over its folder; this one has left it alone")
        return SUPERSEDED
    if reason in TOLD_TO_END:
        # torchrun takes any other code for a failure, and would start the ranks again
        return 0 if launch.launcher == "torchrun" else RESUME
    return INTERRUPTED if reason == "interrupted" else 0


def rank_count(wanted: str, device: str, launch: Launch) -> int:
    """How many ranks `--ranks` starts here.

    Raises:
        ValueError: it is no such number, or a launcher has started ranks already.
    """
    started = launch.size > 1 or launch.rendezvous_given
    if wanted == "auto":
        if started:
            return 1
        if device != "cpu" and torch.cuda.is_available():
            return torch.cuda.device_count()
        return len(os.sched_getaffinity(0))
    if not wanted.isdecimal() or len(wanted) > _DIGITS or int(wanted) < 1:
        raise ValueError(f'--ranks={wanted:.99} must be a whole number ≥ 1, or "auto"')
    if int(wanted) > 1 and started:
        raise ValueError(
            f"--ranks={wanted}, but {launch.title} has already started {launch.size} "
            f"rank{'s' * (launch.size > 1)}: leave --ranks out"
        )
    return int(wanted)


def resume_parser() -> Parser:
    """The parser of `sngd resume`."""
    return run_folder_parser(
        "resume",
        "Go on with a run that was stopped or lost, from its last whole checkpoint, as if nothing had "
        "happened. Budget, device, precision, number of ranks, and what is kept and told may change.",
        usage="sngd resume RUN [flags of sngd train]",
        examples={
            "resume runs/heat-20261124-101500": "on one process",
            "resume runs/heat-job17 --ranks auto": "on all GPUs or cores",
            "resume runs/heat-job17 --max-steps 2000": "further than was asked for at first",
        },
        add_help=False,
    )


def resume(given: list[str]) -> int:
    """The command `sngd resume`."""
    if not given or given[0].startswith("-"):
        resume_parser().print_help()
        return 0 if given and given[0] in HELP else USER_ERROR
    folder = Path(given[0])
    named = [flag for flag in given[1:] if flag.partition("=")[0] in ("--run-dir", "--run_dir")]
    if named:
        raise ValueError(f"{named[0]} is given, but sngd resume goes on in {str(folder)!r}: leave it out")
    check_run(folder)
    return train([str(folder / CONFIG), "--run-dir", str(folder), "--resume", *given[1:]])
