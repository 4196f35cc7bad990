"""What bad input may lead to: one line and a ValueError, or an exit code; never a traceback, never a hang.

Every example is counted by what became of it. `Tally.strict` makes a violation fail the example; otherwise it
is kept, so that a long run counts them all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import signal
import sys
import time
import traceback
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import torch

from sngd.checks import told
from sngd.cli import main

SECONDS = 20.0  # of the processor, after which an example hangs; or of waiting, six times as long
CODES = (0, 1, 2, 75, 130)
KINDS_OF_VIOLATION = ("traceback", "hang", "changed value", "unclear message")


class Violation(AssertionError):
    """What must not happen, of one of KINDS_OF_VIOLATION."""

    def __init__(self, what: str, text: str) -> None:
        super().__init__(f"{what}: {text}")
        self.what = what


class Hang(BaseException):
    """The time of an example is over. No Exception, so that no `except Exception` swallows it."""


@dataclasses.dataclass
class Tally:
    """What became of the examples of one kind."""

    strict: bool = True
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    found: list[str] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def example(self, shown: Any) -> Iterator[Counter[str]]:
        """Count one; inside, add to "accepted" or "refused"."""
        self.counts["examples"] += 1
        try:
            with limit(SECONDS):
                yield self.counts
        except Hang as hang:
            self._violated(Violation("hang", f"{shown!r}: {hang}"))
        except Violation as violation:
            self._violated(violation, shown)

    def _violated(self, violation: Violation, shown: Any = "") -> None:
        self.counts[violation.what] += 1
        self.found.append(f"{violation} <- {shown!r}"[:2000])
        if self.strict:
            raise AssertionError(self.found[-1])


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise Hang after so many seconds; whoever had set the timer before finds it running on."""

    def over(number: int, frame: Any) -> None:
        if time.process_time() - worked < seconds and time.monotonic() - began < 6 * seconds:
            return  # the processor was somebody else's
        where = "".join(traceback.format_stack(frame, limit=3))
        raise Hang(f"after {seconds:g} s in {where}")

    began, worked = time.monotonic(), time.process_time()
    handler = signal.signal(signal.SIGALRM, over)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # and every second from then on
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.1) if left else 0.0)
        signal.signal(signal.SIGALRM, handler)


# ---------------------------------------------------------------------------------------------
# Calls of Python
# ---------------------------------------------------------------------------------------------


def build(make: Callable[[], Any], unknown: tuple[str, ...] = ()) -> tuple[Any, str]:
    """What a call gives, or the one line that refuses it.

    Args:
        make: the call.
        unknown: keywords that it does not have.

    Raises:
        Violation: it fails in another way.
    """
    try:
        return make(), ""
    except TypeError as error:
        if any(repr(name) in str(error) for name in unknown):
            return None, str(error)
        raise Violation("traceback", _last(error)) from error
    except ValueError as error:
        return None, one_line(str(error))
    except Hang:
        raise
    except BaseException as error:
        raise Violation("traceback", _last(error)) from error


def one_line(message: str) -> str:
    """The message, if it is one line that says something."""
    if len(message.strip()) < 12 or len(message.splitlines()) != 1:
        raise Violation("unclear message", repr(message))
    return message


def _last(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {told(str(error))} at {where}"


def names_fault(message: str, given: Mapping[str, Any]) -> None:
    """Refuse a message that names none of the fields that were given, with its value."""
    if not any(f"{name}={told(value)}" in message for name, value in given.items()):
        raise Violation("unclear message", f"{message!r} names no field with its value")


# ---------------------------------------------------------------------------------------------
# Silently changed values
# ---------------------------------------------------------------------------------------------


def fits(hint: Any, value: Any) -> bool:
    """Whether a value is of a declared type; True is no number here, a list stands for a tuple."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(one, value) for one in inner)
    if origin is typing.Annotated:
        return fits(inner[0], value)
    if origin is Literal:
        return any(type(one) is type(value) and one == value for one in inner)
    if origin is tuple:
        return isinstance(value, (tuple, list)) and all(fits(inner[0], one) for one in value)
    if origin is not None:
        return isinstance(value, origin)
    if hint in (int, float):
        number = (int,) if hint is int else (int, float)
        return isinstance(value, number) and not isinstance(value, bool)
    return value is None if hint is type(None) else isinstance(value, hint)


def same(given: Any, found: Any) -> bool:
    """Whether what a config's description holds is what was given."""
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        fields = {f.name: getattr(given, f.name) for f in dataclasses.fields(given)}
        return (
            isinstance(found, dict)
            and found.keys() == {"type", *fields}
            and found["type"] == type(given).__name__
            and all(same(value, found[name]) for name, value in fields.items())
        )
    if isinstance(given, Mapping):
        return isinstance(found, dict) and all(same(value, found.get(key)) for key, value in given.items())
    if isinstance(given, (tuple, list)):
        return (
            isinstance(found, list)
            and len(found) == len(given)
            and all(same(*pair) for pair in zip(given, found, strict=True))
        )
    if given is None or isinstance(given, bool):
        return found is given
    if isinstance(given, (int, float)):
        kind = int if isinstance(given, int) else float
        alike = given == found or (math.isnan(given) and math.isnan(found))
        return isinstance(found, kind) and not isinstance(found, bool) and alike
    if isinstance(given, (str, Path)):
        return found == str(given)
    return isinstance(found, str)  # functions and modules, by their names


def written(text: str | list[str] | bool, found: Any) -> bool:
    """Whether a described value is what a flag's words say."""
    if isinstance(text, bool) or isinstance(found, bool):
        return text is found
    if isinstance(found, list):
        words = [text] if isinstance(text, str) else text
        return len(words) == len(found) and all(written(*pair) for pair in zip(words, found, strict=True))
    if isinstance(text, list):
        return len(text) == 1 and written(text[0], found)
    if found is None:
        return text.lower() in ("none", "null")
    if isinstance(found, int):
        return text.strip().lstrip("+").replace("_", "").isdecimal() and int(text) == found
    if isinstance(found, float):
        return float(text) == found
    return str(Path(text)) == str(found) or text == found


# ---------------------------------------------------------------------------------------------
# Command lines
# ---------------------------------------------------------------------------------------------


def command(arguments: list[str]) -> tuple[int, str]:
    """Exit code and standard error of a command in this process.

    Raises:
        Violation: it does not end as a command must.
    """
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
    except SystemExit as end:
        code = end.code
    except Hang:
        raise
    except BaseException as error:
        raise Violation("traceback", _last(error)) from error
    said = err.getvalue()
    if code not in CODES or isinstance(code, bool):
        raise Violation("traceback", f"exit code {code!r}: {said}")
    if "Traceback" in said or "Traceback" in out.getvalue():
        raise Violation("traceback", said)
    if code == 2:
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        boxed = "╭" in said or " ----" in said or "usage:" in out.getvalue()  # tyro's, or a command alone
        if not errors and not boxed:
            raise Violation("unclear message", f"exit code 2 and no error: {said!r}")
        if errors and not boxed and len(said.strip().splitlines()) != 1:
            raise Violation("unclear message", said)
    return code, said


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """What an example may change of the process, changed back."""
    dtype, threads, path = torch.get_default_dtype(), torch.get_num_threads(), list(sys.path)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        sys.path[:] = path
