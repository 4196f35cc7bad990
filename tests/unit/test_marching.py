"""Time marching: slabs of a problem, what one hands to the next, and a run over all of them."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from sngd import MLP, RAD, SNGD, Adam, Box, Causal, Condition, Marching, Problem, RunConfig, d
from sngd.checkpoint import Checkpoint
from sngd.cli import main
from sngd.collectives import LocalRanks
from sngd.evaluate import Evaluation, predict
from sngd.marching import Continued, restricted
from sngd.stages import first_stage, next_stage, trained_network
from sngd.training import train
from tests.following import Follow
from tests.marched import heat, wave
from tests.problems import inverse
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")


def _run(problem=None, marching=None, **changes):
    fields = {"max_steps": 13, "evaluate_points": 200, "device": "cpu", "memory_gb": 0.5}
    fields |= {"network": MLP((6, 6)), "optimizer": SNGD(rank=20), **changes}
    return RunConfig(problem or heat(), marching=marching or Marching(3), **fields)


def _train(run, folder=None, stop_after=None, earlier=None):
    hook = Follow(stop_after)
    trained = train(run, LocalRanks(), CPU, hooks=[hook], folder=folder, earlier=earlier)
    return trained, hook


# ---------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------


def test_a_run_marches_through_all_slabs(tmp_path):
    run = _run(max_steps=14)
    trained, hook = _train(run, tmp_path)
    assert [r["step"] for r in hook.records] == list(range(1, 15))
    assert [r["slab"] for r in hook.records] == [0] * 4 + [1] * 5 + [2] * 5
    assert hook.info["parameters"] == trained.network.parameters == len(trained.theta)
    assert hook.checkpoints == [4, 9, 14]
    assert trained.result["steps"] == 14
    assert trained.result["stop_reason"] == "max_steps"
    seconds = [r["seconds"] for r in hook.records]
    assert seconds == sorted(seconds)
    whole = Evaluation(run.problem, trained_network(run), 200)
    theta = Checkpoint.load(tmp_path).theta
    assert torch.equal(theta, trained.theta)
    assert whole.relative_l2(theta) == pytest.approx(trained.result["relative_l2"], rel=1e-12)
    assert trained.result["relative_l2"] == hook.records[-1]["relative_l2"]


def test_each_slab_is_the_run_on_its_own_problem():
    """The first slab by a run of the restricted problem; the second begins where that one has ended."""
    run = _run(marching=Marching(2), max_steps=8)
    _, hook = _train(run)
    first = _run(restricted(run.problem, 1, 0.0, 1.0, None), max_steps=4)
    alone, own = _train(dataclasses.replace(first, marching=None))
    assert [r["loss"] for r in own.records] == [r["loss"] for r in hook.records[:4]]
    assert [r["relative_l2"] for r in own.records] == [r["relative_l2"] for r in hook.records[:4]]
    before = Continued(first.problem, alone.network, alone.theta, 1)
    second = dataclasses.replace(first, problem=restricted(run.problem, 1, 1.0, 2.0, before), marching=None)
    _, own = _train(second)
    assert [r["loss"] for r in own.records] == [r["loss"] for r in hook.records[4:]]


def test_a_named_condition_counts_in_the_slabs_that_it_has_points_in():
    changes = {
        "causal": Causal(conditions=("late", "equations")),
        "adaptive_points": RAD(conditions=("late",)),
    }
    run = RunConfig(wave(), MLP((4,)), max_steps=4, marching=Marching(slabs=2), **changes)
    first = first_stage(run, CPU)
    second = next_stage(first, "max_steps", first.start, 2, 0.0)
    assert first.run.causal.conditions == ("equations",)
    assert first.run.adaptive_points is None
    assert second.run.causal == run.causal
    assert second.run.adaptive_points == run.adaptive_points


def test_marching_solves_the_heat_equation():
    run = _run(marching=Marching(2), max_steps=50, network=MLP((10, 10)), optimizer=SNGD(rank=60))
    trained, hook = _train(run)
    assert trained.result["relative_l2"] < 0.05 * hook.records[0]["relative_l2"]
    jump = torch.tensor([[0.3, 1.0 - 1e-9], [0.3, 1.0]], dtype=torch.float64)
    low, high = predict(run.problem, trained.network, trained.theta, jump).flatten().tolist()
    assert low == pytest.approx(high, abs=1e-2)


def test_a_warm_network_starts_from_the_one_before():
    run = _run(marching=Marching(2, "warm"), max_steps=8)
    stage = first_stage(run, CPU)
    theta = torch.randn(
        stage.network.parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    after = next_stage(stage, "stalled", theta, 3, 1.5)
    assert torch.equal(after.start, theta)
    assert torch.equal(after.earlier, theta)
    assert (after.steps, after.seconds, after.run.max_steps) == (3, 1.5, 5)
    new = first_stage(_run(marching=Marching(2), max_steps=8), CPU)
    assert torch.equal(next_stage(new, "stalled", theta, 3, 1.5).start, new.network.initial)
    assert next_stage(after, "max_steps", theta, 8, 2.0) is None
    assert next_stage(stage, "interrupted", theta, 3, 1.5) is None


def test_seconds_are_shared_among_the_slabs_that_are_left():
    run = _run(marching=Marching(4), max_seconds=100.0)
    stage = first_stage(run, CPU)
    assert stage.run.max_seconds == 25.0
    after = next_stage(stage, "tolerance", stage.start, 2, 10.0)
    assert after.run.max_seconds == pytest.approx(10.0 + 90.0 / 3)


def test_a_slab_ends_at_the_tolerance():
    run = _run(marching=Marching(2, tolerance=1e-2), max_steps=60)
    trained, hook = _train(run)
    slabs = [r["slab"] for r in hook.records]
    last = slabs.index(1) - 1
    assert hook.records[last]["loss"] <= 1e-2
    assert all(r["loss"] > 1e-2 for r in hook.records[:last])
    assert trained.result["stop_reason"] == "tolerance"


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({}, 2),
        ({}, 3),
        ({"warmup": Adam(rate=0.01), "warmup_steps": 1}, 4),
        ({"marching": Marching(3, "warm"), "balance": True}, 6),
        ({"adaptive_points": RAD(every=2, candidates=3), "causal": Causal(bins=4)}, 6),
    ],
    ids=str,
)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(changes, after, tmp_path):
    run = _run(**changes)
    whole, undisturbed = _train(run)
    stopped, first = _train(run, tmp_path, stop_after=after)
    assert stopped.result["stop_reason"] == "terminated"
    earlier = Checkpoint.load(tmp_path)
    # the last step of a slab hears nothing: the first one of the next does
    assert earlier.step == after + 1 + (after + 1 == 4)
    resumed, second = _train(run, tmp_path, earlier=earlier)
    keys = ("step", "slab", "loss", "losses", "damping", "relative_l2")
    seen = [{key: r[key] for key in keys} for r in first.records + second.records]
    assert seen == [{key: r[key] for key in keys} for r in undisturbed.records]
    assert torch.equal(resumed.theta, whole.theta)
    assert second.info["resumed"] == earlier.step


def test_the_checkpoint_at_the_beginning_of_a_slab_is_one_to_go_on_from(tmp_path):
    run = _run(warmup_steps=2)
    whole, _ = _train(run)
    kept = []

    class Keep(Follow):
        def saved(self, path, step):
            kept.append(Checkpoint.load(tmp_path))

    train(run, LocalRanks(), CPU, hooks=[Keep()], folder=tmp_path)
    assert [(c.step, c.slab) for c in kept] == [(4, 1), (8, 2), (13, 2)]
    for earlier in kept[:2]:
        resumed, _ = _train(run, tmp_path / str(earlier.slab), earlier=earlier)
        assert torch.equal(resumed.theta, whole.theta)


def test_marching_is_the_same_on_any_number_of_ranks():
    run = _run(max_steps=9)

    def losses(ranks):
        hook = Follow()
        train(run, ranks, CPU, hooks=[hook])
        return [r["loss"] for r in hook.records]

    alone, *_ = on_ranks(1, losses)
    assert len(alone) == 9
    assert on_ranks(3, losses)[0] == pytest.approx(alone, rel=1e-5)


# ---------------------------------------------------------------------------------------------
# Mistakes
# ---------------------------------------------------------------------------------------------

BAD = [
    *[("slabs", value) for value in (1, 2.5, (), (1.0, 0.5), (float("nan"),), None)],
    *[("network", value) for value in ("old", None)],
    *[("tolerance", value) for value in (-1.0, float("inf"), None)],
    *[("axis", value) for value in (None, 1)],
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_field_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as caught:
        Marching(**{field: value})
    assert str(caught.value).startswith(f"marching.{field}={value!r} must be ")


def test_edges_are_equal_or_given():
    assert Marching(4).edges(heat()) == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert Marching((0.1, 1.0)).edges(heat()) == (0.0, 0.1, 1.0, 2.0)


def test_a_problem_that_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match=r"marching.slabs=\(0.5, 2.0\) must lie between 0.0 and 2.0"):
        _run(marching=Marching((0.5, 2.0)))
    with pytest.raises(ValueError, match="problem 'inverse' has the unknown coefficients c, m"):
        RunConfig(inverse().problem, inverse().network, marching=Marching())
    domain = Box(x=(0, 1), t=(0, 1))
    _, T = domain.axes
    inside = Condition("equation", lambda u, p: d(u, T), domain.interior, 9)
    with pytest.raises(ValueError, match=r"has no condition on its fields at the start of time, 0\.0"):
        RunConfig(Problem(domain, [inside]), marching=Marching())
    with pytest.raises(
        ValueError, match="max_steps=13 gives each of the 3 slabs of marching 4 steps, which must"
    ):
        _run(warmup_steps=4)


CONFIG = """
import torch
from sngd import MLP, SNGD, Box, Condition, Marching, Problem, RunConfig, d
domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes
conditions = [
    Condition("equation", lambda u, p: d(u, T) + u, domain.interior, 20),
    Condition("initial", lambda u, p: u - p[X], domain.face(t=0), 6),
]
problem = Problem(domain, conditions, solution=lambda p: p[X].value * torch.exp(-p[T].value))
run = RunConfig(problem, MLP((5, 5)), SNGD(rank=10), marching=Marching(2), max_steps=6, device="cpu")
"""


def test_commands_read_a_run_that_has_marched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("config.py").write_text(CONFIG)
    assert main(["train", "config.py", "--run-dir", "run", "--quiet", "--evaluate-points", "500"]) == 0
    result = json.loads(Path("run/result.json").read_text())
    assert Path("run/solution.png").is_file()
    capsys.readouterr()
    assert main(["eval", "run", "--points", "500", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["relative_l2"] == pytest.approx(result["relative_l2"], rel=1e-12)
    assert main(["export", "run", "--grid", "5x5", "-o", "fields.npz"]) == 0
