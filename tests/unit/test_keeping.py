"""When checkpoints are kept, and what becomes of those that cannot be written."""

import dataclasses
import errno
import time

import pytest
import torch

from sngd import keeping
from sngd.checkpoint import Checkpoint, CheckpointError, Store
from sngd.collectives import LocalRanks
from sngd.config import RunConfig
from sngd.findings import Findings
from sngd.keeping import Keeper, random_states, restore_random_state
from sngd.problems import heat
from sngd.training import train
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")
ONE = torch.ones(1, dtype=torch.float64)


def _state(step):
    return Checkpoint(step, 0.0, 0, ONE, ONE, ONE, {}, [], {}, 1, 0)


def _keeper(folder, findings=None, lost=None, **fields):
    run = RunConfig(heat(60, 20, 20), **{"checkpoint_seconds": 1e-9, **fields})
    return Keeper(run, LocalRanks(), folder, findings or Findings(), lost)


class FullDisk:
    """Store.write fails while `full`."""

    def __init__(self, monkeypatch):
        self.full, self._write = True, Store.write
        monkeypatch.setattr(Store, "write", lambda store, *told: self(store, *told))

    def __call__(self, store, *told):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(store, *told)


def test_a_checkpoint_is_due_by_a_clock_that_does_not_jump(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(keeping.time, "monotonic", lambda: now[0])
    keeper = _keeper(tmp_path, checkpoint_seconds=60.0)
    now[0] += 59.0
    assert not keeper.due()
    now[0] += 2.0
    assert keeper.due()
    keeper.keep(_state(1), None)
    assert not keeper.due(), "one is being written"
    keeper.finished(wait=True)
    assert not keeper.due(), "it is early again"


def test_without_a_folder_nothing_is_due():
    keeper = _keeper(None)
    time.sleep(0.001)
    assert not keeper.due()
    keeper.keep(_state(1), None)
    assert keeper.finished(wait=True) == []


def test_a_full_disk_is_told_once_and_the_write_is_tried_again(tmp_path, monkeypatch):
    disk, findings = FullDisk(monkeypatch), Findings()
    keeper = _keeper(tmp_path, findings)
    keeper.started(0)
    for step in (1, 2):
        keeper.keep(_state(step), None)
        assert keeper.finished(wait=True) == []
    (found,) = findings.all
    assert (found.kind, found.step) == ("checkpoint", 1)
    assert "No space left on device" in found.text
    assert "there is none yet" in found.text
    assert keeper.due()
    with pytest.raises(CheckpointError, match=r"step 2 could not be written \(No space left.*make room"):
        keeper.check()
    disk.full = False
    keeper.keep(_state(3), None)
    ((path, step),) = keeper.finished(wait=True)
    assert (path.name, step) == ("step-000000003", 3)
    keeper.check()
    disk.full = True
    keeper.keep(_state(4), None)
    keeper.finished(wait=True)
    with pytest.raises(CheckpointError, match="the last whole one is that of step 3"):
        keeper.check()
    assert len(findings.all) == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "MemoryError"),
        (RuntimeError("Connection closed by peer [1]\nadvice"), "Connection closed by peer"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "a folder that all ranks share"),
    ],
)
def test_no_error_of_a_write_ends_a_run_under_way(tmp_path, monkeypatch, error, said):
    def fails(store, *told):
        raise error

    monkeypatch.setattr(Store, "write", fails)
    keeper = _keeper(tmp_path, findings := Findings())
    keeper.keep(_state(1), None)
    assert keeper.finished(wait=True) == []
    assert len(findings.all) == 1
    with pytest.raises(CheckpointError, match=said) as caught:
        keeper.check()
    assert "\n" not in str(caught.value)


def test_a_damaged_one_that_cannot_be_set_aside_is_named(tmp_path, monkeypatch):
    def read_only(store, *told):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Store, "clear", read_only)
    with pytest.raises(ValueError, match=r"cannot be set aside \(Read-only file system\): remove it"):
        _keeper(tmp_path).started(3)


def test_a_run_whose_last_checkpoint_is_not_written_says_so_and_keeps_the_one_before(tmp_path, monkeypatch):
    run = RunConfig(heat(60, 20, 20), max_steps=3, evaluate_points=50)
    train(run, LocalRanks(), CPU, folder=tmp_path)
    earlier = Checkpoint.load(tmp_path)
    FullDisk(monkeypatch)
    longer = dataclasses.replace(run, max_steps=5)
    with pytest.raises(CheckpointError, match=r"step 5 could not be written .* that of step 3"):
        train(longer, LocalRanks(), CPU, folder=tmp_path, earlier=earlier)
    assert Checkpoint.load(tmp_path).step == 3


def test_who_has_lost_the_folder_puts_nothing_in_place(tmp_path):
    keeper = _keeper(tmp_path, lost=lambda: True)
    keeper.keep(_state(1), None)
    assert keeper.finished(wait=True) == []
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_generators_go_on_where_they_stood():
    def states(ranks):
        return random_states(ranks, CPU)

    saved = on_ranks(2, states)[0]
    assert saved.shape == (2, len(torch.get_rng_state()))
    expected = torch.rand(3)
    torch.rand(100)
    restore_random_state(saved, 3, CPU)  # of rank 3 % 2
    assert torch.equal(torch.rand(3), expected)
