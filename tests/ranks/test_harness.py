"""The harness itself: it must be able to fail."""

import os
import time

import pytest
import torch

from tests.ranks.harness import Failure, HangError, RanksError, run_ranks


def _identity(ranks, offset):
    return ranks.rank + offset, ranks.size, os.getpid()


def _hang(ranks):
    if ranks.rank == 1:
        time.sleep(60)
    return ranks.rank


def _raise_on_one(ranks):
    if ranks.rank == 1:
        raise KeyError("lost")
    return "fine"


def _die(ranks):
    if ranks.rank == 0:
        os._exit(7)
    return "fine"


def test_results_come_in_the_order_of_ranks_from_different_processes():
    results = run_ranks(3, _identity, 10)
    assert [r[:2] for r in results] == [(10, 3), (11, 3), (12, 3)]
    assert len({r[2] for r in results} | {os.getpid()}) == 4


def test_a_hang_is_ended_and_names_the_rank():
    began = time.monotonic()
    with pytest.raises(HangError, match=r"ranks \[1\] of 2 still ran after 1.5 s"):
        run_ranks(2, _hang, seconds=1.5)
    assert time.monotonic() - began < 10


def test_an_exception_on_one_rank_is_told():
    with pytest.raises(RanksError, match=r"rank 1: 'lost'"):
        run_ranks(2, _raise_on_one)
    fine, failure = run_ranks(2, _raise_on_one, fail=False)
    assert fine == "fine"
    assert isinstance(failure, Failure)
    assert failure.kind == "KeyError"


def test_a_rank_that_dies_without_a_word_is_a_failure():
    results = run_ranks(2, _die, fail=False)
    assert isinstance(results[0], Failure)
    assert "exit code 7" in results[0].message


# ---------------------------------------------------------------------------------------------
# TorchRanks
# ---------------------------------------------------------------------------------------------


def _sums(ranks):
    x = torch.arange(5, dtype=torch.float64) * (ranks.rank + 1) + 0.1
    before = ranks.bytes_moved
    returned = ranks.sum(x, "losses")
    return returned is x, x, ranks.bytes_moved - before


def test_sum_adds_in_place_and_counts_the_payload():
    results = run_ranks(3, _sums)
    want = torch.arange(5, dtype=torch.float64) * 6 + 0.3
    for same, x, sent in results:
        assert same
        torch.testing.assert_close(x, want, rtol=1e-15, atol=1e-15)
        assert torch.equal(x, results[0][1])  # bit for bit
        assert sent == 40


def _sum_of_a_transposed(ranks):
    ranks.sum(torch.ones(2, 3).T, "losses")


def test_sum_refuses_what_it_cannot_sum_in_place():
    for result in run_ranks(2, _sum_of_a_transposed, fail=False):
        assert isinstance(result, Failure)
        assert "contiguous" in result.message


def _gathers(ranks):
    x = torch.full((2, 3), float(ranks.rank), dtype=torch.float32).T  # not contiguous
    before = ranks.bytes_moved
    return ranks.gather(x, "triangles"), ranks.bytes_moved - before


def test_gather_stacks_in_the_order_of_ranks():
    for gathered, sent in run_ranks(4, _gathers):
        assert gathered.shape == (4, 3, 2)
        assert torch.equal(gathered, torch.arange(4.0).view(4, 1, 1).expand(4, 3, 2))
        assert sent == 4 * 24


def _broadcasts(ranks):
    return ranks.broadcast({"who": ranks.rank, "text": "é"})


def test_broadcast_gives_everyone_the_object_of_rank_0():
    assert run_ranks(3, _broadcasts) == [{"who": 0, "text": "é"}] * 3
