"""Collectives on R processes: results, equality on every rank, work under way, accounts."""

import importlib.util
import os
import time
import warnings
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from sngd import collectives
from sngd.traffic import Traffic
from tests.ranks.harness import Failure, run_ranks

SIZES = [2, 3, 4]
DTYPES = [torch.float32, torch.float64]
ROWS, COLUMNS = 5, 3  # of one rank's share


def _uneven(rank: int, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of another magnitude on every rank, so that the order of a sum shows in its last digits."""
    generator = torch.Generator().manual_seed(100 * rows + rank)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return (x * 10.0 ** (3 * (rank % 3) - 3)).to(dtype)


def _late(ranks) -> None:
    """Ranks do not come at the same time."""
    time.sleep(0.01 * (ranks.rank % 2))


# ---------------------------------------------------------------------------------------------
# Begun and waited for
# ---------------------------------------------------------------------------------------------


def _both_ways(ranks, dtype):
    """Results of what is begun and waited for, and of blocking calls."""
    size = ranks.size
    found = {}
    for rows in (1, ROWS, 4001):
        x = _uneven(ranks.rank, size * rows, COLUMNS, dtype)
        kept = x.clone()
        _late(ranks)
        summed = ranks.start_sum(x.clone(), "gradient")
        mine = ranks.start_scatter_sum(x, "sketch").wait()
        everyone = ranks.start_gather(mine, "basis").wait()
        assert torch.equal(x, kept)
        assert mine.shape == (rows, COLUMNS)
        blocking = ranks.sum(x.clone(), "gradient")
        stacked = ranks.gather(mine, "basis")
        found[rows] = summed.wait(), mine, everyone, blocking, stacked
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_what_is_begun_gives_what_blocking_calls_give(size, dtype):
    results = run_ranks(size, _both_ways, dtype)
    for rows in results[0]:
        want = sum(_uneven(rank, size * rows, COLUMNS, dtype).double() for rank in range(size))
        scale = float(want.abs().max()) * torch.finfo(dtype).eps * size
        _, _, whole, reference, _ = results[0][rows]
        for rank, found in enumerate(results):
            summed, mine, everyone, blocking, stacked = found[rows]
            assert summed.dtype == mine.dtype == everyone.dtype == dtype
            assert float((blocking.double() - want).abs().max()) <= scale
            assert float((everyone.double() - want).abs().max()) <= scale
            assert torch.equal(summed, blocking)
            assert torch.equal(blocking, reference)  # bit for bit on every rank
            assert torch.equal(everyone, whole)
            assert torch.equal(everyone[rank * rows : (rank + 1) * rows], mine)
            assert torch.equal(stacked.flatten(0, 1), everyone)


def _in_flight(ranks, dtype):
    """Everything at once, waited for in another order on every rank."""
    size, rank = ranks.size, ranks.rank
    scattered = [float(rank + 1) * torch.arange(size * n * 2.0).view(-1, 2).to(dtype) for n in (3, 700, 1)]
    gathered = [torch.full((n, 2), 10.0 * n + rank, dtype=dtype) for n in (4, 1)]
    summed = torch.full((1001,), float(rank), dtype=dtype)
    _late(ranks)
    pending = [
        *(ranks.start_scatter_sum(x, "sketch") for x in scattered),
        *(ranks.start_gather(x, "basis") for x in gathered),
        ranks.start_sum(summed, "gradient"),
    ]
    order = list(range(len(pending)))
    order = order[::-1] if rank % 2 else order
    done = {i: pending[i].wait() for i in order}
    return [done[i] for i in range(len(pending))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_several_under_way_at_once_do_not_mix(size, dtype):
    factor = size * (size + 1) / 2
    for rank, (*scattered, first, second, summed) in enumerate(run_ranks(size, _in_flight, dtype)):
        for rows, mine in zip((3, 700, 1), scattered, strict=True):
            whole = factor * torch.arange(size * rows * 2, dtype=dtype).view(-1, 2)
            assert torch.equal(mine, whole[rank * rows : (rank + 1) * rows])
        for rows, everyone in ((4, first), (1, second)):
            owners = torch.arange(size, dtype=dtype).repeat_interleave(rows)
            assert torch.equal(everyone, (10.0 * rows + owners).unsqueeze(1).expand(-1, 2))
        assert torch.equal(summed, torch.full((1001,), size * (size - 1) / 2, dtype=dtype))


def _double_buffered(ranks, blocks):
    """A block is summed while the next is made: two buffers in turn."""
    buffers = [torch.empty(ranks.size * ROWS, COLUMNS, dtype=torch.float64) for _ in range(2)]
    results, under_way = [], []
    for block in range(blocks):
        if len(under_way) == 2:
            results.append(under_way.pop(0).wait())
        buffer = buffers[block % 2]
        buffer.copy_(_uneven(ranks.rank, len(buffer), COLUMNS, torch.float64) * (block + 1))
        under_way.append(ranks.start_scatter_sum(buffer, "sketch"))
    results += [pending.wait() for pending in under_way]
    blocking = []
    for block in range(blocks):
        x = _uneven(ranks.rank, ranks.size * ROWS, COLUMNS, torch.float64) * (block + 1)
        blocking.append(ranks.start_scatter_sum(x, "sketch").wait())
    return results, blocking, ranks.traffic["sketch"]


@pytest.mark.parametrize("size", SIZES)
def test_two_buffers_in_turn_give_the_sums_of_one_after_the_other(size):
    blocks = 7
    for results, blocking, account in run_ranks(size, _double_buffered, blocks):
        assert len(results) == blocks
        for found, want in zip(results, blocking, strict=True):
            assert torch.equal(found, want)
        assert (account.calls, account.bytes) == (2 * blocks, 2 * blocks * size * ROWS * COLUMNS * 8)


def _empty(ranks):
    nothing = torch.empty(0, COLUMNS)
    return (
        ranks.gather(nothing, "gram").shape,
        ranks.start_gather(nothing, "basis").wait().shape,
        ranks.start_scatter_sum(nothing, "sketch").wait().shape,
        ranks.gather(torch.tensor(ranks.rank), "control").tolist(),
        ranks.bytes_moved,
    )


def test_empty_tensors_and_single_numbers():
    for found in run_ranks(2, _empty):
        assert found == ((2, 0, COLUMNS), (0, COLUMNS), (0, COLUMNS), [0, 1], 2 * 8)


# ---------------------------------------------------------------------------------------------
# Accounts
# ---------------------------------------------------------------------------------------------


def _counted(ranks):
    size = ranks.size
    ranks.sum(torch.ones(7, dtype=torch.float64), "losses")
    ranks.gather(torch.ones(4, 4, dtype=torch.float64), "triangles")
    ranks.start_sum(torch.ones(6, 2), "gradient").wait()
    pending = ranks.start_scatter_sum(torch.ones(size * ROWS, COLUMNS), "sketch")
    begun = ranks.traffic["sketch"]
    mine = pending.wait()
    ranks.start_gather(mine, "basis").wait()
    ranks.start_gather(mine.double(), "basis").wait()
    ranks.broadcast("not accounted for")
    first = ranks.traffic
    pending.wait()
    return begun, first, ranks.traffic, ranks.bytes_moved


@pytest.mark.parametrize("size", SIZES)
def test_the_larger_buffer_is_counted_by_label(size):
    share = size * ROWS * COLUMNS
    want = {
        "losses": (1, 7 * 8),
        "triangles": (1, size * 16 * 8),
        "gradient": (1, 12 * 4),
        "sketch": (1, share * 4),
        "basis": (2, share * (4 + 8)),
    }
    for begun, account, later, moved in run_ranks(size, _counted):
        assert begun == Traffic(1, share * 4, 0.0)  # its wait is still to come
        assert {what: (t.calls, t.bytes) for what, t in account.items()} == want
        assert moved == sum(size for _, size in want.values())
        assert all(t.seconds > 0 for t in account.values())
        assert later == account  # a second wait costs nothing


def _alone(ranks):
    x = torch.arange(6.0).view(3, 2)
    summed = ranks.sum(x.clone(), "losses"), ranks.start_sum(x.clone(), "losses").wait()
    shared = ranks.start_scatter_sum(x, "sketch").wait(), ranks.start_gather(x, "basis").wait()
    return x, [*summed, *shared, ranks.gather(x, "triangles")[0]], ranks.traffic, ranks.bytes_moved


def test_a_group_of_one_counts_nothing():
    x, found, traffic, moved = run_ranks(1, _alone)[0]
    assert all(torch.equal(y, x) for y in found)
    assert traffic == {}
    assert moved == 0


# ---------------------------------------------------------------------------------------------
# Mistakes and failures
# ---------------------------------------------------------------------------------------------


def _begin(ranks, start, shape, transposed):
    x = torch.ones(shape)
    getattr(ranks, start)(x.T if transposed else x, "sketch").wait()


@pytest.mark.parametrize(
    ("start", "shape", "transposed", "message"),
    [
        ("start_sum", (4, 2), True, "sketch: a collective needs a contiguous tensor, got strides (1, 2)"),
        ("start_scatter_sum", (4, 2), True, "sketch: a collective needs a contiguous tensor"),
        ("start_gather", (4, 2), True, "sketch: a collective needs a contiguous tensor"),
        ("start_scatter_sum", (5, 2), False, "sketch: a sum of shape (5, 2) cannot be shared out evenly"),
        ("start_scatter_sum", (), False, "sketch: a sum of shape () cannot be shared out evenly"),
        ("start_gather", (), False, "sketch: a number without an axis"),
    ],
)
def test_what_cannot_be_begun_is_told(start, shape, transposed, message):
    for result in run_ranks(2, _begin, start, shape, transposed, fail=False):
        assert isinstance(result, Failure)
        assert result.kind == "ValueError"
        assert result.message.startswith(message)


def _left_alone(ranks, start):
    if ranks.rank == 1:
        os._exit(3)
    getattr(ranks, start)(torch.ones(2 * ROWS, COLUMNS), "sketch").wait()


@pytest.mark.parametrize("start", ["start_sum", "start_scatter_sum", "start_gather"])
def test_a_rank_that_is_gone_ends_the_wait_for_it(start):
    first, second = run_ranks(2, _left_alone, start, fail=False, seconds=30)
    assert "exit code 3" in second.message
    assert isinstance(first, Failure)
    assert first.kind in ("RuntimeError", "DistBackendError")


def _under_old_names(ranks):
    """The same file where torch has the collectives under their old names only."""
    spec = importlib.util.spec_from_file_location("collectives_before_2_13", collectives.__file__)
    older = importlib.util.module_from_spec(spec)
    hidden = [name for name in ("reduce_scatter_single", "all_gather_single") if hasattr(dist, name)]
    with patch.dict("sys.modules", {spec.name: older}):
        kept = {name: getattr(dist, name) for name in hidden}
        try:
            for name in hidden:
                delattr(dist, name)
            spec.loader.exec_module(older)
        finally:
            for name, function in kept.items():
                setattr(dist, name, function)
    old, x = older.TorchRanks(), _uneven(ranks.rank, ranks.size * ROWS, COLUMNS, torch.float64)
    assert older._reduce_scatter is dist.reduce_scatter_tensor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = [old.start_scatter_sum(x, "sketch").wait(), old.start_gather(x, "basis").wait()]
        found.append(old.gather(x, "triangles"))
    want = [ranks.start_scatter_sum(x, "sketch").wait(), ranks.start_gather(x, "basis").wait()]
    want.append(ranks.gather(x, "triangles"))
    return all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


def test_older_versions_of_torch_have_other_names_for_the_same():
    assert run_ranks(2, _under_old_names) == [True, True]
