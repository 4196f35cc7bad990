"""Commands of the documentation, run for a few steps and in this process, or as far as they can be checked.

What stands for what a reader has: for a RUN that no command of the page has made, a small finished run; for a
CONFIG that the page does not define, the file that `sngd init` writes.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from sngd.cli import main
from sngd.commands.common import load
from tests.docs.pages import ROOT

# Programs that are not ours, and that a test could only look for.
FOREIGN = {"wandb", "srun", "scancel", ".", "cd", "sha256sum"}
_RUN_COMMANDS = {"eval", "plot", "report", "export", "status", "resume"}
# A run of a page takes so many steps; what goes on takes two more.
_STEPS = 4
_CHEAP = {
    "doctor": ("--no-trial",),
    "submit": ("--dry-run",),
    "bench": ("--dry-run",),
    "eval": ("--points", "200"),
    "plot": ("--dpi", "20"),
}
_BUDGET = {"--max-steps", "--max-seconds", "--target-error"}


def run_line(line: str, folder: Path, steps: dict[str, int], finished: Path) -> None:
    """Run a command, or what of it can be checked.

    Args:
        line: of a shell block.
        folder: where the reader is.
        steps: taken in run folders of the page, by name.
        finished: a run folder that stands for those which the page has not made.
    """
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    program, arguments = words[0], words[1:]
    if program == "sngd":
        _sngd(arguments, folder, steps, finished)
    elif program == "python":
        _python(arguments, folder)
    elif program in ("torchrun", "mpirun", "deepspeed") or program.startswith("launch/"):
        _launcher(words)
    elif program in ("sbatch", "slurm/interactive.sh"):
        _batch(words)
    elif program in ("pip", "make", ".ci/run"):
        _project(words)
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in arguments if "/" in word), line
    else:
        assert program in FOREIGN, f"{program!r} is no program that the documentation may name"


def _sngd(words: list[str], folder: Path, steps: dict[str, int], finished: Path) -> None:
    command, rest = words[0], words[1:]
    if "--help" in rest:
        with pytest.raises(SystemExit) as ended:
            sys.exit(main(words))
        assert ended.value.code in (0, None)
        return
    if command == "train":
        return _train(rest, folder, steps, finished)
    if command in _RUN_COMMANDS:
        run = rest[0]
        if not (folder / run).is_dir():
            shutil.copytree(finished, folder / run)
            steps[run] = _STEPS
        if command == "resume":
            steps[run] += 2
            rest = [run, *_without(rest[1:], _BUDGET), "--max-steps", str(steps[run])]
    if command == "init":
        (folder / rest[0]).unlink(missing_ok=True)
    more = _CHEAP.get(command, ())
    assert main([command, *rest, *(() if set(more) & set(rest) else more)]) == 0, words
    return None


def _train(words: list[str], folder: Path, steps: dict[str, int], finished: Path) -> None:
    """Train the page's own configs; of those of the repository, check that flags and config fit."""
    config, flags = words[0], _without(words[1:], {"--ranks"})
    if config.endswith("/config.json"):
        config = str(finished / "config.json")
    own = (folder / config).is_file() and "/" not in config
    if not own or "--ranks" in words:
        flags = [flag for flag in flags if flag not in ("--resume", "--quiet")]
        load(config, flags, f"sngd train {config}")
        return
    run = flags[flags.index("--run-dir") + 1] if "--run-dir" in flags else ""
    if "--resume" in flags:
        steps[run] += 2
    else:
        steps[run] = _STEPS
    budget = ["--max-steps", str(steps[run]), "--device", "cpu", "--evaluate-points", "200", "--no-pictures"]
    assert main(["train", config, *_without(flags, _BUDGET), *budget]) == 0, words


def _python(words: list[str], folder: Path) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words
    elif words[0].startswith(("launch/",)):
        _launcher(["python", *words])
    else:
        runpy.run_path(str(folder / words[0]), run_name="__main__")


def _launcher(words: list[str]) -> None:
    """A launcher's line ends with a script of ours, a config and flags."""
    script = next(number for number, word in enumerate(words) if word.startswith("launch/"))
    assert (ROOT / words[script]).is_file(), words
    config, *flags = words[script + 1 :]
    load(config, [flag for flag in flags if flag not in ("--resume", "--quiet")], f"sngd train {config}")


def _batch(words: list[str]) -> None:
    script = next(number for number, word in enumerate(words) if word.startswith("slurm/"))
    assert (ROOT / words[script]).is_file(), words
    config = next(number for number, word in enumerate(words) if word.endswith((".py", ".txt")))
    load(words[config], words[config + 1 :], f"sngd train {words[config]}")


def _project(words: list[str]) -> None:
    """Extras, targets and scripts that there are."""
    if words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = re.search(r"(?:sngd|\.)\[(.+)\]", " ".join(words))
        if named is None:  # the checkout as it is
            assert words[1:] == ["install", "."], words
            return
        assert set(named[1].split(",")) <= set(extras), words
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word and not word.startswith("-")} <= {*targets}, (
            words
        )
    else:
        assert (ROOT / words[0]).is_file(), words


def _without(words: list[str], names: set[str]) -> list[str]:
    """Words less some flags and their values."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in names:
            kept.append(word)
        skip = word in names
    return kept
