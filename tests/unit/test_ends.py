"""When a run stops, what it has kept by then, and errors that end it."""

import os
import signal
import time
from math import pi

import pytest
import torch

from sngd import MLP, SNGD, Adam, Box, Condition, Problem, RunConfig, d
from sngd.checkpoint import Checkpoint
from sngd.collectives import LocalRanks
from sngd.objective import Objective
from sngd.residual import NonFiniteResidualError
from sngd.training import train
from tests.following import Follow, followed, short_run

# ---------------------------------------------------------------------------------------------
# When it stops
# ---------------------------------------------------------------------------------------------


def test_a_run_stops_at_its_target():
    trained, hook = followed(short_run(target_error=3e-2, max_steps=60))
    errors = [record["relative_l2"] for record in hook.records]
    assert trained.result["stop_reason"] == "target_error"
    assert errors[-1] <= 3e-2
    assert min(errors[:-1]) > 3e-2


def test_a_run_stops_when_its_time_is_up():
    trained, hook = followed(short_run(max_seconds=0.05, max_steps=100_000))
    assert trained.result["stop_reason"] == "max_seconds"
    seconds = [record["seconds"] for record in hook.records]
    assert seconds[-1] >= 0.05
    assert all(s < 0.05 for s in seconds[:-1])


def test_a_run_stops_where_no_step_lowers_the_loss():
    """The residual does not depend on the field."""
    domain = Box(x=(0, 1))
    (X,) = domain.axes
    fixed = Condition("fixed", lambda u, p: 1 + p[X] + 0 * u, domain.interior, 12)
    trained, hook = followed(short_run(problem=Problem(domain, [fixed]), max_steps=50))
    assert trained.result["stop_reason"] == "stalled"
    assert trained.result["steps"] == 5
    assert not any(record["accepted"] for record in hook.records)
    assert len({record["loss"] for record in hook.records}) == 1


def test_a_run_of_adam_stops_where_the_loss_overflows():
    trained, hook = followed(short_run(optimizer=Adam(rate=1e300), max_steps=50))
    assert trained.result["stop_reason"] == "stalled"
    assert [record["accepted"] for record in hook.records] == [False] * 5
    assert len({record["loss"] for record in hook.records}) == 1
    assert trained.theta.isfinite().all()


def test_rejected_steps_in_between_do_not_end_a_run(monkeypatch):
    from sngd.optimizers.gauss_newton import TrustRegion
    from sngd.trust import Outcome

    search, calls = TrustRegion.search, []

    def stubborn(rule, model, evaluate):  # one step in three is taken
        calls.append(1)
        outcome = search(rule, model, evaluate)
        return outcome if len(calls) % 3 == 0 else Outcome(None, outcome.damping, 0.0, 0, 1)

    monkeypatch.setattr(TrustRegion, "search", stubborn)
    trained, hook = followed(short_run(max_steps=12))
    assert trained.result["stop_reason"] == "max_steps"
    assert [record["accepted"] for record in hook.records] == [False, False, True] * 4


def test_an_interrupt_finishes_the_step_that_is_running(monkeypatch):
    before, calls, jacobian = signal.getsignal(signal.SIGINT), [], Objective.jacobian

    def interrupted(objective, theta, *how):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return jacobian(objective, theta, *how)

    monkeypatch.setattr(Objective, "jacobian", interrupted)
    trained, hook = followed(short_run(max_steps=50))
    assert trained.result["stop_reason"] == "interrupted"
    assert trained.result["steps"] == len(hook.records) == 3
    assert hook.records[-1]["accepted"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_ends_at_once(monkeypatch):
    before = signal.getsignal(signal.SIGINT)

    def twice(objective, theta, *how):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(Objective, "jacobian", twice)
    with pytest.raises(KeyboardInterrupt):
        followed(short_run())
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------------------------------------
# Checkpoints and mistakes
# ---------------------------------------------------------------------------------------------


def test_the_last_checkpoint_holds_the_final_parameters(tmp_path):
    trained, hook = followed(short_run(balance=True), folder=tmp_path)
    state = Checkpoint.load(tmp_path)
    assert torch.equal(state.theta, trained.theta)
    assert state.step == 6
    assert state.weights.tolist() == list(hook.records[-1]["weights"].values())


def test_checkpoints_are_written_along_the_way(tmp_path):
    found = []

    def look() -> None:
        until = time.monotonic() + 30.0
        while not Checkpoint.exists(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        found.append(Checkpoint.load(tmp_path).step)

    followed(short_run(checkpoint_seconds=1e-6), Follow(at=4, action=look), tmp_path)
    assert found[0] in (1, 2, 3)


def test_a_nan_residual_is_refused_before_the_first_step(tmp_path):
    domain = Box(x=(-1, 1))
    (X,) = domain.axes
    root = Condition("root", lambda u, p: d(u, X) - torch.sqrt(p[X]), domain.interior, 20)
    fine = Condition("fine", lambda u, p: u - torch.sin(pi * p[X]), domain.boundary(), 4)
    hook = Follow()
    run = short_run(problem=Problem(domain, [fine, root]))
    with pytest.raises(NonFiniteResidualError, match=r"condition 'root' has residual nan at x=-0\."):
        train(run, LocalRanks(), torch.device("cpu"), hooks=[hook], folder=tmp_path)
    assert hook.starts == []
    assert list(tmp_path.iterdir()) == []


def test_a_memory_budget_that_is_too_small_names_its_field():
    with pytest.raises(ValueError, match="memory_gb"):
        followed(short_run(memory_gb=1e-7))


def test_a_residual_that_turns_nan_on_points_drawn_anew_stops_the_run():
    domain = Box(x=(0, 1))
    (X,) = domain.axes
    first = domain.interior.sample(0, 10, (0, 0, 0))[:, 0].min()

    def equation(u, p):  # defined on the first set alone
        return u + 0.0 * torch.sqrt(p[X] - float(first))

    run = RunConfig(
        Problem(domain, [Condition("root", equation, domain.interior, 10)]),
        MLP((4,)),
        SNGD(rank=3),
        resample_every=1,
        max_steps=60,
        device="cpu",
    )
    with pytest.raises(NonFiniteResidualError, match="condition 'root' has residual nan at x="):
        train(run, LocalRanks(), torch.device("cpu"))
