"""What commands have in common: the run that CONFIG means, and the one that a run folder holds."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from sngd.checkpoint import Checkpoint
from sngd.checks import told, words_of
from sngd.commands.saying import run_folder_parser
from sngd.config import RunConfig, parse_overrides
from sngd.config_files import load_source
from sngd.flags import Parser, refuse_repeated
from sngd.folder import Source
from sngd.library import config_path
from sngd.networks import AnyNetwork
from sngd.stages import trained_network
from sngd.standing import CONFIG

__all__ = ["load", "restore", "result_parser"]


def load(config: str, flags: list[str], program: str) -> tuple[RunConfig, Source]:
    """The run of a config file, of problems:NAME or of a run folder's config.json, with flags applied.

    Raises:
        ValueError: there is no such config, or it defines no sound run.
    """
    refuse_repeated(flags)
    path = config_path(config)
    if path.suffix == ".json":
        return _load_saved(path, flags, program)
    run, text = load_source(path)
    return parse_overrides(run, flags, program), Source(path, text, flags)


def _load_saved(path: Path, flags: list[str], program: str) -> tuple[RunConfig, Source]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["source"]
        original, text, stored = Path(saved["path"]), saved["text"], saved["flags"]
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not the config.json of a run: {words_of(error)}") from error
    checks = (
        ("path", str(original), original.suffix == ".py" and "\0" not in str(original)),
        ("text", text, isinstance(text, str) and _encodes(text)),
        ("flags", stored, isinstance(stored, list) and all(isinstance(flag, str) for flag in stored)),
    )
    for name, value, good in checks:
        if not good:
            raise ValueError(f"{str(path)!r} is not the config.json of a run: source.{name}={told(value)}")
    stored = _without(stored, "--run-dir")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / original.name
        copy.write_text(text, encoding="utf-8", newline="")
        with _importable(original.resolve().parent):
            run, _ = load_source(copy)
    return parse_overrides(run, [*stored, *flags], program), Source(original, text, [*stored, *flags])


def _encodes(text: str) -> bool:
    """Whether a text can be written to a file, as half of a surrogate pair cannot."""
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


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


def result_parser(command: str, description: str, examples: Mapping[str, str]) -> Parser:
    """A parser of `sngd COMMAND RUN` that looks at parameters of a run."""
    parser = run_folder_parser(command, description, examples=examples)
    parser.add_argument(
        "--checkpoint",
        default="last",
        metavar="WHICH",
        help='parameters to take: "last" (default), "best" or a step that `sngd status RUN` lists',
    )
    return parser


def restore(folder: Path, which: str = "last") -> tuple[RunConfig, AnyNetwork, Tensor]:
    """Config, network and parameters (P,) of a run folder.

    Args:
        folder: RUN.
        which: checkpoint: "last", "best" or a step.

    Raises:
        ValueError: it holds no run, or a damaged one.
    """
    if not folder.is_dir():
        raise ValueError(f"run folder {str(folder)!r} does not exist")
    run, _ = load(str(folder / CONFIG), [], "sngd")
    checkpoint = Checkpoint.load(folder, which)
    for text in checkpoint.skipped:
        print(f"warning: {text}; that of step {checkpoint.step} is taken", file=sys.stderr)
    theta = checkpoint.theta
    network = trained_network(run)
    if theta.numel() != network.parameters:
        raise ValueError(
            f"the checkpoint holds {theta.numel()} parameters, the config's network has {network.parameters}"
        )
    return run, network.to(theta.dtype, "cpu"), theta
