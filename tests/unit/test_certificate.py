"""What a run says of its own answer, and whether another computer says the same."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import nn

from sngd import MLP, SNGD, Ball, Box, Condition, Data, Marching, PointCloud, Problem, RunConfig, Stability
from sngd.activations import NETWORK_ACTIVATIONS
from sngd.certificate import agreement, certify
from sngd.collectives import LocalRanks
from sngd.evaluate import residual_norms
from sngd.modules import Module
from sngd.problems import heat, poisson2d
from sngd.stopping import Stopping
from sngd.tracking.base import plain
from sngd.training import train


def built(problem, config=MLP((8, 8)), seed=0):
    network = config.build(problem.domain, len(problem.outputs), seed)
    return network, network.initial


# conditions


def test_residuals_of_fresh_points_with_the_place_of_the_largest():
    problem = heat(60, 10, 20)
    network, theta = built(problem)
    told = certify(problem, network, theta, 400)
    assert told == json.loads(json.dumps(told))
    norms = residual_norms(problem, network, theta, 400)
    assert list(told["conditions"]) == ["equation", "initial", "walls"]
    for name, condition in told["conditions"].items():
        assert {key: condition[key] for key in ("points", "rms", "max")} == norms[name]
        assert condition["mean"] <= condition["rms"] <= condition["max"]
        assert condition["fresh"]
        assert condition["not_finite"] == 0
    initial, walls = (told["conditions"][name] for name in ("initial", "walls"))
    x = torch.tensor([[initial["at"]["x"], initial["at"]["t"]]], dtype=torch.float64)
    r = network(theta, x)[0, 0] - math.sin(math.pi * initial["at"]["x"])
    assert abs(float(r)) == pytest.approx(initial["max"])
    assert walls["at"]["x"] in (0.0, 1.0)
    kinds = [(c["kind"], c["order"]) for c in told["conditions"].values()]
    assert kinds == [("equation", 2), ("initial", 0), ("boundary", 0)]
    assert (told["points"], told["dtype"], told["device"]) == (400, "float64", "cpu")
    assert told["notes"] == []


def kinds_of(domain, *regions):
    made = [Condition(f"c{i}", lambda u, p: u, region, 2) for i, region in enumerate(regions)]
    problem = Problem(domain, made)
    told = certify(problem, *built(problem), 8)
    return [condition["kind"] for condition in told["conditions"].values()]


def test_kinds_of_regions():
    box = Box(x=(0, 1), y=(0, 1), t=(2, 3), periodic="y")
    faces = (box.face(t=2), box.face(t=3), box.face(x=0.5), box.face(y=0), box.face(x=0, y=0))
    assert kinds_of(box, *faces) == ["initial", "boundary", "inside", "inside", "boundary"]
    part = box.boundary("x").where(lambda p: p.values[:, 1] > 0.5)
    assert kinds_of(box, part, box.interior.where(lambda p: p.values[:, 1] > 0.5)) == ["boundary", "equation"]
    points = [[0.5, 0.5, 2.5], [0.25, 0.5, 2.5]]
    assert kinds_of(box, PointCloud(box, points)) == ["given"]
    disk = Ball(x=0, y=0, radius=1)
    assert kinds_of(disk, disk.interior, disk.boundary()) == ["equation", "boundary"]
    rod = disk.over(t=(0, 1))
    assert kinds_of(rod, rod.interior, rod.face(t=0), rod.boundary()) == ["equation", "initial", "boundary"]


def test_given_points_are_told_as_such():
    box = Box(x=(0, 1))
    data = Data(box, [[0.1], [0.2], [0.7]], {"u": [0.0, 1.0, 2.0]})
    problem = Problem(box, [Condition("data", lambda u, p: u - p.data["u"], data)])
    told = certify(problem, *built(problem), 500)["conditions"]["data"]
    assert (told["points"], told["fresh"], told["kind"]) == (3, False, "given")


def test_no_more_points_than_take_seconds(monkeypatch):
    few, many = heat(60, 10, 20), heat()
    assert certify(few, *built(few))["points"] == 1000
    network, theta = built(many)
    assert certify(many, network, theta)["points"] == 10_000
    # 6 channels: those of the equation, and a value for each of the others
    monkeypatch.setattr("sngd.certificate._WORK", 6 * network.parameters * 700)
    assert certify(many, network, theta)["points"] == 700
    monkeypatch.setattr("sngd.certificate._WORK", 1)
    assert certify(many, network, theta)["points"] == 500


# what is not finite, and what fails


def blow_up(at):
    domain = Box(x=(0, 1))
    (X,) = domain.axes
    conditions = [
        Condition("equation", lambda u, p: u + 0 * torch.sqrt(p[X] - at), domain.interior, 4),
        Condition("end", lambda u, p: u, domain.face(x=1), 1),
    ]
    return Problem(domain, conditions, stability=Stability({"equation": 1.0, "end": 1.0}))


def test_residuals_that_are_not_finite_are_told_not_hidden():
    problem = blow_up(at=0.25)
    told = certify(problem, *built(problem), 400)
    assert told == json.loads(json.dumps(told, allow_nan=False))
    equation = told["conditions"]["equation"]
    assert equation["rms"] is equation["max"] is equation["mean"] is None
    assert 80 <= equation["not_finite"] <= 120
    assert equation["at"]["x"] < 0.25
    assert told["error_estimate"] is None
    assert told["notes"][0].startswith(f"equation: residual not finite at {equation['not_finite']} of 400")
    assert "no error estimate: a residual is not finite" in told["notes"]
    assert "equation not finite" in told["summary"]
    assert told["conditions"]["end"]["max"] > 0


def test_a_residual_that_fails_on_fresh_points_does_not_undo_the_run():
    domain = Box(x=(0, 1))

    def fussy(u, p):
        if len(p) > 20:
            raise KeyError("too many")
        return u

    problem = Problem(
        domain, [Condition("fussy", fussy, domain.interior, 9)], stability=Stability({"fussy": 1})
    )
    run = RunConfig(problem, MLP((4,)), SNGD(rank=4), max_steps=1, device="cpu")
    told = train(run, LocalRanks(), torch.device("cpu")).result["certificate"]
    assert told["conditions"] == {}
    assert told["error_estimate"] is None
    assert "KeyError" in told["notes"][0]
    assert "KeyError" in told["summary"]


# rounding


def test_rounding_is_what_another_order_of_magnitude_of_digits_says():
    problem = poisson2d(50, 20)
    network, theta = built(problem)
    fine, coarse = (certify(problem, network, theta, 500, dtype) for dtype in (torch.float64, torch.float32))
    for name, condition in fine["conditions"].items():
        other = coarse["conditions"][name]
        assert condition["resolved"]
        assert 0 < condition["rounding"] <= condition["rounding_max"] < 1e-12
        assert other["rounding"] == pytest.approx(2**29 * condition["rounding"])
        assert abs(other["rms"] - condition["rms"]) <= other["rounding"]
        assert abs(other["max"] - condition["max"]) <= other["rounding_max"]


def test_a_residual_below_rounding_is_not_resolved():
    domain = Box(x=(0, 1))
    problem = Problem(domain, [Condition("equation", lambda u, p: (u + 1e3) - 1e3 - u, domain.interior, 9)])
    told = certify(problem, *built(problem), 200)
    assert told["conditions"]["equation"]["resolved"] is False
    assert "(not above rounding)" in told["summary"]


# where a theorem does not apply


class Clamped(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.one, self.two = nn.Linear(inputs, 8), nn.Linear(8, outputs)

    def forward(self, x):
        return self.two(self.one(x).clamp(max=1.0) + torch.relu(self.one(x)))


def test_kinks_do_not_show_in_residuals_so_nothing_is_said_of_the_error():
    problem = poisson2d(50, 20)
    told = certify(problem, *built(problem, Module(Clamped)), 100)
    assert told["error_estimate"] is None
    assert "fields may have kinks (clamp, relu), which" in told["notes"][0]
    bent = Problem(
        problem.domain,
        [Condition("equation", lambda u, p: u, problem.domain.interior, 9)],
        ansatz=lambda N, p: abs(N),
        stability=Stability({"equation": 1.0}),
    )
    assert "(abs)" in certify(bent, *built(bent), 100)["notes"][0]


@pytest.mark.parametrize("activation", NETWORK_ACTIVATIONS)
def test_smooth_networks_have_no_kinks(activation):
    problem = poisson2d(50, 20)
    told = certify(problem, *built(problem, MLP((8,), activation)), 100)
    assert told["error_estimate"] is not None


def test_slabs_of_time_jump_where_they_meet_so_nothing_is_said_of_the_error():
    run = RunConfig(
        heat(60, 10, 20), MLP((4,)), SNGD(rank=4), max_steps=2, device="cpu", marching=Marching(slabs=2)
    )
    told = train(run, LocalRanks(), torch.device("cpu")).result["certificate"]
    assert told["error_estimate"] is None
    assert told["notes"] == [
        "no error estimate: slabs of time do not join exactly, which residuals do not show"
    ]
    assert told["conditions"]["equation"]["rms"] > 0


# agreement


@pytest.fixture(scope="module")
def recorded():
    problem = heat(60, 10, 20)
    network, theta = built(problem)
    return problem, network, theta, plain(certify(problem, network, theta, 300))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_another_dtype_agrees_up_to_its_rounding(recorded, dtype):
    problem, network, theta, old = recorded
    found = agreement(old, certify(problem, network, theta, 300, dtype))
    assert found["agrees"] is True
    for name, one in found["conditions"].items():
        unit = torch.finfo(dtype).eps
        assert one["rms"] <= 1e3 * unit, name
    assert (found["conditions"]["equation"]["rms"] > 0) is (dtype == torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_other_parameters_do_not(recorded, dtype):
    problem, network, theta, old = recorded
    found = agreement(old, certify(problem, network, 1.01 * theta, 300, dtype))
    assert found["agrees"] is False
    assert "equation" in found["why"]


def test_other_points_or_other_conditions_are_not_compared(recorded):
    problem, network, theta, old = recorded
    assert agreement(old, certify(problem, network, theta, 301))["agrees"] is None
    other = copy.deepcopy(old)
    del other["conditions"]["walls"]
    assert agreement(other, old)["agrees"] is False
    for damaged in (
        {},
        {**old, "conditions": {"equation": 3}},
        {**old, "dtype": "float7"},
        {**old, "key": 1},
    ):
        assert agreement(damaged, old)["agrees"] is not True


def test_what_is_not_finite_agrees_with_its_like_alone(recorded):
    *_, old = recorded
    other = copy.deepcopy(old)
    other["conditions"]["equation"]["max"] = None
    assert agreement(other, old)["agrees"] is False
    assert agreement(old, other)["agrees"] is False
    assert agreement(other, other)["agrees"] is True


def test_a_run_that_is_told_to_end_has_no_time_for_it():
    class Told(Stopping):
        def reason(self, step_seconds=0.0):
            return "terminated"

    run = RunConfig(heat(60, 10, 20), MLP((4,)), SNGD(rank=4), max_steps=9, device="cpu")
    result = train(run, LocalRanks(), torch.device("cpu"), stopping=Told()).result
    assert result["stop_reason"] == "terminated"
    assert result["certificate"] is None
