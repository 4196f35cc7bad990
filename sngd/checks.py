"""What a number in a config may be, how it is said when it is not, and where a user's code fails."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["place_of", "positive", "require", "whole", "whole_numbers", "within"]


def whole(x: Any, least: int) -> bool:
    """A whole number ≥ least; True and False are none."""
    return isinstance(x, int) and not isinstance(x, bool) and x >= least


def whole_numbers(x: Any) -> bool:
    """One or more whole numbers ≥ 1, in a tuple or list."""
    return isinstance(x, (tuple, list)) and bool(x) and all(whole(one, 1) for one in x)


def within(x: Any, low: float, high: float) -> bool:
    """A number strictly between low and high, so never NaN; True and False are none."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and low < x < high


def positive(x: Any) -> bool:
    """A number > 0, infinity included."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and x > 0


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
            raise ValueError(f"{prefix}{name}={getattr(config, name)!r} must be {wanted}")


def place_of(error: Exception) -> str:
    """Line of the user's code that an exception passed through last, " at file:line"; "" where none did."""
    package = Path(__file__).parent
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if package not in Path(f.filename).parents and "site-packages" not in f.filename]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
