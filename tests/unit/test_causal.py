"""Causal weights against a plain reading of their rule, and the same on any number of ranks."""

import math

import pytest
import torch

from sngd import SNGD, Box, Causal, Condition, Problem, RunConfig, d
from sngd.assembly import build_objective
from sngd.causal import CausalWeights
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.landmarks import choose_landmarks
from sngd.training import train
from tests.problems import CASES, heat, parameters
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")


def _objective(case, ranks=None, **changes):
    run = RunConfig(case.problem, case.network, SNGD(rank=16), device="cpu", memory_gb=0.5, **changes)
    ranks = ranks or LocalRanks()
    return build_objective(run, build_network(run.problem, run.network, run.seed), ranks, CPU)


def _plain_weights(collocation, raw, number, axis, epsilon, bins):
    """w of every point of a condition, by loops."""
    low, high = collocation.problem.domain.bounds[axis]
    points = collocation.points[number]
    size = raw[collocation.condition_rows[number]].view(len(points), -1).square().sum(1)
    place = [min(int((float(t) - low) / (high - low) * bins), bins - 1) for t in points[:, axis]]
    losses = []
    for m in range(bins):
        inside = [float(s) for s, b in zip(size, place, strict=True) if b == m]
        losses.append(sum(inside) / len(inside) if inside else 0.0)
    return torch.tensor([math.exp(-epsilon * sum(losses[:b])) for b in place], dtype=torch.float64)


@pytest.mark.parametrize(("name", "axis"), [("heat", 1), ("system", 1), ("diffusion", 3)])
def test_weights_follow_the_rule_and_multiply_squared_residuals(name, axis):
    case = CASES[name]()
    objective = _objective(case)
    theta = parameters(objective.collocation)
    state, plain = objective.evaluate(theta), objective.scale
    causal = CausalWeights(Causal(0.3, bins=6), objective)
    after = causal.after(state)
    want = _plain_weights(objective.collocation, state.raw, 0, axis, 0.3, 6)
    assert 0 < float(want.min()) < 0.9
    q = case.problem.signatures[0].components
    for number, rows in enumerate(objective.collocation.condition_rows):
        factors = want.repeat_interleave(q) if number == 0 else 1.0
        torch.testing.assert_close(objective.scale[rows], plain[rows] * torch.as_tensor(factors).sqrt())
        weighted = (state.residual[rows].square() * factors).sum()
        assert float(after.losses[number]) == pytest.approx(float(weighted), rel=1e-12)
    assert after.loss == objective.evaluate(theta).loss
    assert causal.record()["causal"]["least_weight"] == pytest.approx(float(want.min()))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_weights_are_the_same_on_any_number_of_ranks(size):
    def work(ranks):
        objective = _objective(heat(50), ranks)
        causal = CausalWeights(Causal(0.3, bins=8), objective)
        state = causal.after(objective.evaluate(parameters(objective.collocation)))
        return causal.weights.weights, state.loss, ranks.traffic["causal"].bytes if ranks.size > 1 else 0

    alone, *_ = on_ranks(1, work)
    for weights, loss, sent in (results := on_ranks(size, work)):
        torch.testing.assert_close(weights, alone[0], rtol=1e-12, atol=0)
        assert torch.equal(weights, results[0][0])
        assert loss == pytest.approx(alone[1], rel=1e-12)
        assert sent == 8 * 2 * 8


def test_the_tolerance_rises_once_all_weights_are_near_one():
    objective = _objective(heat(50))
    state = objective.evaluate(parameters(objective.collocation))
    causal = CausalWeights(Causal((1e-6, 1e-5, 10.0, 100.0), bins=4), objective)
    seen = []
    for _ in range(4):
        causal.after(state)
        seen.append(causal.record()["causal"])
    assert [r["tolerance"] for r in seen] == [1e-5, 10.0, 10.0, 10.0]
    assert [r["least_weight"] > 0.99 for r in seen] == [True, False, False, False]


def test_rows_of_landmarks_have_the_weights_of_their_points():
    """All points as landmarks: their Gramian is that of all rows, each with its weight."""
    objective = _objective(heat(12))
    theta = parameters(objective.collocation)
    CausalWeights(Causal(0.5, bins=4), objective).after(objective.evaluate(theta))
    jacobian, rows = objective.jacobian(theta), objective.collocation.row_count
    basis, _ = choose_landmarks(jacobian, [], rows, 0, 1, objective.ranks)
    whole = jacobian.dense()
    chosen = basis.landmarks.dense()
    assert chosen.shape == whole.shape
    torch.testing.assert_close(chosen @ chosen.T, whole @ whole.T)


def test_moved_points_have_the_weights_of_where_they_are():
    objective = _objective(heat(40))
    theta = parameters(objective.collocation)
    causal = CausalWeights(Causal(0.5, bins=4), objective)
    causal.after(objective.evaluate(theta))
    points = list(objective.collocation.points)
    points[0] = points[0].flip(0)
    before = objective.scale[objective.collocation.condition_rows[0]]
    objective.replace_points(points)
    after = objective.scale[objective.collocation.condition_rows[0]]
    assert torch.equal(after, before.flip(0))
    assert not torch.equal(after, before)


def test_weights_reach_one_as_a_run_goes_on():
    problem = heat(60).problem
    run = RunConfig(
        problem, heat().network, SNGD(rank=40), causal=Causal(0.1, 4), max_steps=25, device="cpu", memory_gb=1
    )

    class Told(list):
        start = saved = end = lambda self, *what: None

        def step(self, record):
            self.append(record)

    hook = Told()
    train(run, LocalRanks(), CPU, hooks=[hook])
    least = [record["causal"]["least_weight"] for record in hook]
    assert least[0] < 0.99 < least[-1] <= 1
    for record in hook:
        assert sum(record["losses"].values()) == pytest.approx(record["loss"], rel=1e-12)


BAD = [
    *[("tolerance", value) for value in (0, -1.0, float("nan"), (), (1.0, 0.5), ("1",), None)],
    *[("bins", value) for value in (1, 2.5, None)],
    *[("axis", value) for value in (None, 1)],
    *[("conditions", value) for value in ("equation", None, (1,))],
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_field_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as caught:
        Causal(**{field: value})
    assert str(caught.value).startswith(f"causal.{field}={value!r} must be ")


def test_the_time_axis_must_exist_and_begin():
    domain = Box(x=(0, 1), s=(0, 1), periodic="x")
    X, S = domain.axes
    problem = Problem(domain, [Condition("equation", lambda u, p: d(u, S) + d(u, X), domain.interior, 9)])
    with pytest.raises(
        ValueError, match=r"causal.axis='': the domain has no axis 't' or 'time', it has x, s"
    ):
        RunConfig(problem, causal=Causal())
    with pytest.raises(ValueError, match=r"causal.axis='y': the domain has no axis 'y'"):
        RunConfig(problem, causal=Causal(axis="y"))
    with pytest.raises(ValueError, match="'x' is periodic and has no beginning"):
        RunConfig(problem, causal=Causal(axis="x"))
    assert RunConfig(problem, causal=Causal(axis="s")).causal.axis == "s"
    with pytest.raises(ValueError, match=r"causal.conditions=\('initial',\): there is no 'initial'"):
        RunConfig(problem, causal=Causal(axis="s", conditions=("initial",)))
