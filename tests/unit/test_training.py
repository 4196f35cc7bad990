"""The loop: when it stops, what it records, and that it repeats itself."""

from itertools import accumulate, pairwise

import pytest
import torch

from sngd import LBFGS, Adam, Problem, SSBroyden
from sngd.assembly import draw_points
from sngd.collectives import LocalRanks
from sngd.evaluate import Evaluation
from sngd.loop import clock
from sngd.objective import Objective
from sngd.problems import burgers, heat
from tests.following import followed, losses_of, short_run

HISTORY_KEYS = {
    *("step", "seconds", "loss", "relative_l2", "damping", "rank", "reduction_ratio", "corrections"),
    *("accepted", "bytes_moved", "traffic", "step_seconds", "losses"),
    *("sigma_1", "sigma_k", "effective_dimension"),
}
RESULT_KEYS = {
    *("relative_l2", "loss", "steps", "seconds", "parameters", "points", "world_size"),
    *("peak_memory_bytes", "traffic", "seed", "device", "dtype", "stop_reason"),
}


# ---------------------------------------------------------------------------------------------
# Records
# ---------------------------------------------------------------------------------------------


def test_every_step_leaves_a_complete_record():
    _, hook = followed(short_run())
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
    trained, hook = followed(short_run(seed=3))
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
    _, hook = followed(short_run())
    assert hook.info["name"] == "heat"
    assert (hook.info["parameters"], hook.info["points"], hook.info["max_steps"]) == (105, 108, 6)


def test_spectra_are_kept_at_powers_of_two_and_at_the_end():
    trained, _ = followed(short_run())
    assert [step for step, _ in trained.spectra] == [1, 2, 4, 6]
    for _, sigma in trained.spectra:
        assert torch.all(sigma[:-1] >= sigma[1:])


def test_errors_are_computed_when_asked_and_at_the_end():
    _, hook = followed(short_run(evaluate_every=4))
    assert [record["relative_l2"] is not None for record in hook.records] == [False] * 3 + [True, False, True]


def test_without_a_solution_there_is_no_error_and_the_run_goes_on():
    known = heat(80, 12, 16)
    problem = Problem(known.domain, known.conditions, name="unknown")
    trained, hook = followed(short_run(problem=problem))
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
    first, second = (losses_of(short_run(**changes)) for _ in range(2))
    assert first == second
    assert losses_of(short_run(seed=1, **changes)) != first


def test_the_dtype_reaches_the_parameters():
    assert followed(short_run(precision="float32"))[0].theta.dtype == torch.float32


def test_a_run_ends_lower_than_it_began_whatever_is_switched_on():
    problem = burgers(0.05, 120, 40)
    losses = losses_of(short_run(problem=problem, balance=True, resample_every=1, max_steps=15))
    assert losses[-1] < 0.05 * losses[0]


# ---------------------------------------------------------------------------------------------
# Other optimizers, and a warm-up before one
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [Adam(rate=0.01), LBFGS(), SSBroyden()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("changes", [{}, {"resample_every": 3, "balance": True}], ids=str)
def test_records_of_methods_without_a_sketch_leave_its_fields_empty(optimizer, changes):
    run = short_run(optimizer=optimizer, max_steps=25, **changes)
    trained, hook = followed(run)
    for record in hook.records:
        assert record.keys() >= HISTORY_KEYS
        sketch = ("damping", "rank", "reduction_ratio", "sigma_1", "sigma_k", "effective_dimension")
        assert {record[key] for key in sketch} == {None}
        assert sum(record["losses"].values()) == pytest.approx(record["loss"], rel=1e-12)
        assert record["evaluations"] >= 1
    assert trained.spectra == []
    assert trained.result["loss"] < 0.8 * hook.records[0]["loss"]
    assert losses_of(run) == [record["loss"] for record in hook.records]


def test_a_warmup_hands_its_state_to_the_optimizer():
    warmup = Adam(rate=0.02)
    _, alone = followed(short_run(optimizer=warmup, max_steps=5))
    _, hook = followed(short_run(warmup=warmup, warmup_steps=5, max_steps=12))
    assert [record["step"] for record in hook.records] == list(range(1, 13))
    losses = [record["loss"] for record in hook.records]
    assert losses[:5] == [record["loss"] for record in alone.records]
    assert [record["rank"] is None for record in hook.records] == [True] * 5 + [False] * 7
    assert losses[5] < losses[4]
    assert losses[-1] < 0.01 * losses[4]


def test_a_warmup_on_moving_points_and_weights():
    changes = {"resample_every": 2, "balance": True, "warmup_steps": 4, "max_steps": 12}
    _, hook = followed(short_run(**changes))
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
    run = short_run(resample_every=2, max_steps=7)
    followed(run)
    assert len(seen) == 3
    for step, points in zip((3, 5, 7), seen, strict=True):
        drawn = draw_points(run, step, LocalRanks(), torch.device("cpu"), torch.float64)
        assert all(torch.equal(a, b) for a, b in zip(drawn, points, strict=True))
    for earlier, later in pairwise(seen):
        for old, new in zip(earlier, later, strict=True):
            assert old.shape == new.shape
            assert not torch.equal(old, new)
    seen.clear()
    followed(short_run(max_steps=4))
    assert seen == []


def test_points_are_a_function_of_seed_and_step():
    run = short_run(resample_every=3)
    draw = lambda run, step: draw_points(run, step, LocalRanks(), torch.device("cpu"), torch.float64)  # noqa: E731
    equal = lambda a, b: all(torch.equal(x, y) for x, y in zip(a, b, strict=True))  # noqa: E731
    assert equal(draw(run, 1), draw(run, 3))
    assert not equal(draw(run, 3), draw(run, 4))
    assert equal(draw(run, 4), draw(run, 6))
    assert not equal(draw(run, 1), draw(short_run(resample_every=3, seed=1), 1))
    assert [len(points) for points in draw(run, 9)] == [80, 12, 16]


def test_comparisons_with_the_known_solution_are_no_training_time(monkeypatch):
    now = [100.0]
    compare = Evaluation.relative_l2

    def slow(self, theta):
        now[0] += 10.0
        return compare(self, theta)

    monkeypatch.setattr("sngd.loop.clock", lambda device: now[0])
    monkeypatch.setattr(Evaluation, "relative_l2", slow)
    trained, hook = followed(short_run(max_seconds=5.0, max_steps=3))
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
