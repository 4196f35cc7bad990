"""A run that stops and goes on takes the steps, bit for bit, of one that never stopped."""

import dataclasses
import os
import signal
import time

import pytest
import torch

from sngd import (
    ENGD,
    ENGDW,
    LBFGS,
    MLP,
    R3,
    RAD,
    SNGD,
    SOAP,
    SPRING,
    Adam,
    Auto,
    Box,
    Causal,
    Condition,
    Curriculum,
    Problem,
    RunConfig,
    SSBroyden,
    d,
)
from sngd.checkpoint import Checkpoint, Store
from sngd.collectives import LocalRanks
from sngd.problems import heat
from sngd.stopping import Stopping
from sngd.training import train
from tests.following import Follow

CPU = torch.device("cpu")
STEPS = 9
# What a line of the history says of the step itself, and not of clocks.
KEYS = (
    "step",
    "loss",
    "losses",
    "weights",
    "damping",
    "rank",
    "accepted",
    "corrections",
    "sigma_1",
    "reduction_ratio",
)


def _run(optimizer, problem=None, **changes) -> RunConfig:
    fields = {"max_steps": STEPS, "evaluate_points": 100, "device": "cpu", "memory_gb": 0.5}
    return RunConfig(problem or heat(80, 12, 16), MLP((8, 8)), optimizer, **{**fields, **changes})


def _transport() -> Problem:
    """u_t + c u_x = 0 with c = 2, known."""
    domain = Box(x=(0, 1), t=(0, 1), periodic="x")
    X, T = domain.axes
    wave = lambda x: torch.sin(2 * torch.pi * x)  # noqa: E731
    conditions = [
        Condition("equation", lambda u, p: d(u, T) + p["c"] * d(u, X), domain.interior, 60),
        Condition("initial", lambda u, p: u - wave(p[X]), domain.face(t=0), 12),
    ]
    return Problem(
        domain,
        conditions,
        coefficients={"c": 2.0},
        solution=lambda p: wave(p[X].value - 2 * p[T].value),
        name="transport",
    )


def _train(run, folder=None, stop_after=None, earlier=None):
    hook = Follow(stop_after)
    trained = train(run, LocalRanks(), CPU, hooks=[hook], folder=folder, earlier=earlier)
    return trained, hook


def _seen(records):
    return [{key: record[key] for key in KEYS} for record in records]


