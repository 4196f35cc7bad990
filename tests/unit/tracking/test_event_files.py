"""TensorBoard: what stands in its files, read with its own reader, also after a run has gone on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from sngd.tracking import HistoryFile, TensorBoard
from tests.tracked import INFO, RESULT, record

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def follow(folder: Path, steps: range, resumed: int = 0, **more: Any) -> None:
    hooks = [HistoryFile(folder / "history.jsonl"), TensorBoard(folder)]
    for hook in hooks:
        hook.start(INFO | {"resumed": resumed})
    for step in steps:
        for hook in hooks:
            hook.step(record(step, loss=1 / step, losses={"walls": 0.5}, note="text", accepted=True, **more))
    for hook in hooks:
        hook.end(RESULT)
    picture = folder / "solution.png"
    matplotlib.image.imsave(picture, np.zeros((5, 7, 3)))
    for hook in hooks:
        hook.drawn([picture])
        hook.close()


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def test_every_number_of_every_step_and_the_pictures_are_there(tmp_path: Path) -> None:
    follow(tmp_path, range(1, 51), holdout=0.25, warnings=["a text"])
    found = read(tmp_path)
    expected = {"holdout"} | {
        "step",
        "seconds",
        "loss",
        "losses/walls",
        "relative_l2",
        "damping",
        "rank",
        "accepted",
    }
    assert set(found.Tags()["scalars"]) == expected
    assert [event.step for event in found.Scalars("loss")] == list(range(1, 51))
    assert [event.value for event in found.Scalars("loss")] == pytest.approx([1 / s for s in range(1, 51)])
    (picture,) = found.Images("pictures/solution")
    assert (picture.step, picture.width, picture.height) == (50, 7, 5)


def test_a_run_that_goes_on_has_every_step_once(tmp_path: Path) -> None:
    follow(tmp_path, range(1, 9), rank=1)
    (tmp_path / "tensorboard").rename(tmp_path / "lost")
    follow(tmp_path, range(6, 11), resumed=5, rank=2)  # the first process's file was never written
    assert [event.step for event in read(tmp_path).Scalars("rank")] == list(range(1, 11))
    for file in (tmp_path / "lost").iterdir():
        file.rename(tmp_path / "tensorboard" / file.name.replace(".tfevents.", ".tfevents.0"))
    found = read(tmp_path).Scalars("rank")
    assert [event.step for event in found] == list(range(1, 11)), "nor twice, if it was"
    assert [event.value for event in found] == [1] * 5 + [2] * 5


def test_a_folder_that_cannot_be_written_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file stands in the way")
    follow(tmp_path, range(1, 4))
    assert len(caplog.records) == 1
    assert "TensorBoard: " in caplog.text
    assert "the run goes on without" in caplog.text
