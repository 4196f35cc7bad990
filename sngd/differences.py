"""Where the config of an earlier start and that of this one differ, field by field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sngd.config import RunConfig, describe

__all__ = ["differences"]

# A value is told in so many characters, from shortly before the place where it differs.
_LONGEST, _BEFORE = 60, 12


def differences(saved: Mapping[str, Any], run: RunConfig, free: Collection[str] = ()) -> list[str]:
    """Fields that differ, in the order of the config: "network.hidden was [4, 4], now is [4, 5]".

    A field that an older version did not know had the value that is its default now. Of a part of another
    kind, e.g. another optimizer, no fields are compared.

    Args:
        saved: what `describe` said of the earlier start.
        run: this one.
        free: fields that may differ.
    """
    fields = ({n: x for n, x in one.items() if n not in free} for one in (saved, describe(run)))
    before, now = (json.loads(json.dumps(one)) for one in fields)
    return list(_below(before, now, run, ""))


def _below(before: Mapping[str, Any], now: Mapping[str, Any], owner: Any, above: str) -> Iterator[str]:
    """Differences of fields of one part; `owner` is what `now` describes."""
    for name in [*now, *(name for name in before if name not in now)]:
        was = before[name] if name in before else _default(owner, name)
        inner = owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)
        yield from _between(was, now.get(name), _by_name(inner), above + name)


def _default(owner: Any, name: str) -> Any:
    """That of a field, as `describe` says it; None where it has none."""
    for field in dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ():
        if field.name == name and field.default is not dataclasses.MISSING:
            default = field.default
            if dataclasses.is_dataclass(default) and not isinstance(default, type):
                return {"type": type(default).__name__}  # its fields have their defaults, too
            return json.loads(json.dumps(default, default=str))
    return None


def _between(was: Any, now: Any, owner: Any, key: str) -> Iterator[str]:
    """Differences of one field, or of those that it has."""
    nothing: tuple[Any, ...] = (None, {}, [])  # alike: a part that was not written, and an empty one
    if was == now or (was in nothing and now in nothing):
        return
    was, now = _by_name(was), _by_name(now)
    parts = isinstance(was, Mapping) and isinstance(now, Mapping) and was and now
    if not parts or was.get("type") != now.get("type"):
        yield _told(key, _short(was), _short(now))
    elif list(was) != list(now) and all(isinstance(x, Mapping) for x in (*was.values(), *now.values())):
        yield _told(key, ", ".join(was), ", ".join(now))
    else:
        yield from _below(was, now, owner, f"{key}.")


def _by_name(value: Any) -> Any:
    """A list of parts that have names, by their names."""
    if not (isinstance(value, (list, tuple)) and value):
        return value
    names = [one.get("name") if isinstance(one, Mapping) else getattr(one, "name", None) for one in value]
    return value if None in names else dict(zip(names, value, strict=True))


def _short(value: Any) -> Any:
    """A part as the kind that it is."""
    if isinstance(value, Mapping) and value:
        return value.get("type") or ", ".join(value)
    return value


def _told(key: str, was: Any, now: Any) -> str:
    """One difference, of long values the place."""
    first, second = repr(was), repr(now)
    pairs = enumerate(zip(first, second, strict=False))
    start = max(0, next((at for at, (a, b) in pairs if a != b), 0) - _BEFORE)
    return f"{key} was {_cut(first, start)}, now is {_cut(second, start)}"


def _cut(text: str, start: int) -> str:
    if len(text) <= _LONGEST:
        return text
    cut = text[start : start + _LONGEST]
    return f"{'…' * bool(start)}{cut}{'…' * (start + _LONGEST < len(text))}"
