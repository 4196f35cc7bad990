"""Reads a run of W&B from the file that it keeps, without a server: config, rows, summary, how it ended.

The file is a log in blocks of 32 KiB, the layout of LevelDB's log (doc/log_format.md): records are cut into
chunks, each with a header of 7 bytes (checksum, length, kind), none of which crosses the end of a block. A
record is a protobuf message, and wandb brings its description along.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32 * 1024, struct.Struct("<IHB")
_MAGIC, _START = b":W&B", 7
_FULL, _FIRST, _LAST = 1, 2, 4


@dataclass
class WandbRun:
    """What a file says of its run."""

    identity: str = ""
    project: str = ""
    group: str = ""
    name: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    metrics: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def steps(self) -> list[int]:
        return [row["_step"] for row in self.rows]


def messages(path: Path) -> Iterator[bytes]:
    """The records of a file, put together from their chunks; a cut-off tail is left out."""
    data = path.read_bytes()
    assert data.startswith(_MAGIC), f"{path} is no file of W&B"
    at, parts = _START, []
    while at + _HEADER.size <= len(data):
        room = _BLOCK - at % _BLOCK
        if room < _HEADER.size:
            at += room
            continue
        _, length, kind = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if not kind:  # the rest of a block is empty
            at += room - _HEADER.size
            continue
        if kind in (_FULL, _FIRST):
            parts = []
        parts.append(data[at : at + length])
        at += length
        if kind in (_FULL, _LAST):
            yield b"".join(parts)


def items(updates: Any) -> dict[str, Any]:
    return {"/".join(u.nested_key) or u.key: json.loads(u.value_json) for u in updates}


def read_run(path: Path) -> WandbRun:
    """The run of one file."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    run, record = WandbRun(), Record()
    for message in messages(path):
        try:
            record.ParseFromString(message)
        except DecodeError:  # of a process that was killed
            break
        match record.WhichOneof("record_type"):
            case "run":
                told = record.run
                run.identity, run.project, run.group = told.run_id, told.project, told.run_group
                run.name, run.tags = told.display_name, list(told.tags)
                run.config |= items(told.config.update)
            case "config":
                run.config |= items(record.config.update)
            case "history":
                run.rows.append(items(record.history.item))
            case "summary":
                run.summary |= items(record.summary.update)
            case "artifact":
                run.artifacts.append(record.artifact.name)
            case "metric":
                run.metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            case "exit":
                run.exit_code = record.exit.exit_code
    return run


def segments(folder: Path) -> list[WandbRun]:
    """The offline runs of a run folder in the order of their starts."""
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    return [read_run(path) for path in files]
