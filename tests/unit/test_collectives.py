"""One process alone, work under way, and the account that is kept of it."""

import pytest
import torch

from sngd import traffic
from sngd.collectives import LocalRanks
from sngd.ranks import Pending
from sngd.traffic import Traffic

CPU, GPU = torch.device("cpu"), torch.device("cuda")


# ---------------------------------------------------------------------------------------------
# One process
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["start_sum", "start_scatter_sum", "start_gather"])
def test_alone_what_is_begun_is_done_and_is_the_operand_itself(start):
    ranks, x = LocalRanks(), torch.arange(6.0).view(3, 2)
    pending = getattr(ranks, start)(x, "sketch")
    assert pending.wait() is x
    assert pending.wait() is x
    assert torch.equal(x, torch.arange(6.0).view(3, 2))


def test_alone_nothing_moves():
    ranks, x = LocalRanks(), torch.ones(4, 2)
    assert ranks.sum(x, "gradient") is x
    gathered = ranks.gather(x, "triangles")
    assert gathered.shape == (1, 4, 2)
    assert gathered.data_ptr() == x.data_ptr()
    ranks.start_sum(x, "sketch").wait()
    assert ranks.traffic == {}
    assert ranks.bytes_moved == 0


# ---------------------------------------------------------------------------------------------
# Work under way
# ---------------------------------------------------------------------------------------------


def test_waiting_ends_the_work_once():
    x, ended = torch.zeros(2), []

    def finish():
        ended.append(1)
        x.fill_(7.0)

    pending = Pending(x, finish)
    assert ended == []
    assert pending.wait() is x
    assert x.tolist() == [7.0, 7.0]
    assert pending.wait() is x
    assert ended == [1]


def test_work_that_fails_fails_where_it_is_waited_for():
    def lost():
        raise RuntimeError("connection closed")

    pending = Pending(torch.zeros(2), lost)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="connection closed"):
            pending.wait()


# ---------------------------------------------------------------------------------------------
# Accounts
# ---------------------------------------------------------------------------------------------


def test_traffic_adds_and_tells_what_was_added():
    first, second = Traffic(2, 80, 0.25), Traffic(3, 8, 0.5)
    assert first + second == Traffic(5, 88, 0.75)
    assert (first + second).since(first) == second
    assert first.since(None) == first
    assert Traffic() == Traffic(0, 0, 0.0)


def test_waits_are_added_up_by_label(monkeypatch):
    now = iter([10.0, 12.0, 20.0, 21.0, 30.0, 30.5])
    monkeypatch.setattr(traffic.time, "perf_counter", lambda: next(now))
    meter = traffic.Meter()
    for what in ("sketch", "losses", "sketch"):
        with meter.waiting(what, CPU):
            meter.add(what, Traffic(1, 16))
    assert meter.read() == {"sketch": Traffic(2, 32, 2.5), "losses": Traffic(1, 16, 1.0)}


def test_an_account_that_was_read_stays_as_it_was():
    meter = traffic.Meter()
    meter.add("sketch", Traffic(1, 8))
    read = meter.read()
    meter.add("sketch", Traffic(1, 8))
    assert read == {"sketch": Traffic(1, 8)}


class _Gpu:
    """A device whose stream is at `now` ms; what is recorded takes its time when the stream gets there."""

    def __init__(self, monkeypatch):
        self.now, self.reached, self.waited, self.events = 0.0, 0, 0, []
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: _Event(self))

    def get_to(self, event):
        """The stream goes on until it has passed an event."""
        self.reached = max(self.reached, self.events.index(event) + 1)


class _Event:
    def __init__(self, gpu):
        self.gpu = gpu

    def record(self, stream):
        assert stream is self.gpu
        self.at = stream.now
        stream.events.append(self)

    def query(self):
        return self.gpu.events.index(self) < self.gpu.reached

    def synchronize(self):
        self.gpu.waited += not self.query()
        self.gpu.get_to(self)

    def elapsed_time(self, end):
        assert self.query()
        assert end.query()
        return end.at - self.at


def _wait_for(meter, gpu, what, milliseconds):
    with meter.waiting(what, GPU):
        meter.add(what, Traffic(1, 8))
        gpu.now += milliseconds
    gpu.now += 1000.0  # other work of the stream


def test_on_a_gpu_nobody_waits_before_the_account_is_read(monkeypatch):
    gpu, meter = _Gpu(monkeypatch), traffic.Meter()
    for what, milliseconds in (("sketch", 20.0), ("losses", 3.0), ("sketch", 5.0)):
        _wait_for(meter, gpu, what, milliseconds)
    assert gpu.waited == 0
    account = meter.read()
    assert gpu.waited > 0
    assert account["sketch"] == Traffic(2, 16, pytest.approx(0.025))
    assert account["losses"] == Traffic(1, 8, pytest.approx(0.003))


def test_on_a_gpu_marks_do_not_pile_up_where_nobody_reads(monkeypatch):
    gpu, meter = _Gpu(monkeypatch), traffic.Meter()
    for _ in range(50):
        _wait_for(meter, gpu, "sketch", 2.0)
        gpu.get_to(gpu.events[-1])
    assert gpu.waited == 0
    assert len(meter._marks) <= 1
    assert meter.read() == {"sketch": Traffic(50, 400, pytest.approx(0.1))}
