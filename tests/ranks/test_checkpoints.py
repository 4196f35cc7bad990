"""Checkpoints that several ranks write together: each its shares, rank 0 the rest."""

import errno
import time

import pytest
import torch

from sngd.checkpoint import Checkpoint, Share, Store, tensors
from sngd.collectives import LocalRanks
from sngd.config import RunConfig
from sngd.findings import Findings
from sngd.keeping import Keeper
from sngd.problems import heat
from tests.ranks.harness import Failure, run_ranks
from tests.thread_ranks import on_ranks

ONE = torch.ones(1, dtype=torch.float64)
LENGTH = 3  # of a share


def _keeper(ranks, folder, findings=None):
    run = RunConfig(heat(60, 20, 20), checkpoint_seconds=1e-9)
    return Keeper(run, ranks, folder, findings or Findings())


def _state(ranks, step=1):
    own = torch.arange(LENGTH, dtype=torch.float64) + LENGTH * ranks.rank
    optimizer = {"moments": Share(own, ranks.rank, ranks.size), "whole": torch.full((2,), float(ranks.rank))}
    return Checkpoint(step, 0.0, 0, ONE, ONE, ONE, optimizer, [], {}, ranks.size, 0)


def _write(ranks, folder, steps):
    keeper, written = _keeper(ranks, folder), []
    for step in range(1, steps + 1):
        keeper.keep(_state(ranks, step), None)
        written += keeper.finished(wait=True)
    return written


@pytest.mark.parametrize("size", [2, 3])
def test_shares_are_put_together(tmp_path, size):
    first, *others = run_ranks(size, _write, tmp_path, 2)
    assert [step for _, step in first] == [1, 2]
    assert others == [[]] * (size - 1)
    for one in Store(tmp_path).all():
        names = {path.name for path in one.path.iterdir()}
        assert names == {"manifest.json", "SHA256SUMS", *(f"rank-{r}.tensors" for r in range(size))}
    loaded = Checkpoint.load(tmp_path)
    assert torch.equal(loaded.optimizer["moments"], torch.arange(size * LENGTH, dtype=torch.float64))
    assert torch.equal(loaded.optimizer["whole"], torch.zeros(2, dtype=torch.float32))


def test_without_shares_rank_0_writes_alone(tmp_path):
    def work(ranks):
        keeper = _keeper(ranks, tmp_path)
        keeper.keep(Checkpoint(1, 0.0, 0, ONE, ONE, ONE, {}, [], {}, 2, 0), None)
        return len(keeper.finished(wait=True))

    assert on_ranks(2, work) == [1, 0]
    assert Checkpoint.load(tmp_path).step == 1
    assert _keeper(LocalRanks(), tmp_path).due()


def _write_on_a_full_disk(ranks, folder):
    if ranks.rank == 1:

        def full(*told, **more):
            raise OSError(errno.ENOSPC, "No space left on device")

        torch.save = full
    findings = Findings()
    keeper = _keeper(ranks, folder, findings)
    keeper.keep(_state(ranks), None)
    assert keeper.finished(wait=True) == []
    return findings.all[0].text


def test_a_disk_that_is_full_on_one_rank_is_told_by_all(tmp_path):
    for told in run_ranks(2, _write_on_a_full_disk, tmp_path):
        assert "No space left on device, on rank 1" in told
    assert list((tmp_path / "checkpoints").iterdir()) == []


def _stop_while_another_writes(ranks, folder):
    if ranks.rank == 1:
        tensors._tried = lambda *told: time.sleep(1000)
    _keeper(ranks, folder).keep(_state(ranks), None)
    raise RuntimeError("this rank ends")


def test_whoever_waits_for_a_rank_that_does_not_write_can_end(tmp_path):
    ends = run_ranks(2, _stop_while_another_writes, tmp_path, fail=False, seconds=40.0)
    assert [(type(end), end.message) for end in ends] == [(Failure, "this rank ends")] * 2
