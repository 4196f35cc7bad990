"""The roll call: ranks of this process, each with its own part of it, at one store."""

import signal
from datetime import timedelta

import pytest
import torch.distributed as dist

from sngd import failures
from sngd.bootstrap import Rendezvous
from sngd.failures import LostRankError, RollCall
from sngd.launcher import Launch

CLOSED = RuntimeError("[gloo/pair.cc:42] Connection closed by peer. This is typically caused by a crash")
NOTICED = "rank {} on here noticed it in 'sketch': Connection closed by peer"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(failures, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(failures, "_LAST_SECONDS", 0.0)
    monkeypatch.setattr(failures, "_END_SECONDS", 0.2)
    monkeypatch.setattr(failures, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(failures.socket, "gethostname", lambda: "here")
    monkeypatch.setattr(failures, "leave", lambda code: None)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def met():
    seconds = timedelta(seconds=10)
    store = dist.TCPStore("127.0.0.1", 0, None, True, seconds, wait_for_workers=False)
    return Rendezvous("127.0.0.1", store.port, store, "rank 0", seconds)


def take_part(met, size, present):
    parts = {rank: RollCall(Launch("torchrun", rank, size, rank, size), met) for rank in present}
    for rank in set(range(size)) - set(present):
        met.connection().set(f"host/{rank}", "there")
    return parts


def close(parts):
    for part in parts.values():
        part.close()


def test_a_rank_that_does_not_answer_is_named_by_the_lowest_that_does(met):
    parts = take_part(met, 4, [0, 1, 3])
    found = parts[0].lost("sketch", CLOSED)
    assert isinstance(found, LostRankError)
    lost = "rank 2 on there does not answer (killed, stopped or cut off)"
    assert str(found) == f"{lost}; {NOTICED.format(0)}"
    assert str(parts[3].lost("sketch", CLOSED)) == ""
    close(parts)


def test_without_rank_0_the_next_one_tells(met):
    parts = take_part(met, 3, [1, 2])
    assert str(parts[2].lost("sketch", CLOSED)) == ""
    told = str(parts[1].lost("sketch", CLOSED))
    assert told.startswith("rank 0 on there does not answer")
    close(parts)


def test_what_a_rank_ended_with_is_repeated(met):
    parts = take_part(met, 3, [0, 1, 2])
    assert parts[1].fail("OverflowError: too much", common=False) is False
    told = str(parts[0].lost("sketch", CLOSED))
    assert told == f"rank 1 on here failed: OverflowError: too much; {NOTICED.format(0)}"
    close(parts)


def test_what_a_rank_ended_with_is_known_without_the_store_that_it_hosted(met):
    parts = take_part(met, 2, [0, 1])
    parts[0].fail("ValueError: no", common=False)
    parts[1]._thread.join(5)
    parts[1]._store = Gone()
    assert (
        str(parts[1].lost("sketch", CLOSED)) == f"rank 0 on here failed: ValueError: no; {NOTICED.format(1)}"
    )
    close(parts)


class Gone:
    def set(self, key, value):
        raise RuntimeError("Broken pipe")


def test_a_store_that_is_gone_tells_of_its_host(met):
    parts = take_part(met, 2, [1])
    parts[1]._store = Gone()
    told = str(parts[1].lost("sketch", CLOSED))
    assert told == f"rank 0, which hosts the rendezvous, has ended; {NOTICED.format(1)}"
    close(parts)


def test_an_error_that_all_ranks_meet_is_common(met):
    parts = take_part(met, 2, [0, 1])
    assert parts[0].fail("max_steps=0", common=True) is True
    assert parts[1].fail("max_steps=0", common=True) is True
    close(parts)


def test_an_error_that_rank_0_does_not_meet_is_not_common(met):
    parts = take_part(met, 2, [0, 1])
    assert parts[1].fail("no such file", common=True) is False
    close(parts)


def test_ranks_that_all_answer_are_told_apart_by_what_they_do(met):
    parts = take_part(met, 3, [0, 1, 2])
    parts[2].doing = "in 'sketch'"
    told = str(parts[0].lost("sketch", RuntimeError("Timed out waiting 600000ms")))
    assert told.startswith("all ranks answer, but a collective failed; rank 1 on here is computing; rank 0")
    close(parts)


def test_a_rank_that_waits_for_ever_is_ended_when_the_roll_is_called(met, monkeypatch, capfd):
    ended = []
    monkeypatch.setattr(failures, "_END_SECONDS", 0.05)
    monkeypatch.setattr(failures, "leave", ended.append)
    parts = take_part(met, 2, [0, 1])
    parts[0].doing = "in 'losses'"
    parts[1].fail("ValueError: no", common=False)
    parts[0]._thread.join(5)
    assert ended == [failures.LOST_RANK]
    noticed = "rank 0 on here noticed it in 'losses': it was asked to end"
    assert capfd.readouterr().err.strip() == f"error: rank 1 on here failed: ValueError: no; {noticed}"
    close(parts)
