"""The loop: when it stops, what it records, and that it repeats itself."""

import os
import signal
import sys
import time
from itertools import accumulate, pairwise
from math import pi

import pytest
import torch

from sngd import LBFGS, MLP, SNGD, Adam, Box, Condition, Problem, RunConfig, SSBroyden, d
from sngd.assembly import draw_points
from sngd.checkpoint import Checkpoint
from sngd.collectives import LocalRanks
from sngd.evaluate import Evaluation
from sngd.loop import clock
from sngd.objective import Objective
from sngd.problems import burgers, heat
from sngd.residual import NonFiniteResidualError
from sngd.train import train

HISTORY_KEYS = {
    *("step", "seconds", "loss", "relative_l2", "damping", "rank", "reduction_ratio", "corrections"),
    *("accepted", "bytes_moved", "traffic", "step_seconds", "losses"),
    *("sigma_1", "sigma_k", "effective_dimension"),
}
RESULT_KEYS = {
    *("relative_l2", "loss", "steps", "seconds", "parameters", "points", "world_size"),
    *("peak_memory_bytes", "traffic", "seed", "device", "dtype", "stop_reason"),
}


class Follow:
    """A hook that keeps everything and may do something at a step."""

    def __init__(self, at=None, action=None):
        self.info, self.records, self.result, self.at, self.action = None, [], None, at, action
        self.checkpoints = []

    def start(self, info):
        self.info = info

    def step(self, record):
        self.records.append(record)
        if record["step"] == self.at:
            self.action()

    def saved(self, path, step):
        self.checkpoints.append(step)

    def end(self, result):
        self.result = result


def _run(**changes) -> RunConfig:
    fields = {
        "problem": heat(80, 12, 16),
        "network": MLP((8, 8)),
        "optimizer": SNGD(rank=24),
        "max_steps": 6,
        "evaluate_points": 300,
        "device": "cpu",
    }
    return RunConfig(**{**fields, **changes})


def _train(run, hook=None, folder=None):
    hook = hook or Follow()
    trained = train(run, LocalRanks(), torch.device("cpu"), hooks=[hook], folder=folder)
    assert trained.result is hook.result
    return trained, hook


def _losses(run):
    return [record["loss"] for record in _train(run)[1].records]


# ---------------------------------------------------------------------------------------------
# Records
# ---------------------------------------------------------------------------------------------


def test_every_step_leaves_a_complete_record():
    _, hook = _train(_run())
    assert [record["step"] for record in hook.records] == [1, 2, 3, 4, 5, 6]
    for record in hook.records:
        assert record.keys() >= HISTORY_KEYS
        assert record["losses"].keys() == {"equation", "initial", "walls"}
        assert sum(record["losses"].values()) == pytest.approx(record["loss"], rel=1e-12)
        assert record["sigma_1"] >= record["sigma_k"] >= 0
        assert 0 < record["effective_dimension"] <= record["rank"]
        assert isinstance(record["accepted"], bool)
        assert record["bytes_moved"] == 0
        assert record["traffic"] == {}
    accepted = [record for record in hook.records if record["accepted"]]
    assert [r["loss"] for r in accepted] == sorted((r["loss"] for r in accepted), reverse=True)
    seconds = [record["seconds"] for record in hook.records]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    steps = [record["step_seconds"] for record in hook.records]
    assert min(steps) > 0
    assert list(accumulate(steps)) == pytest.approx(seconds, abs=1e-4)


def test_the_result_sums_the_run_up():
    trained, hook = _train(_run(seed=3))
    result, last = trained.result, hook.records[-1]
    assert result.keys() >= RESULT_KEYS
    assert (result["steps"], result["loss"]) == (6, last["loss"])
    assert (result["parameters"], result["points"], result["world_size"]) == (105, 108, 1)
    assert (result["seed"], result["device"], result["dtype"]) == (3, "cpu", "float64")
    assert result["stop_reason"] == "max_steps"
    assert result["relative_l2"] == pytest.approx(last["relative_l2"], rel=1e-12)
    assert 1e7 < result["peak_memory_bytes"] < 1e12
    assert trained.theta.shape == (105,)


def test_the_start_is_announced_once_with_what_a_reader_wants_to_know():
    _, hook = _train(_run())
    assert hook.info["name"] == "heat"
    assert (hook.info["parameters"], hook.info["points"], hook.info["max_steps"]) == (105, 108, 6)


def test_spectra_are_kept_at_powers_of_two_and_at_the_end():
    trained, _ = _train(_run())
    assert [step for step, _ in trained.spectra] == [1, 2, 4, 6]
    for _, sigma in trained.spectra:
        assert torch.all(sigma[:-1] >= sigma[1:])


