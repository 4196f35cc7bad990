"""Disks that are full and folders that cannot be written to."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sngd.checkpoint import Checkpoint
from sngd.exit_codes import NOT_KEPT, USER_ERROR
from tests.faults.kills import check_end, command
from tests.faults.looks import at_step, files, go_on, kept
from tests.faults.starts import wait_until

pytestmark = pytest.mark.launch

SLOW = "0.002"  # seconds per residual: whoever watches is in time


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of its own, of 1 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", path], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk of its own: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    path = disk / "somebody's"
    with path.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(512))
    return path


def test_a_disk_that_is_full_for_a_while(forks, disk, reference, table):
    folder = disk / "run"
    start = forks.start(command(folder), SLOW=SLOW)
    at_step(folder, 6)
    before = kept(folder)
    filler = fill(disk)
    # what a checkpoint that fails gives back is taken, too
    wait_until(lambda: fill(disk) and "could not be written" in start.said(), "a warning")
    assert Checkpoint.load(folder).step >= before
    filler.unlink()
    code, said = start.wait()
    assert code == 0, said
    check_end(folder, reference)
    after = "the run goes on; checkpoint and history are written once there is room, nothing is missing"
    table.row("the disk is full for some steps", of_checkpoints(said), code, after)


def of_checkpoints(said: str) -> str:
    """Warnings and errors of checkpoints; whether other files find room is chance."""
    return "\n".join(line for line in said.splitlines() if "the checkpoint of step" in line)


def test_a_disk_that_stays_full(forks, disk, reference, table):
    folder = disk / "run"
    start = forks.start(command(folder), SLOW=SLOW)
    at_step(folder, 6)
    before = kept(folder)
    filler = fill(disk)
    wait_until(lambda: fill(disk) and start.ended(), "the run has ended")
    code, said = start.wait()
    assert code == NOT_KEPT, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert kept(folder) >= before
    assert f"the last whole one is that of step {kept(folder)}" in errors[0]
    filler.unlink()
    go_on(forks, folder, reference)
    after = "goes on from the last whole checkpoint once there is room, with the same θ, bit for bit"
    table.row("the disk is full until the end", of_checkpoints(said), code, after)


def test_a_disk_that_is_full_at_the_start(forks, disk, reference, table):
    folder, filler = disk / "run", fill(disk)
    code, said = forks.start(command(folder)).wait()
    assert code == USER_ERROR
    assert len(said.strip().splitlines()) == 1
    filler.unlink()
    go_on(forks, folder, reference)
    table.row(
        "the disk is full at the start", said, code, "the same command begins the run once there is room"
    )


def allow(folder: Path, mode: int) -> None:
    """Set the mode of all folders in it and of itself."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            os.chmod(path, mode)


READ, WRITE = 0o555, 0o755


def test_a_folder_that_cannot_be_made(forks, folder, table):
    os.chmod(folder.parent, READ)
    code, said = forks.start(command(folder), powerless=True).wait()
    os.chmod(folder.parent, WRITE)
    assert code == USER_ERROR
    assert len(said.strip().splitlines()) == 1
    said = said.replace(f"{str(folder.parent)!r} is", "FOLDER is")
    table.row("the folder above is read-only at the start", said, code, "nothing was begun")


def test_a_read_only_folder_at_resume(forks, folder, reference, table):
    assert forks.start([*command(folder), "--max-steps", "9"], powerless=True).wait() == (0, "")
    allow(folder, READ)
    left = files(folder)
    code, said = forks.start(command(folder), powerless=True).wait()
    assert code == USER_ERROR
    assert len(said.strip().splitlines()) == 1
    assert files(folder) == left
    allow(folder, WRITE)
    assert forks.start(command(folder), powerless=True).wait() == (0, "")
    check_end(folder, reference)
    after = "nothing is touched; the same command goes on once it is writable"
    table.row("the run folder is read-only at resume", said, code, after)


def test_a_folder_that_turns_read_only(forks, folder, reference, table):
    start = forks.start(command(folder), powerless=True, SLOW=SLOW)
    at_step(folder, 6)
    kept(folder)
    allow(folder, READ)
    code, said = start.wait()
    assert code == NOT_KEPT, said
    allow(folder, WRITE)
    assert forks.start(command(folder), powerless=True).wait()[0] == 0
    check_end(folder, reference)
    after = "goes on from the last whole checkpoint once it is writable, with the same θ, bit for bit"
    table.row("the run folder turns read-only in the middle", of_checkpoints(said), code, after)
