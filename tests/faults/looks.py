"""What tests of faults look at: how far a run is, what its folder holds, how it goes on."""

from __future__ import annotations

from pathlib import Path

from sngd.checkpoint import Checkpoint
from tests.faults.kills import Undisturbed, check_end, command
from tests.faults.starts import Forks, wait_until
from tests.histories import steps

EQUAL = "goes on from the last checkpoint and ends with the same θ, bit for bit"


def at_step(folder: Path, number: int) -> None:
    """Wait until the history holds a step."""
    wait_until(lambda: (steps(folder) or [0])[-1] >= number, f"step {number}")


def kept(folder: Path) -> int:
    """Step of the newest checkpoint, once there is one."""
    wait_until(lambda: Checkpoint.exists(folder), "a checkpoint")
    return Checkpoint.load(folder).step


def files(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def go_on(forks: Forks, folder: Path, reference: Undisturbed) -> str:
    """Resume to the end, which must be the undisturbed run's; what was said."""
    code, said = forks.start(command(folder)).wait()
    assert code == 0, said
    check_end(folder, reference)
    return said
