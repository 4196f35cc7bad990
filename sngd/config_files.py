"""Config files: Python that assigns run = RunConfig(...), and where in one a mistake is."""

from __future__ import annotations

import contextlib
import runpy
import sys
import traceback
from pathlib import Path

from sngd.checks import words_of
from sngd.config import RunConfig

__all__ = ["blame", "load_source"]


def load_source(path: Path) -> tuple[RunConfig, str]:
    """The run that a Python file defines, and the file's text.

    Raises:
        ValueError: no such file, an error while it runs (named by line), or no `run = RunConfig(...)`.
    """
    if not path.is_file():
        raise ValueError(f"config file {str(path)!r} does not exist")
    if path.suffix != ".py":
        raise ValueError(f"config file {str(path)!r} must be a Python file that assigns run = RunConfig(...)")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:  # what is kept of it in a run folder must be what has run
        raise ValueError(f"config file {str(path)!r} must be text in UTF-8: {error}") from error
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        names = runpy.run_path(str(path))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and whatever else a file may raise
        raise ValueError(blame(error, path)) from error
    finally:
        with contextlib.suppress(ValueError):  # the file may have taken it out
            sys.path.remove(folder)
    run = names.get("run")
    if not isinstance(run, RunConfig):
        found = f"`run` is {type(run).__name__}" if "run" in names else "it has no name `run`"
        raise ValueError(
            f"config file {str(path)!r} does not define a run ({found}): assign run = RunConfig(...)"
        )
    return run, text


def blame(error: BaseException, path: Path) -> str:
    """One line that says where in the user's file an error arose, and which."""
    if isinstance(error, SyntaxError):
        where = path if error.lineno is None else f"{path}:{error.lineno}"
        return f"{where}: SyntaxError: {words_of(ValueError(error.msg))}"
    resolved = path.resolve()
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == resolved
    ]
    where = f"{path}:{lines[-1]}" if lines else str(path)
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{where}: {kind}{words_of(error)}"
