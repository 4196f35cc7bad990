"""What a run tells the world: console, history and result files, Weights & Biases, TensorBoard. Rank 0 only.

Each class is a hook of the training loop: start(info) once, step(record) after every step, saved(path, step)
after every checkpoint, end(result) once, then drawn(pictures) and close(). The loop knows no tool by name.
A hook that cannot write (full disk, closed terminal, dead server) says so once and never stops a run.
"""

from sngd.tracking.base import Values, Writer
from sngd.tracking.console import Console
from sngd.tracking.files import HistoryFile, ResultFile, read_history, write_whole

__all__ = ["Console", "HistoryFile", "ResultFile", "Values", "Writer", "read_history", "write_whole"]