RUNS = {
    "sngd": _run(SNGD(rank=24)),
    "sngd, bounded rank": _run(SNGD(rank=12, max_rank=12)),
    "balance": _run(SNGD(rank=24), balance=True),
    "resample": _run(SNGD(rank=24), resample_every=2),
    "resample, stopped as points change": _run(SNGD(rank=24), resample_every=4),
    "rad": _run(SNGD(rank=24), adaptive_points=RAD(every=2, candidates=3)),
    "rad, stopped as points move": _run(SNGD(rank=24), adaptive_points=RAD(every=4, candidates=3)),
    "r3": _run(SNGD(rank=24, subspace="landmarks"), adaptive_points=R3(every=1)),
    "r3, adam": _run(Adam(rate=0.01), adaptive_points=R3(every=2), balance=True),
    "causal": _run(SNGD(rank=24), causal=Causal(tolerance=(0.01, 1.0), bins=5)),
    "causal, balance, resample": _run(SNGD(rank=24), causal=Causal(), balance=True, resample_every=2),
    "curriculum": _run(SNGD(rank=24), _transport(), curriculum=Curriculum("c", (0.5, 1.0), 3)),
    "curriculum, all at once": _run(
        SNGD(rank=24),
        _transport(),
        curriculum=Curriculum("c", (0.5,), 6, "log"),
        adaptive_points=RAD(every=2, candidates=3),
        causal=Causal(1.0, 4),
    ),
    "mixed": _run(SNGD(rank=24), precision="mixed", max_steps=20),
    "landmarks": _run(SNGD(rank=24, subspace="landmarks")),
    "line search": _run(SNGD(rank=24, globalization="line_search", halvings=6)),
    "auto": _run(Auto()),
    "engd": _run(ENGD()),
    "engd, trust region": _run(ENGD(globalization="trust_region")),
    "engd-w": _run(ENGDW()),
    "spring": _run(SPRING()),
    "spring, trust region": _run(SPRING(globalization="trust_region")),
    "spring, fixed rate": _run(SPRING(globalization="fixed_rate")),
    "adam": _run(Adam(rate=0.01)),
    "adam, balance": _run(Adam(rate=0.01), balance=True),
    "soap": _run(SOAP()),
    "lbfgs": _run(LBFGS()),
    "lbfgs, balance": _run(LBFGS(), balance=True),
    "lbfgs, float32": _run(LBFGS(), precision="float32"),
    "ssbroyden": _run(SSBroyden()),
    "ssbroyden, resample": _run(SSBroyden(), resample_every=3),
    "within the warm-up": _run(SNGD(rank=24), warmup=Adam(rate=0.01), warmup_steps=6, balance=True),
    "at the end of the warm-up": _run(SNGD(rank=24), warmup=Adam(rate=0.01), warmup_steps=4, balance=True),
    "after the warm-up": _run(SNGD(rank=24), warmup=Adam(rate=0.01), warmup_steps=2),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(name, tmp_path):
    if name == "soap":
        pytest.importorskip("pytorch_optimizer")
    run = RUNS[name]
    whole, undisturbed = _train(run)
    stopped, first = _train(run, tmp_path, stop_after=3)
    assert stopped.result["stop_reason"] == "terminated"
    assert stopped.result["steps"] == 4
    earlier = Checkpoint.load(tmp_path)
    assert earlier.step == 4
    resumed, second = _train(run, tmp_path, earlier=earlier)
    assert second.info["resumed"] == 4
    assert _seen(first.records + second.records) == _seen(undisturbed.records)
    assert torch.equal(resumed.theta, whole.theta)
    assert resumed.result["steps"] == whole.result["steps"]
    assert [step for step, _ in resumed.spectra] == [step for step, _ in whole.spectra]


def test_a_run_that_was_lost_before_its_result_ends_without_a_step(tmp_path):
    run = _run(SNGD(rank=24))
    whole, _ = _train(run, tmp_path)
    earlier = Checkpoint.load(tmp_path)
    assert earlier.reason == "max_steps"
    hook, left = Follow(), sorted(tmp_path.rglob("*"))
    again = train(
        run, LocalRanks(), CPU, hooks=[hook], folder=tmp_path, earlier=earlier, ended=earlier.reason
    )
    assert hook.records == []
    assert torch.equal(again.theta, whole.theta)
    assert sorted(tmp_path.rglob("*")) == left
    for key in ("steps", "loss", "stop_reason", "relative_l2"):
        assert hook.result[key] == whole.result[key]


def test_a_mixed_run_that_has_gone_over_to_float64_stays_there(tmp_path):
    run = _run(SNGD(rank=24), precision="mixed", max_steps=60)
    whole, undisturbed = _train(run)
    (over,) = (r["step"] for r in undisturbed.records if "float64" in (r["note"] or ""))
    _train(dataclasses.replace(run, max_steps=over + 1), tmp_path)
    resumed, _ = _train(run, tmp_path, earlier=Checkpoint.load(tmp_path))
    assert torch.equal(resumed.theta, whole.theta)


def test_seconds_traffic_and_refused_steps_are_counted_on(tmp_path):
    run = _run(SNGD(rank=24))
    _train(run, tmp_path, stop_after=3)
    earlier = Checkpoint.load(tmp_path)
    traffic = {"sketch": {"calls": 3, "bytes": 600, "seconds": 0.5}}
    earlier = dataclasses.replace(earlier, seconds=100.0, traffic=traffic)
    resumed, second = _train(run, tmp_path, earlier=earlier)
    assert second.records[0]["seconds"] > 100.0
    assert second.records[0]["step_seconds"] < 50.0
    assert second.records[-1]["bytes_moved"] == 600
    assert resumed.result["traffic"] == traffic


def test_a_run_whose_steps_are_done_cannot_go_on(tmp_path):
    run = _run(SNGD(rank=24))
    _train(run, tmp_path)
    with pytest.raises(ValueError, match="max_steps=9 must exceed the 9 steps that are done"):
        _train(run, tmp_path, earlier=Checkpoint.load(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_heard_while_a_run_listens(number):
    before = signal.getsignal(number)
    with Stopping() as stopping:
        assert stopping.reason() == ""
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # batch systems repeat themselves
        assert stopping.reason() == "terminated"
    assert signal.getsignal(number) is before


def test_a_deadline_leaves_time_for_two_more_steps(monkeypatch):
    now = 1_000_000.0
    monkeypatch.setattr("sngd.stopping.time.time", lambda: now)
    stopping = Stopping(deadline=now + 100)
    assert stopping.reason(step_seconds=1.0) == ""
    assert stopping.reason(step_seconds=40.0) == "time_limit"
    now += 75
    assert stopping.reason(step_seconds=0.1) == "time_limit"


def test_a_run_ends_before_its_deadline_with_a_checkpoint(tmp_path):
    hook, run = Follow(), _run(SNGD(rank=24))
    stopping = Stopping(deadline=1.0)
    trained = train(run, LocalRanks(), CPU, hooks=[hook], folder=tmp_path, stopping=stopping)
    assert trained.result["stop_reason"] == "time_limit"
    assert Checkpoint.load(tmp_path).step == 1


class Patient(Follow):
    """Waits, after its second step, for the checkpoint of the first."""

    def __init__(self, folder):
        super().__init__()
        self.store = Store(folder)

    def step(self, record):
        deadline = time.monotonic() + 30
        while record["step"] == 2 and not self.store.all():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        super().step(record)


@pytest.mark.parametrize("last", [{}, {"max_steps": 3}])
def test_a_run_that_has_been_replaced_writes_nothing_more(tmp_path, last):
    """Whatever else would end it at that step, too."""
    hook = Patient(tmp_path)
    stopping = Stopping(superseded=lambda: len(hook.records) == 2)
    run = _run(SNGD(rank=24), checkpoint_seconds=1e-6, **last)
    trained = train(run, LocalRanks(), CPU, hooks=[hook], folder=tmp_path, stopping=stopping)
    assert trained.result["stop_reason"] == "superseded"
    assert [record["step"] for record in hook.records] == [1, 2]
    assert hook.result is None
    assert Checkpoint.load(tmp_path).step < 3


@pytest.mark.parametrize("last", [{"max_seconds": 1e-9}, {"target_error": 1e9}])
def test_a_run_that_is_replaced_in_its_only_step_writes_nothing(tmp_path, last):
    hook = Follow()
    run = _run(SNGD(rank=24), **last)
    stopping = Stopping(superseded=lambda: True)
    trained = train(run, LocalRanks(), CPU, hooks=[hook], folder=tmp_path, stopping=stopping)
    assert trained.result["stop_reason"] == "superseded"
    assert (hook.records, hook.result, Store(tmp_path).all()) == ([], None, [])


def test_a_run_that_is_replaced_after_its_last_step_writes_no_result(tmp_path):
    hook = Follow()
    stopping = Stopping(superseded=lambda: len(hook.records) == 3)
    run = _run(SNGD(rank=24), max_steps=3)
    trained = train(run, LocalRanks(), CPU, hooks=[hook], folder=tmp_path, stopping=stopping)
    assert trained.result["stop_reason"] == "superseded"
    assert hook.result is None