def test_errors_are_computed_when_asked_and_at_the_end():
    _, hook = _train(_run(evaluate_every=4))
    assert [record["relative_l2"] is not None for record in hook.records] == [False] * 3 + [True, False, True]


def test_without_a_solution_there_is_no_error_and_the_run_goes_on():
    known = heat(80, 12, 16)
    problem = Problem(known.domain, known.conditions, name="unknown")
    trained, hook = _train(_run(problem=problem))
    assert {record["relative_l2"] for record in hook.records} == {None}
    assert trained.result["relative_l2"] is None
    assert trained.result["steps"] == 6


# ---------------------------------------------------------------------------------------------
# The same run gives the same losses
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"resample_every": 2}, {"balance": True}, {"precision": "float32"}], ids=str
)
def test_equal_seeds_give_equal_losses_bit_for_bit(changes):
    first, second = (_losses(_run(**changes)) for _ in range(2))
    assert first == second
    assert _losses(_run(seed=1, **changes)) != first


def test_the_dtype_reaches_the_parameters():
    assert _train(_run(precision="float32"))[0].theta.dtype == torch.float32


def test_a_run_ends_lower_than_it_began_whatever_is_switched_on():
    problem = burgers(0.05, 120, 40)
    losses = _losses(_run(problem=problem, balance=True, resample_every=1, max_steps=15))
    assert losses[-1] < 0.05 * losses[0]


