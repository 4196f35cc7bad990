"""What a number in a config may be, how it is said when it is not, and where a user's code fails."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeGuard

__all__ = [
    "at_least",
    "failure",
    "finite",
    "one_of",
    "place_of",
    "positive",
    "real",
    "require",
    "told",
    "whole",
    "whole_numbers",
    "within",
    "words",
    "words_of",
]

# Greatest whole number that torch takes.
_MOST = 2**63 - 1
# Characters of a value, and of another program's error, that a message shows.
_SHOWN, _WORDS = 500, 500


def whole(x: Any, least: int) -> bool:
    """A whole number ≥ least, below 2**63; True and False are none."""
    return isinstance(x, int) and not isinstance(x, bool) and least <= x <= _MOST


def whole_numbers(x: Any) -> bool:
    """One or more whole numbers ≥ 1, in a tuple or list."""
    return isinstance(x, (tuple, list)) and bool(x) and all(whole(one, 1) for one in x)


def finite(x: Any) -> TypeGuard[float]:
    """A finite int or float, no int beyond the floats; True and False are none."""
    return isinstance(x, (int, float)) and real(x)


def real(x: Any) -> bool:
    """A finite real number of any type, numpy's scalars included; True and False are none."""
    if not isinstance(x, Real) or isinstance(x, bool):
        return False
    try:
        return math.isfinite(x)
    except OverflowError:  # a whole number beyond the floats
        return False


def within(x: Any, low: float, high: float) -> bool:
    """A number strictly between low and high."""
    return finite(x) and low < x < high


def at_least(x: Any, low: float, high: float = math.inf) -> bool:
    """A number with low ≤ x < high."""
    return finite(x) and low <= x < high


def positive(x: Any) -> bool:
    """A number > 0, infinity included."""
    return within(x, 0, math.inf) or (isinstance(x, float) and x == math.inf)


def one_of(x: Any, options: Sequence[str]) -> bool:
    """One of several words."""
    return isinstance(x, str) and x in options


def words(x: Any) -> bool:
    """Words in a tuple, or none."""
    return isinstance(x, tuple) and all(isinstance(one, str) for one in x)


def told(value: Any) -> str:
    """A value as a message shows it: its repr in one line, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # whatever a foreign class does, and whole numbers of thousands of digits
        return f"<{type(value).__name__}>"
    return _line(text, _SHOWN)


def words_of(error: BaseException) -> str:
    """What an error says, in one line, cut where it is long."""
    try:
        return _line(str(error), _WORDS)
    except Exception:  # its own __str__ fails
        return ""


def failure(error: BaseException) -> str:
    """Where a user's code has failed, and how: " at file:line: NameError: name 'a' is not defined"."""
    return f"{place_of(error)}: {type(error).__name__}: {words_of(error)}"


def _line(text: str, most: int) -> str:
    line = re.sub(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]\s*", " ", text.strip())
    return line if len(line) <= most else f"{line[:most]}…"


def require(config: Any, checks: Sequence[tuple[str, bool, str]], prefix: str = "") -> None:
    """Refuse a config at the first field that is out of range.

    Args:
        config: holds the fields.
        checks: (field, whether it is good, what it must be).
        prefix: stands before the field's name, "optimizer." for one.

    Raises:
        ValueError: names field, value and what would be right.
    """
    for name, good, wanted in checks:
        if not good:
            value = getattr(config, name)
            beyond = ", below 2**63" if isinstance(value, int) and value > _MOST else ""
            raise ValueError(f"{prefix}{name}={told(value)} must be {wanted}{beyond}")


def place_of(error: BaseException) -> str:
    """Line of the user's code that an exception passed through last, " at file:line"; "" where none did."""
    package = Path(__file__).parent
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if package not in Path(f.filename).parents and "site-packages" not in f.filename]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
