"""A run's files: what history and result hold, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch

from sngd.tracking import HistoryFile, ResultFile, read_history
from tests.tracked import INFO, RESULT, record

# History


def test_history_is_json_lines_on_disk_after_every_step(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    hook = HistoryFile(path)
    hook.start(INFO)
    for step in (1, 2):
        hook.step(record(step, losses={"equation": 0.5}))
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2][:step]
    hook.end(RESULT)
    assert path.read_text().endswith("}\n")
    assert read_history(path) == [record(step, losses={"equation": 0.5}) for step in (1, 2)]


def test_history_holds_valid_json_whatever_the_values(tmp_path: Path) -> None:
    hook = HistoryFile(tmp_path / "h")
    hook.start(INFO)
    odd = {
        "nan": math.nan,
        "inf": -math.inf,
        "numpy": np.float32(0.5),
        "flag": np.bool_(True),
        "list": [np.int64(3), (1, math.nan)],
        "tensor": torch.tensor([1.0, math.inf]),
        "nested": {"λ": {2: torch.tensor(7)}},
        "path": Path("a/b"),
        "none": None,
        "true": True,
    }
    hook.step(odd)
    hook.end({})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads((tmp_path / "h").read_text(), parse_constant=refuse) == {
        "nan": None,
        "inf": None,
        "numpy": 0.5,
        "flag": True,
        "list": [3, [1, None]],
        "tensor": [1.0, None],
        "nested": {"λ": {"2": 7}},
        "path": "a/b",
        "none": None,
        "true": True,
    }


def test_history_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("kept")
    with pytest.raises(FileExistsError):
        HistoryFile(tmp_path / "h").start(INFO)
    assert (tmp_path / "h").read_text() == "kept"


class HalfFull:
    """A file on a disk that takes so many bytes more."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self.file, self.room = file, room

    def write(self, content: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(content[: self.room])
        self.room -= written
        return written

    def truncate(self, size: int) -> None:
        self.room += self.file.tell() - size
        self.file.truncate(size)

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize("room", [0, 1, 40, 200])
def test_lines_that_a_full_disk_does_not_take_are_told_once_and_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    hook = HistoryFile(tmp_path / "h")
    hook.start(INFO)
    hook._file = disk = HalfFull(hook._file, room)
    for step in range(9):
        if step == 5:
            assert (tmp_path / "h").read_bytes().count(b"\n") == len(read_history(tmp_path / "h")) < 5
            disk.room = 10**6
        hook.step(record(step))
    hook.end(RESULT)
    assert [line["step"] for line in read_history(tmp_path / "h")] == list(range(9))
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert "No space left" in caplog.text
    assert str(tmp_path / "h") in caplog.text


def test_a_history_that_lacks_its_last_steps_says_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hook = HistoryFile(tmp_path / "h")
    hook.start(INFO)
    hook.step(record(0))
    hook._file = HalfFull(hook._file, 3)
    hook.step(record(1))
    hook.step(record(2))
    hook.end(RESULT)
    assert "without the last 2 steps" in caplog.text
    assert [line["step"] for line in read_history(tmp_path / "h")] == [0]


def test_the_warning_reaches_standard_error_without_any_set_up(tmp_path: Path) -> None:
    code = "from sngd.tracking import HistoryFile\nh = HistoryFile('h')\nh.step({})\nh.step({})\nprint('on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert done.stderr.count("the run goes on without") == 1


# Reading


@pytest.mark.parametrize("rest", ["", "\n", '{"step": 3, "lo', '{"step": 3, "name": "\xe2', "{"])
def test_a_line_cut_off_at_the_end_is_left_out(tmp_path: Path, rest: str) -> None:
    (tmp_path / "h").write_bytes(b'{"step": 1}\n{"step": 2}\n' + rest.encode("latin-1"))
    assert read_history(tmp_path / "h") == [{"step": 1}, {"step": 2}]


def test_a_last_line_without_its_newline_counts_when_whole(tmp_path: Path) -> None:
    (tmp_path / "h").write_text('{"step": 1}\n{"step": 2}')
    assert read_history(tmp_path / "h") == [{"step": 1}, {"step": 2}]


def test_an_empty_history_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "h").touch()
    assert read_history(tmp_path / "h") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"b\n{"c": 1}\n', "line 2 is not JSON"),
        ('{"a": 1}\n\n{"c": 1}\n', "line 2 is not JSON"),
        ("3\n", "line 1 must be an object, got int"),
    ],
)
def test_damage_elsewhere_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "h").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_history(tmp_path / "h")


# Result


def test_result_is_put_in_place_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    seen = []
    replace = os.replace

    def spy(source: Path, target: Path) -> None:
        seen.append((json.loads(Path(source).read_text())["steps"], Path(target).read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    hook = ResultFile(path)
    hook.start(INFO)
    hook.step(record(1))
    assert path.read_text() == "old"
    hook.end(RESULT | {"relative_l2": math.nan})
    assert seen == [(77, "old")]
    assert json.loads(path.read_text()) == RESULT | {"relative_l2": None}
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_that_cannot_be_written_leaves_the_old_one_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    ResultFile(path).end(RESULT)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert "No space left" in caplog.text


# Going on


def written(path: Path, steps: int) -> None:
    hook = HistoryFile(path)
    hook.start(INFO)
    for step in range(1, steps + 1):
        hook.step(record(step, loss=1 / 3 / step, taken="before"))
    hook.close()


def test_a_history_that_goes_on_keeps_the_steps_of_the_checkpoint_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "h"
    written(path, 7)
    lines = path.read_text().splitlines(keepends=True)
    with path.open("a") as file:
        file.write('{"step": 8, "lo')  # a process was killed here
    hook = HistoryFile(path)
    hook.start(INFO | {"resumed": 5})
    assert path.read_text() == "".join(lines[:5])
    for step in (6, 7):
        hook.step(record(step, taken="after"))
    hook.end(RESULT)
    assert [(r["step"], r["taken"]) for r in read_history(path)] == [
        *[(step, "before") for step in range(1, 6)],
        *[(step, "after") for step in (6, 7)],
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_cutting_back_leaves_the_old_history_if_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "h"
    written(path, 4)
    before = path.read_text()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        HistoryFile(path).start(INFO | {"resumed": 2})
    assert path.read_text() == before


@pytest.mark.parametrize("steps", [[1, 2], [1, 3, 4], [1, 2, 2, 3, 4], []])
def test_a_run_goes_on_without_lost_lines_of_its_history_and_says_so(
    tmp_path: Path, steps: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "h"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in steps))
    hook = HistoryFile(path)
    hook.start(INFO | {"resumed": 4})
    hook.step(record(5))
    hook.end(RESULT)
    assert [kept["step"] for kept in read_history(path)] == [*steps, 5]
    (warning,) = caplog.messages
    assert "does not hold every step up to 4" in warning


def test_a_history_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    path = tmp_path / "h"
    written(path, 3)
    hook = HistoryFile(path)
    hook.start(INFO | {"resumed": 0, "replace": True})
    hook.step(record(1))
    hook.end(RESULT)
    assert read_history(path) == [record(1)]