# ---------------------------------------------------------------------------------------------
# Other optimizers, and a warm-up before one
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [Adam(rate=0.01), LBFGS(), SSBroyden()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("changes", [{}, {"resample_every": 3, "balance": True}], ids=str)
def test_records_of_methods_without_a_sketch_leave_its_fields_empty(optimizer, changes):
    run = _run(optimizer=optimizer, max_steps=25, **changes)
    trained, hook = _train(run)
    for record in hook.records:
        assert record.keys() >= HISTORY_KEYS
        sketch = ("damping", "rank", "reduction_ratio", "sigma_1", "sigma_k", "effective_dimension")
        assert {record[key] for key in sketch} == {None}
        assert sum(record["losses"].values()) == pytest.approx(record["loss"], rel=1e-12)
        assert record["evaluations"] >= 1
    assert trained.spectra == []
    assert trained.result["loss"] < 0.8 * hook.records[0]["loss"]
    assert _losses(run) == [record["loss"] for record in hook.records]


def test_a_warmup_hands_its_state_to_the_optimizer():
    warmup = Adam(rate=0.02)
    _, alone = _train(_run(optimizer=warmup, max_steps=5))
    _, hook = _train(_run(warmup=warmup, warmup_steps=5, max_steps=12))
    assert [record["step"] for record in hook.records] == list(range(1, 13))
    losses = [record["loss"] for record in hook.records]
    assert losses[:5] == [record["loss"] for record in alone.records]
    assert [record["rank"] is None for record in hook.records] == [True] * 5 + [False] * 7
    assert losses[5] < losses[4]
    assert losses[-1] < 0.01 * losses[4]


def test_a_warmup_on_moving_points_and_weights():
    changes = {"resample_every": 2, "balance": True, "warmup_steps": 4, "max_steps": 12}
    _, hook = _train(_run(**changes))
    assert hook.records[-1]["loss"] < 0.1 * hook.records[3]["loss"]


# ---------------------------------------------------------------------------------------------
# Points
# ---------------------------------------------------------------------------------------------


def test_points_change_when_they_are_to_be_drawn_anew(monkeypatch):
    seen, replace = [], Objective.replace_points

    def noted(objective, points):
        seen.append(points)
        replace(objective, points)
        assert objective.collocation.points is points

    monkeypatch.setattr(Objective, "replace_points", noted)
    run = _run(resample_every=2, max_steps=7)
    _train(run)
    assert len(seen) == 3
    for step, points in zip((3, 5, 7), seen, strict=True):
        drawn = draw_points(run, step, LocalRanks(), torch.device("cpu"), torch.float64)
        assert all(torch.equal(a, b) for a, b in zip(drawn, points, strict=True))
    for earlier, later in pairwise(seen):
        for old, new in zip(earlier, later, strict=True):
            assert old.shape == new.shape
            assert not torch.equal(old, new)
    seen.clear()
    _train(_run(max_steps=4))
    assert seen == []


def test_points_are_a_function_of_seed_and_step():
    run = _run(resample_every=3)
    draw = lambda run, step: draw_points(run, step, LocalRanks(), torch.device("cpu"), torch.float64)  # noqa: E731
    equal = lambda a, b: all(torch.equal(x, y) for x, y in zip(a, b, strict=True))  # noqa: E731
    assert equal(draw(run, 1), draw(run, 3))
    assert not equal(draw(run, 3), draw(run, 4))
    assert equal(draw(run, 4), draw(run, 6))
    assert not equal(draw(run, 1), draw(_run(resample_every=3, seed=1), 1))
    assert [len(points) for points in draw(run, 9)] == [80, 12, 16]


# ---------------------------------------------------------------------------------------------
# When it stops
# ---------------------------------------------------------------------------------------------


def test_a_run_stops_at_its_target():
    trained, hook = _train(_run(target_error=3e-2, max_steps=60))
    errors = [record["relative_l2"] for record in hook.records]
    assert trained.result["stop_reason"] == "target_error"
    assert errors[-1] <= 3e-2
    assert min(errors[:-1]) > 3e-2


def test_a_run_stops_when_its_time_is_up():
    trained, hook = _train(_run(max_seconds=0.05, max_steps=100_000))
    assert trained.result["stop_reason"] == "max_seconds"
    seconds = [record["seconds"] for record in hook.records]
    assert seconds[-1] >= 0.05
    assert all(s < 0.05 for s in seconds[:-1])


def test_a_run_stops_where_no_step_lowers_the_loss():
    """The residual does not depend on the field."""
    domain = Box(x=(0, 1))
    (X,) = domain.axes
    fixed = Condition("fixed", lambda u, p: 1 + p[X] + 0 * u, domain.interior, 12)
    trained, hook = _train(_run(problem=Problem(domain, [fixed]), max_steps=50))
    assert trained.result["stop_reason"] == "stalled"
    assert trained.result["steps"] == 5
    assert not any(record["accepted"] for record in hook.records)
    assert len({record["loss"] for record in hook.records}) == 1


def test_a_run_of_adam_stops_where_the_loss_overflows():
    trained, hook = _train(_run(optimizer=Adam(rate=1e300), max_steps=50))
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
    trained, hook = _train(_run(max_steps=12))
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
    trained, hook = _train(_run(max_steps=50))
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
        _train(_run())
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------------------------------------
# Checkpoints and mistakes
# ---------------------------------------------------------------------------------------------


def test_the_last_checkpoint_holds_the_final_parameters(tmp_path):
    trained, hook = _train(_run(balance=True), folder=tmp_path)
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

    _train(_run(checkpoint_seconds=1e-6), Follow(at=4, action=look), tmp_path)
    assert found[0] in (1, 2, 3)


def test_a_nan_residual_is_refused_before_the_first_step(tmp_path):
    domain = Box(x=(-1, 1))
    (X,) = domain.axes
    root = Condition("root", lambda u, p: d(u, X) - torch.sqrt(p[X]), domain.interior, 20)
    fine = Condition("fine", lambda u, p: u - torch.sin(pi * p[X]), domain.boundary(), 4)
    hook = Follow()
    run = _run(problem=Problem(domain, [fine, root]))
    with pytest.raises(NonFiniteResidualError, match=r"condition 'root' has residual nan at x=-0\."):
        train(run, LocalRanks(), torch.device("cpu"), hooks=[hook], folder=tmp_path)
    assert hook.info is None
    assert list(tmp_path.iterdir()) == []


def test_a_memory_budget_that_is_too_small_names_its_field():
    with pytest.raises(ValueError, match="memory_gb"):
        _train(_run(memory_gb=1e-7))


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


def test_comparisons_with_the_known_solution_are_no_training_time(monkeypatch):
    now = [100.0]
    compare = Evaluation.relative_l2

    def slow(self, theta):
        now[0] += 10.0
        return compare(self, theta)

    monkeypatch.setattr(sys.modules[train.__module__], "clock", lambda device: now[0])
    monkeypatch.setattr(Evaluation, "relative_l2", slow)
    trained, hook = _train(_run(max_seconds=5.0, max_steps=3))
    assert [record["seconds"] for record in hook.records] == [0.0, 0.0, 0.0]
    assert [record["step_seconds"] for record in hook.records] == [0.0, 0.0, 0.0]
    assert trained.result["stop_reason"] == "max_steps"


def test_the_clock_waits_for_a_gpu(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    assert clock(torch.device("cpu")) > 0
    assert waited == []
    clock(torch.device("cuda", 0))
    assert waited == [torch.device("cuda", 0)]
