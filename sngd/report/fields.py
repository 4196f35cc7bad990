"""The config's fields in rows, and which of them differ from their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from sngd.adaptive import R3, RAD
from sngd.causal import Causal
from sngd.config import RunConfig
from sngd.curriculum import Curriculum
from sngd.marching import Marching
from sngd.modules import Module
from sngd.networks import NetworkConfig
from sngd.optimizers import OPTIMIZERS
from sngd.tracking import Tracking
from sngd.tracking.base import plain

__all__ = ["Row", "rows"]

_KINDS = {
    kind.__name__: kind
    for kind in (
        *(RunConfig, *OPTIMIZERS.values(), *get_args(NetworkConfig), Module),
        *(RAD, R3, Causal, Curriculum, Marching, Tracking),
    )
}
_ELSEWHERE = ("problem", "run_dir")  # are told of by themselves


@dataclasses.dataclass(frozen=True)
class Row:
    """A field.

    Args:
        name: e.g. "optimizer.rank".
        value: in words.
        default: in words, None where it has none.
        differs: the value from the default.
    """

    name: str
    value: str
    default: str | None
    differs: bool


def rows(fields: Mapping[str, Any]) -> list[Row]:
    """The fields of a config, those of its parts by their names with a point.

    Args:
        fields: as config.json has them.
    """
    shown = {name: value for name, value in fields.items() if name not in _ELSEWHERE}
    return list(_rows(shown, _defaults("RunConfig"), ""))


def _rows(fields: Mapping[str, Any], defaults: Mapping[str, Any], before: str) -> Iterator[Row]:
    for name, value in fields.items():
        default = defaults.get(name)
        if isinstance(value, Mapping):
            kind, had = value.get("type"), default.get("type") if isinstance(default, Mapping) else None
            if kind is not None:
                yield Row(f"{before}{name}", str(kind), _words(had), kind != had)
            parts = {key: part for key, part in value.items() if key != "type"}
            yield from _rows(parts, _defaults(str(kind)), f"{before}{name}.")
        else:
            known = name in defaults
            if isinstance(default, Mapping):
                default = default.get("type")
            yield Row(f"{before}{name}", _words(value), _words(default) if known else None, value != default)


def _defaults(kind: str) -> dict[str, Any]:
    """Defaults of the fields of a part; empty for one that is not known."""
    if kind not in _KINDS:
        return {}
    found = {}
    for one in dataclasses.fields(_KINDS[kind]):
        value = one.default
        if one.default_factory is not dataclasses.MISSING:
            value = one.default_factory()
        if value is dataclasses.MISSING:
            continue
        named = dataclasses.is_dataclass(value)
        found[one.name] = {"type": type(value).__name__} if named else plain(value)
    return found


def _words(value: Any) -> str:
    """A value as a config or a flag would have it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(one) for one in value) if value else "empty"
    return str(value)
