"""A coefficient that changes on the way."""

import pytest
import torch

from sngd import MLP, SNGD, Box, Condition, Curriculum, Problem, RunConfig, d
from sngd.collectives import LocalRanks
from sngd.training import train
from tests.problems import inverse
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")


def _problem(nu=0.25, seen=None):
    """u_t = ν u_xx; residuals note the ν that they see."""
    domain = Box(x=(0, 1), t=(0, 1))
    X, T = domain.axes

    def equation(u, p):
        if seen is not None:
            seen.add(float(p["nu"][0]))
        return d(u, T) - p["nu"] * d(u, X, X)

    conditions = [
        Condition("equation", equation, domain.interior, 30),
        Condition("initial", lambda u, p: u - torch.sin(torch.pi * p[X]), domain.face(t=0), 8),
        Condition("walls", lambda u, p: u, domain.boundary("x"), 8),
    ]
    exact = lambda p: torch.exp(-nu * torch.pi**2 * p[T].value) * torch.sin(torch.pi * p[X].value)  # noqa: E731
    return Problem(domain, conditions, coefficients={"nu": nu}, solution=exact)


class Told(list):
    start = saved = end = lambda self, *what: None

    def step(self, record):
        self.append(record)


def _train(run, ranks=None):
    hook = Told()
    trained = train(run, ranks or LocalRanks(), CPU, hooks=[hook])
    return trained, hook


def _run(curriculum, problem=None, **changes):
    fields = {"max_steps": 8, "evaluate_points": 50, "device": "cpu", "memory_gb": 0.5}
    fields |= changes
    return RunConfig(problem or _problem(), MLP((6, 6)), SNGD(rank=16), curriculum=curriculum, **fields)


def test_a_value_is_kept_for_its_steps():
    curriculum = Curriculum("nu", (1.0, 0.5), (2, 3))
    assert [curriculum.at(n, 0.25) for n in range(1, 8)] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert curriculum.length(0.25) == 5


def test_values_lead_to_one_another():
    straight = Curriculum("nu", (1.0, 0.5), 2, "linear")
    assert [straight.at(n, 0.0) for n in range(1, 7)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    factors = Curriculum("nu", (-8.0,), 3, "log")
    assert [factors.at(n, -1.0) for n in (1, 2, 3, 4)] == pytest.approx([-8.0, -4.0, -2.0, -1.0])
    assert factors.at(4, -1.0) == -1.0


def test_last_values_that_are_final_take_no_steps():
    curriculum = Curriculum("nu", (0.1, 0.01), 50)
    assert curriculum.length(0.01) == 50
    assert curriculum.at(51, 0.01) == 0.01
    assert Curriculum("nu", (0.01,)).length(0.01) == 0


def test_a_run_trains_on_every_value_and_is_judged_on_the_last():
    seen = set()
    problem = _problem(seen=seen)
    seen.clear()
    trained, records = _train(_run(Curriculum("nu", (1.0, 0.5), (2, 3)), problem, target_error=1e9))
    assert [r["known"]["nu"] for r in records] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    assert [r["relative_l2"] is None for r in records] == [True] * 5 + [False]
    assert seen == {1.0, 0.5, 0.25}
    assert trained.result["stop_reason"] == "target_error"
    assert trained.result["relative_l2"] == records[-1]["relative_l2"]


def test_a_run_that_stops_before_the_last_value_has_no_error():
    trained, _ = _train(_run(Curriculum("nu", (1.0,), 5), max_seconds=1e-9))
    assert trained.result["steps"] == 1
    assert trained.result["relative_l2"] is None


def test_the_last_steps_are_those_of_the_problem():
    """From the same θ, a step after the curriculum is a step without one."""
    _, records = _train(_run(Curriculum("nu", (0.25,), 3)))
    _, plain = _train(_run(None))
    assert [r["loss"] for r in records] == [r["loss"] for r in plain]
    _, other = _train(_run(Curriculum("nu", (1.0,), 3)))
    assert other[0]["loss"] != plain[0]["loss"]


def test_a_state_is_evaluated_anew_when_the_value_changes():
    """The first step after a change starts from the loss of the new equation: it lowers that one."""
    run = _run(Curriculum("nu", (4.0,), 4), max_steps=5)
    _, records = _train(run)
    alone, before = _train(_run(None, _problem(4.0), max_steps=4))
    assert [r["loss"] for r in records[:4]] == [r["loss"] for r in before]
    from sngd.assembly import build_objective

    objective = build_objective(run, alone.network, LocalRanks(), CPU)
    at_change = objective.evaluate(alone.theta).loss
    assert at_change > 1.5 * records[3]["loss"]
    assert records[4]["accepted"]
    assert records[4]["loss"] < at_change


def test_a_value_at_which_no_step_lowers_the_loss_does_not_end_the_run():
    domain = Box(x=(0, 1))
    (X,) = domain.axes
    scaled = Condition("scaled", lambda u, p: p["c"] * (u - p[X]), domain.interior, 12)
    problem = Problem(domain, [scaled], coefficients={"c": 1.0}, solution=lambda p: p[X].value)
    _, records = _train(_run(Curriculum("c", (0.0,), 9), problem, max_steps=14))
    assert [r["accepted"] for r in records[:9]] == [False] * 9
    assert [r["loss"] for r in records[:9]] == [0.0] * 9
    assert len(records) == 14
    assert records[-1]["loss"] < 1e-3 * records[9]["loss"]


def test_a_curriculum_is_the_same_on_any_number_of_ranks():
    run = _run(Curriculum("nu", (1.0,), 4, "linear"), max_steps=6)
    losses = lambda ranks: [r["loss"] for r in _train(run, ranks)[1]]  # noqa: E731
    alone, *_ = on_ranks(1, losses)
    assert on_ranks(3, losses)[0] == pytest.approx(alone, rel=1e-6)


BAD = [
    *[("coefficient", value) for value in (1, None)],
    *[("values", value) for value in ((), (float("inf"),), ("1",), 1.0, None)],
    *[("steps", value) for value in (0, 2.5, None, (1,), (1, 0), (1, 2, 3))],
    *[("interpolation", value) for value in ("cubic", None)],
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_field_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as caught:
        Curriculum(**{"coefficient": "nu", "values": (2.0, 1.0), field: value})
    assert str(caught.value).startswith(f"curriculum.{field}={value!r} must be ")


def test_the_coefficient_must_be_known():
    with pytest.raises(
        ValueError, match=r"coefficient='mu' must be a known coefficient .* which has nu: give"
    ):
        _run(Curriculum("mu", (1.0,), 2))
    with pytest.raises(
        ValueError, match=r"coefficient='c' must be a known coefficient .* which has known: give"
    ):
        RunConfig(inverse().problem, inverse().network, curriculum=Curriculum("c", (1.0,), 2))
    with pytest.raises(ValueError, match=r'must, for "log", all have the sign of nu=0.25'):
        _run(Curriculum("nu", (1.0, -1.0), 2, "log"))
    with pytest.raises(ValueError, match="curriculum takes 8 steps, which must be below max_steps=8"):
        _run(Curriculum("nu", (1.0,), 8))
