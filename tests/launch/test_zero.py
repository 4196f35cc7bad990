"""Adam under DeepSpeed's ZeRO against Adam without, in float32; DeepSpeed takes seconds to load."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch

from sngd import MLP, SNGD, Adam, Causal, RunConfig
from sngd.checkpoint import Checkpoint
from sngd.collectives import LocalRanks
from sngd.problems import heat
from sngd.training import train
from tests.ranks.harness import Collect, run_ranks

pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed"),
]

STAGES = (0, 1, 2, 3)
STEPS = 25


def _run(**changes) -> RunConfig:
    fields = {
        "problem": heat(101, 13, 18),
        "network": MLP((10, 10)),
        "optimizer": Adam(rate=0.01, schedule="exponential", decay_steps=20, decay_factor=0.5, ramp_steps=5),
        "max_steps": STEPS,
        "evaluate_points": 100,
        "precision": "float32",
        "device": "cpu",
    }
    return RunConfig(**{**fields, **changes})


def _zero(stage, **changes) -> RunConfig:
    plain = _run().optimizer
    fields = {name: getattr(plain, name) for name in ("rate", "schedule", "decay_steps", "decay_factor")}
    return _run(optimizer=Adam(**fields, ramp_steps=plain.ramp_steps, zero_stage=stage), **changes)


def _follow(ranks, runs):
    """Records and parameters of several runs, one after the other: DeepSpeed is loaded once."""
    result = []
    for run in runs:
        hook = Collect()
        trained = train(run, ranks, torch.device("cpu"), hooks=[hook])
        result.append((hook.records, trained.theta, trained.result))
    return result


def _losses(followed):
    return [record["loss"] for record in followed[0]]


def test_every_stage_gives_the_losses_of_adam_on_two_ranks():
    moving = {"resample_every": 2, "balance": True}
    plain, moved = _follow(LocalRanks(), [_run(), _run(**moving)])
    assert _losses(plain)[-1] < 0.5 * _losses(plain)[0]
    runs = [*(_zero(stage) for stage in STAGES), *(_zero(stage, **moving) for stage in (2, 3))]
    first, second = run_ranks(2, _follow, runs)
    for number, want in enumerate([plain] * len(STAGES) + [moved] * 2):
        np.testing.assert_allclose(_losses(first[number]), _losses(want), rtol=1e-4)
        np.testing.assert_allclose(first[number][1], want[1], atol=1e-4)
        assert torch.equal(first[number][1], second[number][1])
        assert [r["evaluations"] for r in first[number][0]] == [2] + [1] * (STEPS - 1)


def test_ranks_without_points_join_in():
    run = RunConfig(heat(2, 1, 2), MLP((5,)), Adam(rate=0.01, zero_stage=3), precision="float32", max_steps=4)
    plain = RunConfig(heat(2, 1, 2), MLP((5,)), Adam(rate=0.01), precision="float32", max_steps=4)
    want = _losses(_follow(LocalRanks(), [plain])[0])
    np.testing.assert_allclose(_losses(run_ranks(3, _follow, [run])[0][0]), want, rtol=1e-4)


def test_one_process_alone_a_warmup_and_a_loss_that_overflows():
    """In a process of its own, so that the group that is opened does not stay in this one."""
    runs = [
        _zero(1),
        _run(optimizer=SNGD(rank=24), warmup=_zero(2).optimizer, warmup_steps=5, max_steps=10),
        _run(optimizer=Adam(rate=1e30, zero_stage=2)),
    ]
    alone, warm, lost = run_ranks(1, _follow_alone, runs)[0]
    np.testing.assert_allclose(_losses(alone), _losses(_follow(LocalRanks(), [_run()])[0]), rtol=1e-4)
    assert _losses(warm)[-1] < 0.1 * _losses(warm)[4]
    assert lost[2]["stop_reason"] == "stalled"
    assert lost[1].isfinite().all()


def _part(ranks, run, folder, until=None):
    """Losses of the run's steps up to one, going on from what the folder holds; the last θ and a note."""
    earlier = ranks.broadcast(
        Checkpoint.load(folder) if ranks.rank == 0 and Checkpoint.exists(folder) else None
    )
    hook = Collect()
    part = dataclasses.replace(run, max_steps=until or run.max_steps)
    trained = train(part, ranks, torch.device("cpu"), hooks=[hook], folder=folder, earlier=earlier)
    ranks.broadcast(None)  # rank 0 has put the checkpoint in place
    return [record["loss"] for record in hook.records], trained.theta, hook.records


def _resumed(ranks, runs, folder):
    """What each run gives undisturbed, and in two parts."""
    found = []
    for number, run in enumerate(runs):
        whole = _follow(ranks, [run])[0]
        parts = [_part(ranks, run, folder / str(number), until) for until in (STEPS // 2, None)]
        found.append((_losses(whole), whole[1], [loss for part in parts for loss in part[0]], parts[1][1]))
    return found


def test_a_resumed_run_takes_the_same_steps_bit_for_bit(tmp_path):
    moving = {"resample_every": 4, "balance": True, "causal": Causal()}
    runs = [*(_zero(stage) for stage in STAGES), *(_zero(stage, **moving) for stage in (1, 3))]
    for number, (whole, theta, parts, ended) in enumerate(run_ranks(2, _resumed, runs, tmp_path)[0]):
        assert parts == whole
        assert torch.equal(ended, theta)
        newest = Checkpoint.load(tmp_path / str(number)).path
        files = {path.name for path in newest.glob("*.tensors")}
        assert files == ({"rank-0.tensors"} if number == 0 else {"rank-0.tensors", "rank-1.tensors"})


def _parts(ranks, runs, folder, until=None):
    return [_part(ranks, run, folder / str(number), until) for number, run in enumerate(runs)]


def test_another_number_of_ranks_goes_on_to_rounding(tmp_path):
    runs = [_zero(stage) for stage in (1, 2, 3)]
    want = [_losses(one) for one in run_ranks(2, _follow, runs)[0]]
    losses = [[] for _ in runs]
    for ranks, until in ((2, 8), (1, 16), (2, STEPS)):
        for number, (part, *_) in enumerate(run_ranks(ranks, _parts, runs, tmp_path, until)[0]):
            losses[number] += part
            found = Checkpoint.load(tmp_path / str(number))
            assert sum(found.optimizer["moments"]["lengths"]) == len(found.theta)
    for found, wanted in zip(losses, want, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def _overflow(ranks, run, folder):
    return [_part(ranks, run, folder, until) for until in (2, 3)]


def test_after_an_update_that_was_refused_moments_begin_anew(tmp_path):
    run = _run(optimizer=Adam(rate=1e30, zero_stage=2))
    (first, *_), (second, theta, _) = run_ranks(1, _overflow, run, tmp_path)[0]
    assert Checkpoint.load(tmp_path).optimizer["moments"] is None
    assert len({*first, *second}) == 1
    assert theta.isfinite().all()


def _follow_alone(ranks, runs):
    ranks.close()
    alone = LocalRanks()
    try:
        return _follow(alone, runs)
    finally:
        alone.close()
