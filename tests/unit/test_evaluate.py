"""Errors against the known solution, held against a direct computation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sngd.condition import Condition
from sngd.domain import Box
from sngd.evaluate import Evaluation, compare, predict, residual_norms, time_axis
from sngd.networks import MLP, Network
from sngd.points import Points
from sngd.problem import Problem
from sngd.taylor import Channel
from tests.pictures import Ring
from tests.problems import heat


def make(fields: tuple[str, ...] = ("u",), solution: object = None) -> tuple[Problem, Network]:
    domain = Box(x=(-1, 2), t=(0, 3))
    first = lambda w, p: w if len(fields) == 1 else w[0]  # noqa: E731
    conditions = [Condition("equation", first, domain.interior, points=4)]
    problem = Problem(domain, conditions, fields=fields, solution=solution, name="test")  # type: ignore[arg-type]
    return problem, MLP((5, 5)).build(domain, len(fields), seed=3)


def wave(p: Points) -> Tensor:
    return torch.sin(p.values[:, 0]) + p.values[:, 1]


def test_relative_l2_is_the_ratio_of_norms_on_points_of_the_interior() -> None:
    problem, network = make(solution=wave)
    evaluation = Evaluation(problem, network, points=500)
    x = evaluation.points
    assert x.shape == (500, 2)
    assert x.dtype == torch.float64
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 3.0])
    assert ((x >= low) & (x <= high)).all()
    assert (x.std(0) > 0.8).all(), "the points cover the domain"
    known = torch.sin(x[:, 0]) + x[:, 1]
    error = network(network.initial, x)[:, 0] - known
    expected = math.sqrt(float((error**2).sum() / (known**2).sum()))
    assert evaluation.relative_l2(network.initial) == pytest.approx(expected, rel=1e-13)
    errors = evaluation.errors(network.initial)
    assert errors["relative_l2"] == pytest.approx(expected, rel=1e-13)
    assert errors["max_error"] == pytest.approx(float(error.abs().max()), rel=1e-13)
    assert errors["fields"] == pytest.approx({"u": expected}, rel=1e-13)


def test_a_network_that_is_the_solution_has_no_error() -> None:
    _, network = make()
    theta = network.initial + 0.1
    problem, _ = make(solution=lambda p: network(theta, p.values)[:, 0])
    evaluation = Evaluation(problem, network, points=100)
    assert evaluation.relative_l2(theta) < 1e-15
    assert evaluation.relative_l2(theta * 1.1) > 1e-3


def test_errors_of_a_system_are_told_apart() -> None:
    problem, network = make(("u", "v"), lambda p: (wave(p), 100 * wave(p)))
    evaluation = Evaluation(problem, network, points=300)
    known = torch.stack([wave(Points(evaluation.points)) * s for s in (1, 100)], dim=1)
    error = network(network.initial, evaluation.points) - known
    errors = evaluation.errors(network.initial)
    fields = {n: float(error[:, i].norm() / known[:, i].norm()) for i, n in enumerate("uv")}
    assert errors["fields"] == pytest.approx(fields, rel=1e-13)
    assert errors["fields_max_error"] == pytest.approx(
        dict(zip("uv", error.abs().amax(0).tolist(), strict=True))
    )
    assert errors["relative_l2"] == pytest.approx(float(error.norm() / known.norm()), rel=1e-13)
    assert evaluation.relative_l2(network.initial) == pytest.approx(errors["relative_l2"], rel=1e-13)


def test_points_do_not_depend_on_how_many_and_are_no_training_points() -> None:
    problem, network = make(solution=wave)
    many, few = (Evaluation(problem, network, points=n).points for n in (200, 50))
    assert torch.equal(many[:50], few)
    for seed in (0, 1, 0x5EED):
        trained = problem.domain.interior.sample(0, 200, (seed, 0, 0))
        assert torch.cdist(many, trained).min() > 0


def test_without_a_solution_errors_are_nan() -> None:
    problem, network = make(("u", "v"))
    evaluation = Evaluation(problem, network, points=10)
    assert math.isnan(evaluation.relative_l2(network.initial))
    errors = evaluation.errors(network.initial)
    assert math.isnan(errors["relative_l2"])  # type: ignore[arg-type]
    assert math.isnan(errors["max_error"])  # type: ignore[arg-type]
    assert {name: math.isnan(e) for name, e in errors["fields"].items()} == {"u": True, "v": True}  # type: ignore[union-attr]


def test_a_field_that_vanishes_has_no_relative_error_but_counts_in_the_total() -> None:
    problem, network = make(("u", "v"), lambda p: (wave(p), 0 * wave(p)))
    evaluation = Evaluation(problem, network, points=50)
    errors = evaluation.errors(network.initial)
    assert math.isnan(errors["fields"]["v"])  # type: ignore[index]
    known = wave(Points(evaluation.points))
    error = network(network.initial, evaluation.points) - torch.stack([known, 0 * known], dim=1)
    assert errors["relative_l2"] == pytest.approx(float(error.norm() / known.norm()), rel=1e-13)
    zero, _ = make(solution=lambda p: 0 * wave(p))
    assert math.isnan(Evaluation(zero, make()[1], points=5).relative_l2(make()[1].initial))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_solution_that_is_not_finite_is_refused_at_its_first_point(bad: float) -> None:
    network = make()[1]
    points = Evaluation(make(solution=wave)[0], network, points=400).points
    first = int((points[:, 0] > 1.5).nonzero()[0])
    problem, _ = make(solution=lambda p: torch.where(p.values[:, 0] > 1.5, bad, wave(p)))
    x, t = points[first].tolist()
    with pytest.raises(ValueError, match=r"'test'.*must be finite") as caught:
        Evaluation(problem, network, points=400)
    assert f"x={x:.17g}, t={t:.17g}" in str(caught.value)
    assert f"[{bad}]" in str(caught.value)
    assert f"{int((points[:, 0] > 1.5).sum())} of 400" in str(caught.value)


@pytest.mark.parametrize("points", [0, -3, 2.5, True])
def test_points_must_be_a_positive_whole_number(points: object) -> None:
    problem, network = make(solution=wave)
    with pytest.raises(ValueError, match=f"points={points}"):
        Evaluation(problem, network, points=points)  # type: ignore[arg-type]


def test_float32_is_the_network_alone_norms_are_float64() -> None:
    problem, network = make(solution=wave)
    single = Evaluation(problem, network, points=200, dtype=torch.float32)
    double = Evaluation(problem, network, points=200)
    assert single.reference is not None
    assert single.reference.dtype == torch.float64
    values = predict(problem, single.network, network.initial.float(), single.points)
    assert values.dtype == torch.float64
    a, b = single.relative_l2(network.initial.float()), double.relative_l2(network.initial)
    assert a != b
    assert a == pytest.approx(b, rel=1e-5)


def test_chunks_bound_the_points_at_once_and_change_nothing() -> None:
    problem, network = make()
    x = torch.rand(25, 2, dtype=torch.float64)
    seen: list[int] = []
    embed = network.embed

    def watched(part: Tensor, channels: tuple[Channel, ...]) -> Tensor:
        seen.append(len(part))
        return embed(part, channels)

    network.embed = watched  # type: ignore[method-assign]
    values = predict(problem, network, network.initial.requires_grad_(), x, chunk=10)
    network.embed = embed  # type: ignore[method-assign]
    assert seen == [10, 10, 5]
    assert not values.requires_grad
    torch.testing.assert_close(values, network(network.initial.detach(), x), rtol=1e-14, atol=1e-14)


def test_the_solution_is_called_once_not_at_every_evaluation() -> None:
    calls = []
    problem, network = make(solution=lambda p: calls.append(len(p)) or wave(p))
    evaluation = Evaluation(problem, network, points=30)
    for scale in (1, 2, 3):
        evaluation.relative_l2(scale * network.initial)
    assert calls == [30]


# Over time


def test_the_error_over_time_is_that_of_the_points_moved_to_each_time() -> None:
    problem, network = make(("u", "v"), lambda p: (wave(p), 5 + 100 * wave(p)))
    evaluation = Evaluation(problem, network, points=300)
    over = evaluation.over_time(network.initial, times=4)
    assert over is not None
    assert over["axis"] == "t"
    assert over["times"] == pytest.approx([0, 1, 2, 3])
    for number, t in enumerate(over["times"]):
        x = torch.stack([evaluation.points[:, 0], torch.full((300,), t, dtype=torch.float64)], dim=1)
        known = torch.stack([wave(Points(x)), 5 + 100 * wave(Points(x))], dim=1)
        error = network(network.initial, x) - known
        assert over["relative_l2"][number] == pytest.approx(float(error.norm() / known.norm()))
        for column, name in enumerate("uv"):
            expected = float(error[:, column].norm() / known[:, column].norm())
            assert over["fields"][name][number] == pytest.approx(expected)


def test_no_error_over_time_without_a_solution_or_without_time() -> None:
    problem, network = make()
    assert Evaluation(problem, network, points=5).over_time(network.initial) is None
    assert (time_axis(("x", "t")), time_axis(("time", "x")), time_axis(("x", "y"))) == (1, 0, None)
    space = Box(x=(0, 1), y=(0, 1))
    still = Problem(space, [Condition("c", lambda u, p: u, space.interior, points=4)], solution=wave)
    network = MLP((3,)).build(space, 1, seed=0)
    assert Evaluation(still, network, points=5).over_time(network.initial) is None


class Front(Box):
    """The part x ≤ t of a box, which is empty before t = −1."""

    def contains(self, x: Tensor) -> Tensor:
        return super().contains(x) & (x[:, 0] <= x[:, 1])


def test_points_of_a_time_lie_in_the_domain() -> None:
    domain = Front(x=(-1, 2), t=(-2, 2))
    asked: list[Tensor] = []

    def solution(p: Points) -> Tensor:
        asked.append(p.values)
        return wave(p)

    problem = Problem(domain, [Condition("c", lambda u, p: u, domain.interior, points=4)], solution=solution)
    network = MLP((3,)).build(domain, 1, seed=0)
    evaluation = Evaluation(problem, network, points=100)
    asked.clear()
    over = evaluation.over_time(network.initial, times=5)
    assert over is not None
    assert all(domain.contains(x).all() for x in asked)
    assert [len(x) for x in asked][-1] == 100, "at t = 2 all of them"
    assert [math.isnan(e) for e in over["relative_l2"]] == [True, True, False, False, False]


# Points outside of the domain


def test_fields_and_solution_are_asked_inside_alone() -> None:
    domain = Ring(x=(0, 1), y=(0, 1))

    def solution(p: Points) -> Tensor:
        assert domain.contains(p.values).all()
        return wave(p)

    problem = Problem(domain, [Condition("c", lambda u, p: u, domain.interior, points=4)], solution=solution)
    network = MLP((3,)).build(domain, 1, seed=0)
    x = torch.rand(60, 2, dtype=torch.float64)
    inside = domain.contains(x)
    u, known = compare(problem, network, network.initial, x)
    assert known is not None
    assert 5 < int(inside.sum()) < 55
    assert torch.equal(u.isnan()[:, 0], ~inside)
    assert torch.equal(known.isnan()[:, 0], ~inside)
    torch.testing.assert_close(u[inside], network(network.initial, x[inside]), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(known[inside, 0], wave(Points(x[inside])))
    nowhere, nothing = compare(problem, network, network.initial, torch.full((3, 2), 5.0).double())
    assert nothing is not None
    assert nowhere.shape == nothing.shape == (3, 1)
    assert nowhere.isnan().all()
    assert nothing.isnan().all()


# Residuals


def test_residual_norms_are_those_of_nested_derivatives_on_fresh_points() -> None:
    case = heat()
    network = case.network.build(case.problem.domain, 1, seed=1)
    norms = residual_norms(case.problem, network, network.initial.requires_grad_(), points=50)
    assert list(norms) == ["equation", "initial", "walls"]
    for number, (condition, naive) in enumerate(zip(case.problem.conditions, case.naive, strict=True)):
        x = condition.region.sample(0, 50, (0x5EED, 0xE7A1, 1 + number), condition.sampling)
        trained = condition.region.sample(0, condition.points, (0, 0, number), condition.sampling)
        assert torch.cdist(x, trained).min() > 0
        x.requires_grad_()
        (r,) = (part.detach() for part in naive([network(network.initial, x)[:, 0]], x))
        told = norms[condition.name]
        assert told["points"] == 50
        assert told["rms"] == pytest.approx(math.sqrt(float(r.square().mean())), rel=1e-10)
        assert told["max"] == pytest.approx(float(r.abs().max()), rel=1e-10)


def test_components_of_a_residual_count_together() -> None:
    domain = Box(x=(0, 1))
    pair = Condition("pair", lambda u, p: (u, 2 * u), domain.interior, points=4, weight=7.0)
    problem = Problem(domain, [pair])
    network = MLP((3,)).build(domain, 1, seed=0)
    norms = residual_norms(problem, network, network.initial, points=40)["pair"]
    x = domain.interior.sample(0, 40, (0x5EED, 0xE7A1, 1))
    u = network(network.initial, x)[:, 0]
    assert norms["rms"] == pytest.approx(math.sqrt(5 * float(u.square().mean())))
    assert norms["max"] == pytest.approx(2 * float(u.abs().max()))
