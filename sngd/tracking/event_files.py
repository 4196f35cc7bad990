"""TensorBoard: numbers and pictures of a run as event files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sngd.tracking.background import BackgroundWriter
from sngd.tracking.base import Values, numbers
from sngd.tracking.files import read_history

__all__ = ["TensorBoard"]


class TensorBoard(BackgroundWriter):
    """Event files in a run folder's tensorboard/. Every number of a record is a scalar over its step.

    A run that goes on tells TensorBoard to forget all steps that it has, and writes those of history.jsonl
    anew: the tail that was lost with the process before is there again, and none is there twice.

    Args:
        folder: run folder.

    Raises:
        ValueError: the package is missing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("TensorBoard")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                f"tracking.tensorboard=True needs a package ({error}): pip install 'sngd[tensorboard]'"
            ) from error
        self._make, self._folder = SummaryWriter, folder
        self._writer: Any = None
        self._step = 0

    def start(self, info: Values) -> None:
        """Open a file; write the steps before, if the run goes on."""
        resumed = int(info.get("resumed") or 0)
        self._later(lambda: self._open(resumed))

    def step(self, record: Values) -> None:
        """Hand a record over."""
        self._later(lambda: self._write(record))

    def drawn(self, pictures: Sequence[Path]) -> None:
        """The pictures, at the last step."""
        self._later(lambda: self._draw(list(pictures)))

    def _open(self, resumed: int) -> None:
        again = {"purge_step": 0} if resumed else {}
        self._writer = self._make(str(self._folder / "tensorboard"), **again)
        if resumed:
            for record in read_history(self._folder / "history.jsonl"):
                if record["step"] <= resumed:
                    self._write(record)

    def _write(self, record: Values) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._step = record["step"]
        values = [Summary.Value(tag=name, simple_value=x) for name, x in numbers(record).items()]
        # one event a step, not one a tag
        self._writer.file_writer.add_summary(Summary(value=values), self._step)

    def _draw(self, pictures: list[Path]) -> None:
        from matplotlib.image import imread

        for picture in pictures:
            self._writer.add_image(f"pictures/{picture.stem}", imread(picture), self._step, dataformats="HWC")

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
