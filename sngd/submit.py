"""Hand a run to Slurm: a batch script of slurm/ with its options filled in, given to sbatch.

submitit does not serve here: it sends pickled Python functions and restarts them by its own signal handler,
where a run is a config file, one torchrun a node, and a checkpoint that any later start can go on from.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sngd.config import parse_overrides
from sngd.config_files import load_source
from sngd.flags import Parser, refuse_repeated
from sngd.library import config_path

__all__ = ["render", "slurm_time", "submit", "submit_parser"]

_COMMON = 'source "$SLURM_SUBMIT_DIR/slurm/common.sh"'
# What the ranks have to finish a step and write a checkpoint before the time limit.
_LEAD_SECONDS = 120
_TIME = re.compile(r"(?=\d)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::([0-5]?\d))?(?::([0-5]?\d))?")
_PASSED_ON = ("nodes", "gpus_per_node", "cpus_per_task", "partition", "account", "qos", "constraint", "mem")
_ARRAY = re.compile(r"\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%\d+)?")


def submit(given: list[str]) -> int:
    """The command `sngd submit`.

    Raises:
        ValueError: a mistake in the config, a flag or an option, or sbatch is missing or refuses.
    """
    options, flags = submit_parser().split(given)
    config = config_path(options.config)
    runs = _check(config, flags, f"sngd submit {options.config}")
    if config.suffix == ".txt" and options.array is None:
        options.array = f"1-{runs}"
    name = "array" if options.array else "preempt" if options.preemptible else "train"
    script = render(
        _template(name), _slurm_options(options), [options.config, *flags], options.ranks_per_node
    )
    command = ["sbatch", "--parsable"]
    if options.dry_run:
        print(script, end="")
        print(f"# {shlex.join(command)} < the script above")
        return 0
    job = _hand_over(command, script)
    print(
        f"submitted job {job}: output in {_output(script, job)}, results in {_results(options, flags, job)}"
    )
    return 0


def submit_parser() -> Parser:
    """The parser of `sngd submit`; fields of CONFIG are what it leaves over."""
    parser = Parser(
        prog="sngd submit",
        usage="sngd submit CONFIG [options] [--FIELD VALUE ...]",
        description="Submit the run that CONFIG defines to Slurm, to be trained by `sngd train CONFIG "
        "[flags]` on every GPU of its nodes. What is not listed here is a flag of sngd train.",
        examples={
            "submit mypde.py --gpus-per-node 8 --dry-run": "look at the batch script first",
            "submit mypde.py --nodes 4 --gpus-per-node 8 --time 2h": "32 ranks, a GPU each",
            "submit mypde.py --gpus-per-node 8 --time 12h --preemptible": "requeued until it is done",
            "submit mypde.py --cpus-per-task 16 --array 0-9": "ten seeds, on the cores of a node each",
        },
        add_help=False,
    )
    add = parser.add_argument
    add(
        "config",
        metavar="CONFIG",
        help="a Python file that assigns run, problems:NAME, or a .txt file: CONFIG [flags] a line",
    )
    add("--nodes", type=int, default=1, metavar="N", help="how many nodes (default 1)")
    add("--gpus-per-node", type=int, metavar="N", help="GPUs of a node, each for one rank")
    add("--ranks-per-node", type=int, metavar="N", help="ranks of a node where it is not one for each GPU")
    add("--cpus-per-task", type=int, metavar="N", help="CPU cores of a node; a rank each without GPUs")
    add("--time", default="2h", help="time limit: 2h (default), 90m, 1d12h, or Slurm's 2:00:00")
    for option in ("--partition", "--account", "--qos", "--constraint"):
        add(option, metavar="NAME", help="as for sbatch")
    add("--mem", metavar="SIZE", help="memory of a node, as for sbatch: 64G")
    add("--array", help="one run for each seed: 0-9, 0-9%%4; or for each line of a .txt file (default all)")
    add("--preemptible", action="store_true", help="go on after preemption and time limits until it is done")
    add("--job-name", metavar="NAME", help="default: the name of CONFIG")
    add("--dry-run", action="store_true", help="print the batch script, submit nothing")
    return parser


def _check(config: Path, flags: list[str], program: str) -> int:
    """Load what will be run, so that mistakes are told now; how many runs it is."""
    if config.suffix != ".txt":
        refuse_repeated(flags)
        run, _ = load_source(config)
        parse_overrides(run, flags, program)
        return 1
    if not config.is_file():
        raise ValueError(f"config file {str(config)!r} does not exist")
    try:
        lines = config.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"config file {str(config)!r} must be text in UTF-8: {error}") from error
    for number, line in enumerate(lines, 1):
        path, *own = line.split() or [""]
        try:
            refuse_repeated([*own, *flags])
            run, _ = load_source(config_path(path))
            parse_overrides(run, [*own, *flags], f"{config}:{number}")
        except ValueError as error:
            raise ValueError(f"{config}:{number}: {error}") from error
    return len(lines)


def _slurm_options(options: argparse.Namespace) -> dict[str, str]:
    """What replaces or joins the #SBATCH lines."""
    for name in ("nodes", "gpus_per_node", "ranks_per_node", "cpus_per_task"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')}={value} must be a whole number ≥ 1")
    if options.array is not None and not _ARRAY.fullmatch(options.array):
        raise ValueError(f"--array={options.array!r} must be numbers and ranges, e.g. 0-9 or 0-9%4 or 1,3,7")
    filled = {"job-name": options.job_name or config_path(options.config).name.partition(".")[0]}
    for name in (*_PASSED_ON, "array"):
        value = getattr(options, name)
        if value is not None:
            filled[name.replace("_", "-")] = str(value)
    for name, value in filled.items():
        if not value or re.search(r"\s", value):
            raise ValueError(f"--{name}={value!r} must be one word")
    limit, seconds = slurm_time(options.time)
    # Slurm may send it a minute early, so that a short job has less to lose by a short lead.
    return filled | {"time": limit, "signal": f"USR1@{min(_LEAD_SECONDS, max(1, seconds // 10))}"}


def slurm_time(text: str) -> tuple[str, int]:
    """A time limit as Slurm writes it, and in seconds.

    Args:
        text: 2h, 90m, 1d12h, 45s, or Slurm's own forms (minutes, m:s, h:m:s, d-h, d-h:m, d-h:m:s).

    Raises:
        ValueError: it is none of these, or zero.
    """
    if text and (found := _TIME.fullmatch(text)) and not text.isdecimal():
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    elif found := _CLOCK.fullmatch(text):
        days, *parts = (int(part or 0) for part in found.groups())
        given = sum(part is not None for part in found.groups()[1:])
        if found.group(1) is not None or given == 3:
            hours, minutes, seconds = parts
        else:
            hours, minutes, seconds = 0, parts[0], parts[1]
    else:
        raise ValueError(f"--time={text!r} is no time limit: write 2h, 90m, 1d12h or 2:00:00")
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise ValueError(f"--time={text!r} must be longer than nothing")
    minutes, seconds = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{seconds:02}"
    return (f"{days}-{clock}" if days else clock), total


def render(
    template: str, options: Mapping[str, str], arguments: list[str], ranks_per_node: int | None = None
) -> str:
    """A batch script that needs nothing beside it.

    Args:
        template: train.sbatch, array.sbatch or preempt.sbatch.
        options: of sbatch, without dashes; they replace the template's, or join them.
        arguments: CONFIG and flags of sngd train.
        ranks_per_node: where it is not one for each GPU or CPU.
    """
    first, *rest = template.splitlines()
    stated = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", template, re.MULTILINE))
    said = " ".join(shlex.join(arguments).split("\n"))  # a flag of several lines would leave the comment
    lines = [first, f"# sngd submit {said}"]
    lines += [f"#SBATCH --{name}{value and '='}{value}" for name, value in (stated | dict(options)).items()]
    for line in rest:
        if line == _COMMON:
            lines.append(f"PYTHON=${{PYTHON:-{shlex.quote(sys.executable)}}}")
            if ranks_per_node is not None:
                lines.append(f"RANKS_PER_NODE={ranks_per_node}")
            lines.append(f"set -- {shlex.join(arguments)}")
            lines += _folder().joinpath("common.sh").read_text().splitlines()
        elif not line.startswith("#"):  # what they say of the template is done
            lines.append(line)
    return "\n".join(lines) + "\n"


def _folder() -> Path:
    """The batch scripts: beside this file in an installed package, in slurm/ of a checkout."""
    here = Path(__file__).resolve().parent
    return next(folder for folder in (here / "slurm", here.parent / "slurm") if folder.is_dir())


def _template(name: str) -> str:
    return _folder().joinpath(f"{name}.sbatch").read_text()


def _hand_over(command: list[str], script: str) -> str:
    if shutil.which("sbatch") is None:
        raise ValueError(
            "sbatch is not found: submit from a machine that has Slurm, or print the script with --dry-run"
        )
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"sbatch refused the job: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]


def _output(script: str, job: str) -> str:
    """The file of a job's output, an array's task left open."""
    found = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", script, re.MULTILINE))
    name = found["output"].replace("%x", found["job-name"]).replace("%j", job).replace("%A", job)
    return str(name.replace("%a", "TASK"))


def _results(options: argparse.Namespace, flags: list[str], job: str) -> str:
    """The run folder, as common.sh names it."""
    for number, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name in ("--run-dir", "--run_dir"):
            return (value if equals else flags[number + 1]) + ("/TASK" if options.array else "")
    config = config_path(options.config)
    if config.suffix != ".py":
        return f"runs/NAME-job{job}_TASK"
    return f"runs/{config.stem}-job{job}{'_TASK' if options.array else ''}"
