"""The loop: when it stops, what it records, that it can be repeated."""

import math
import os
import signal

import pytest
import torch

from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, checkpoint
from sngd.collectives import LocalRanks
from sngd.problems import heat, transport
from sngd.residual import NonFiniteResidualError
from sngd.train import draw_points, train

CPU = torch.device("cpu")
KEYS = [
    "step",
    "seconds",
    "loss",
    "relative_l2",
    "damping",
    "rank",
    "reduction_ratio",
    "corrections",
    "accepted",
    "bytes_sent",
    "losses",
    "sigma_1",
    "sigma_k",
    "effective_dimension",
]
RESULT_KEYS = [
    "relative_l2",
    "loss",
    "steps",
    "seconds",
    "parameters",
    "points",
    "world_size",
    "peak_memory_bytes",
    "seed",
    "device",
    "dtype",
    "stop_reason",
]


class Follower:
    def __init__(self, action=None):
        self.records, self.info, self.result, self.action = [], None, None, action

    def start(self, info):
        self.info = info

    def step(self, record):
        self.records.append(record)
        if self.action:
            self.action(record)

    def end(self, result):
        self.result = result


def small(**fields) -> RunConfig:
    return RunConfig(
        **{
            "problem": heat(100, 10, 20),
            "network": MLP(hidden=(8, 8)),
            "optimizer": SNGD(rank=16),
            "max_steps": 4,
            "evaluate_points": 200,
            "device": "cpu",
            **fields,
        }
    )


def follow(run, action=None, **keywords):
    follower = Follower(action)
    trained = train(run, LocalRanks(), CPU, hooks=[follower], **keywords)
    return trained, follower


def test_records_and_result_hold_what_is_promised():
    trained, follower = follow(small())
    assert [r["step"] for r in follower.records] == [1, 2, 3, 4]
    for record in follower.records:
        assert set(KEYS) <= set(record)
        assert math.isclose(sum(record["losses"].values()), record["loss"], rel_tol=1e-12)
    assert set(RESULT_KEYS) <= set(trained.result)
    assert follower.result is trained.result
    assert trained.result["points"] == 130
    assert trained.result["relative_l2"] == pytest.approx(follower.records[-1]["relative_l2"])
    assert [step for step, _ in trained.spectra] == [1, 2, 4]


def test_the_same_run_again_gives_the_same_losses_bitwise():
    losses = [[r["loss"] for r in follow(small(seed=3))[1].records] for _ in range(2)]
    assert losses[0] == losses[1]
    assert losses[0] != [r["loss"] for r in follow(small(seed=4))[1].records]


def test_it_stops_at_a_target_error():
    trained, follower = follow(small(max_steps=100, target_error=1e-2))
    assert trained.result["stop_reason"] == "target_error"
    errors = [r["relative_l2"] for r in follower.records]
    assert errors[-1] <= 1e-2 < min(errors[:-1])


def test_it_stops_at_its_budget():
    assert follow(small(max_steps=2))[0].result["stop_reason"] == "max_steps"
    trained, _ = follow(small(max_steps=10**6, max_seconds=0.2))
    assert trained.result["stop_reason"] == "max_seconds"


def test_it_stops_when_no_step_is_left():
    domain = Box(x=(0, 1))
    constant = Problem(
        domain, [Condition("c", lambda u, p: 0.0 * u + 1.0, domain.interior, 8)], solution=lambda p: p[0]
    )
    trained, follower = follow(small(problem=constant, max_steps=100))
    assert trained.result["stop_reason"] == "stalled"
    assert not any(r["accepted"] for r in follower.records)


def test_an_interrupt_finishes_the_step():
    def interrupt(record):
        if record["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    trained, follower = follow(small(max_steps=50), interrupt)
    assert trained.result["stop_reason"] == "interrupted"
    assert trained.result["steps"] == len(follower.records) == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_points_are_drawn_anew_every_m_steps():
    run = small(problem=transport(2.0, 40, 10), resample_every=2)
    sets = [draw_points(run, step, LocalRanks(), CPU, torch.float64)[0] for step in (1, 2, 3, 4, 5)]
    assert torch.equal(sets[0], sets[1])
    assert torch.equal(sets[2], sets[3])
    assert not torch.equal(sets[0], sets[2])
    assert not torch.equal(sets[2], sets[4])
    fixed = small(problem=transport(2.0, 40, 10))
    assert torch.equal(sets[0], draw_points(fixed, 5, LocalRanks(), CPU, torch.float64)[0])


def test_a_problem_without_a_solution_trains_without_errors_to_report():
    known = heat(60, 10, 20)
    problem = Problem(known.domain, known.conditions, name="unknown")
    trained, follower = follow(small(problem=problem))
    assert trained.result["relative_l2"] is None
    assert all(r["relative_l2"] is None for r in follower.records)


def test_a_residual_that_is_not_finite_names_condition_and_point():
    domain = Box(x=(0, 1), t=(0, 1))
    X, _ = domain.axes
    bad = Condition("logarithm", lambda u, p: u + torch.log(p[X] - 0.5), domain.interior, 20)
    with pytest.raises(
        NonFiniteResidualError, match=r"condition 'logarithm' has residual nan at x=0\.\d+, t="
    ):
        follow(small(problem=Problem(domain, [bad])))


def test_the_checkpoint_holds_the_final_parameters(tmp_path):
    trained, _ = follow(small(), folder=tmp_path)
    saved = checkpoint.load(tmp_path / "checkpoint")
    assert torch.equal(saved["theta"], trained.theta)
    assert saved["step"] == 4
