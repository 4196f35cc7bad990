"""Adaptive points: chosen by residuals, the same on any number of ranks."""

import math

import pytest
import torch

from sngd import R3, RAD, SNGD, Box, Condition, Problem, RunConfig
from sngd.adaptive import AdaptivePoints, inclusion, movable, select
from sngd.assembly import build_objective
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.domain import share, unit_points
from sngd.residual import Collocation, ResidualError
from sngd.training import train
from tests.problems import CASES, heat, parameters
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")
SIZES = [1, 2, 3, 4]


def _uneven(count: int) -> torch.Tensor:
    return unit_points(0, count, 1, (3,), "uniform", "cpu")[:, 0] ** 4 + 1e-3


def _run(case, config, **changes):
    fields = {"adaptive_points": config, "max_steps": 6, "device": "cpu", "memory_gb": 0.5}
    fields["optimizer"] = SNGD(rank=16)
    return RunConfig(case.problem, case.network, **{**fields, **changes})


def _moved(run, number, theta=None):
    """(points of every condition, the ranks) after they have moved before a step, for any ranks."""

    def work(ranks):
        network = build_network(run.problem, run.network, run.seed)
        objective = build_objective(run, network, ranks, CPU)
        moving = AdaptivePoints(run.adaptive_points, objective, run.seed)
        at = parameters(objective.collocation) if theta is None else theta
        assert moving.before(number, at)
        return objective.collocation.points, ranks

    return work


def _residual_at(run, points, number, theta=None):
    """|r| of a condition at points, by a collocation of its own."""
    network = build_network(run.problem, run.network, run.seed)
    every = [points if c == number else points[:1] for c in range(len(run.problem.conditions))]
    own = Collocation(run.problem, network, every, torch.ones(len(every), dtype=torch.float64))
    raw = own.residual(parameters(own) if theta is None else theta)[own.condition_rows[number]]
    return raw.view(len(points), -1).square().sum(1).sqrt()


# ---------------------------------------------------------------------------------------------
# Choosing among candidates
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 40, 59])
def test_probabilities_are_the_density_cut_off_at_one(count):
    density = _uneven(60)
    pi = inclusion(density, count)
    assert float(pi.sum()) == pytest.approx(count, rel=1e-9)
    assert float(pi.max()) <= 1
    free = pi < 1 - 1e-6
    ratio = pi[free] / density[free]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert bool((density[~free] * ratio[:1] >= 1 - 1e-6).all()), "cut off, though it need not be"


def test_candidates_are_chosen_as_often_as_their_probability_says():
    density, count, trials = _uneven(30), 9, 600
    pi, hits = inclusion(density, count), torch.zeros(30)
    for trial in range(trials):
        chosen = select(density, count, (trial,))
        assert len(chosen.unique()) == count
        assert bool((chosen[1:] > chosen[:-1]).all())
        hits[chosen] += 1
    spread = (pi * (1 - pi) / trials).sqrt()
    assert bool(((hits / trials - pi).abs() <= 5 * spread + 1e-6).all())


@pytest.mark.parametrize("first", [0.0, 1e300])
def test_a_density_that_is_zero_nearly_everywhere_still_gives_different_points(first):
    density = torch.zeros(20, dtype=torch.float64)
    density[0] = first
    chosen = select(density, 8, (1,))
    assert len(chosen.unique()) == 8
    assert first == 0 or 0 in chosen.tolist()


def test_all_candidates_are_chosen_where_no_more_are_wanted():
    assert select(_uneven(5), 5, (0,)).tolist() == list(range(5))


# ---------------------------------------------------------------------------------------------
# RAD
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["heat", "system"])
def test_distributed_points_are_those_of_a_plain_reading_of_the_method(name):
    """One candidate after another, without ranks."""
    run = _run(CASES[name](), RAD(every=2, candidates=4, power=2.0, offset=0.5), seed=5)
    (points, _), condition = _moved(run, 5)(LocalRanks()), run.problem.conditions[0]
    count, epoch = condition.points, 2
    drawn = condition.region.sample(0, 4 * count, (5, epoch, 0), condition.sampling)
    sizes = _residual_at(run, drawn, 0) ** 2
    density = [float(s) / float(sizes.mean()) + 0.5 for s in sizes]
    tau = count / sum(density)
    assert max(density) * tau < 1, "no candidate is certain here: the plain reading needs no cut-off"
    lot = float(unit_points(0, 1, 1, (5, epoch, 0, 0), "uniform", "cpu"))
    chosen, below = [], 0.0
    for index, p in enumerate(density):
        if math.ceil(below - lot) < math.ceil(below + tau * p - lot):
            chosen.append(index)
        below += tau * p
    torch.testing.assert_close(points[0], drawn[chosen], rtol=0, atol=0)


def test_points_crowd_where_the_residual_is_large_and_others_stay():
    run = _run(heat(400), RAD(every=1, power=2.0, offset=0.0))
    objective = build_objective(run, build_network(run.problem, run.network, 0), LocalRanks(), CPU)
    before = objective.collocation.points
    theta = parameters(objective.collocation)
    moving = AdaptivePoints(run.adaptive_points, objective, 0)
    moving.before(2, theta)
    after = objective.collocation.points
    mean = lambda x: float(_residual_at(run, x, 0).mean())  # noqa: E731
    assert mean(after[0]) > 1.2 * mean(before[0])
    assert torch.equal(after[1], before[1])
    assert torch.equal(after[2], before[2])


# ---------------------------------------------------------------------------------------------
# R3
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["heat", "system"])
def test_points_with_large_residuals_are_retained_and_the_others_drawn_anew(name):
    run = _run(CASES[name](), R3(every=3), seed=2)
    (points, _), condition = _moved(run, 7)(LocalRanks()), run.problem.conditions[0]
    old = condition.region.sample(0, condition.points, (2, 0, 0), condition.sampling)
    fresh = condition.region.sample(0, condition.points, (2, 2, 0), condition.sampling)
    sizes = _residual_at(run, old, 0)
    kept = 0
    for index in range(condition.points):
        stays = float(sizes[index]) > float(sizes.mean())
        assert torch.equal(points[0][index], (old if stays else fresh)[index])
        kept += stays
    assert 0 < kept < condition.points


def test_equal_residuals_are_all_drawn_anew_on_any_number_of_ranks():
    """Their mean is rounded up or down, depending on how many ranks sum it."""
    domain = Box(x=(0, 1))
    same = Condition("same", lambda u, p: 0 * u + 0.1, domain.interior, 37)
    case = heat()
    case = type(case)(Problem(domain, [same]), (), case.network)
    run = _run(case, R3())
    fresh = domain.interior.sample(0, 37, (0, 1, 0))
    for size in SIZES:
        everyone = torch.cat([points[0] for points, _ in on_ranks(size, _moved(run, 2))])
        assert torch.equal(everyone, fresh)


# ---------------------------------------------------------------------------------------------
# Ranks, other conditions, mistakes
# ---------------------------------------------------------------------------------------------

CONFIGS = [RAD(every=1, candidates=3), R3(every=1), RAD(every=1, conditions=("equation", "walls"))]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_points_are_the_same_on_any_number_of_ranks_and_shared_out_by_index(config):
    run = _run(heat(30), config)
    alone, _ = _moved(run, 3)(LocalRanks())
    for size in SIZES:
        results = on_ranks(size, _moved(run, 3))
        for number, condition in enumerate(run.problem.conditions):
            for points, ranks in results:
                start, stop = share(condition.points, ranks.rank, size)
                assert torch.equal(points[number], alone[number][start:stop])


def test_what_travels_is_counted():
    run = _run(heat(30), RAD(every=1, candidates=3))
    _, ranks = on_ranks(2, _moved(run, 2))[0]
    assert ranks.traffic["candidates"].bytes == 8 * 3 * 30
    assert ranks.traffic["points"].bytes == 8 * 2 * 30
    _, ranks = on_ranks(2, _moved(_run(heat(30), R3()), 2))[0]
    assert (ranks.traffic["candidates"].bytes, ranks.traffic["points"].bytes) == (8, 8 * 2 * 30)


@pytest.mark.parametrize("optimizer", [SNGD(rank=16), SNGD(rank=16, subspace="landmarks")], ids=["q", "lm"])
def test_a_run_takes_the_same_steps_on_any_number_of_ranks(optimizer):
    run = _run(heat(40), RAD(every=2, candidates=4), optimizer=optimizer, evaluate_points=50, max_steps=5)

    class Losses(list):
        start = saved = end = lambda self, *what: None

        def step(self, record):
            self.append(record["loss"])

    def work(ranks):
        hook = Losses()
        train(run, ranks, CPU, hooks=[hook])
        return hook

    alone, *_ = on_ranks(1, work)
    assert len(alone) == 5
    assert on_ranks(3, work)[0] == pytest.approx(alone, rel=1e-5)


def test_float32_points_lie_in_the_domain_and_differ():
    run = _run(heat(30), RAD(every=1, candidates=3), precision="float32")
    theta = build_network(run.problem, run.network, 0).initial.float()
    points, _ = _moved(run, 2, theta)(LocalRanks())
    assert points[0].dtype == torch.float32
    assert len(points[0].unique(dim=0)) == 30
    assert bool(((points[0] >= 0) & (points[0] <= 1)).all())


@pytest.mark.parametrize("config", [RAD(every=1), R3(every=1)], ids=str)
def test_a_residual_that_fails_at_a_candidate_stops_every_rank(config):
    domain, strict = Box(x=(0, 1)), []
    (X,) = domain.axes

    def residual(u, p):
        if strict:
            raise ValueError("no such place")
        return u - p[X]

    case, odd = heat(), Condition("odd", residual, domain.interior, 12)
    run = _run(type(case)(Problem(domain, [odd]), (), case.network), config)
    strict.append(True)

    def work(ranks):
        try:
            _moved(run, 2)(ranks)
        except ResidualError as error:
            return str(error)
        return None

    first, *others = on_ranks(3, work)
    assert "no such place" in first
    assert others == ["", ""]


def test_a_residual_that_is_not_finite_at_a_candidate_is_located():
    domain = Box(x=(0, 1))
    (X,) = domain.axes
    root = Condition("root", lambda u, p: u + 0 * torch.log(p[X] - 0.02), domain.interior, 10)
    (start,) = [s for s in range(99) if float(domain.interior.sample(0, 10, (s, 0, 0)).min()) > 0.02][:1]
    case = heat()
    run = _run(type(case)(Problem(domain, [root]), (), case.network), RAD(every=1, candidates=50), seed=start)
    with pytest.raises(ResidualError, match=r"condition 'root' has residual nan at x=0\.0"):
        _moved(run, 2)(LocalRanks())


def test_conditions_are_chosen_by_name_and_by_default_inside():
    problem = heat().problem
    assert movable(RAD(), problem) == [0]
    assert movable(R3(conditions=("walls", "equation", "walls")), problem) == [2, 0]
    with pytest.raises(
        ValueError, match=r"adaptive_points.conditions=\('wall',\): there is no 'wall' among eq"
    ):
        movable(RAD(conditions=("wall",)), problem)
    domain = Box(x=(0, 1))
    edge = Problem(domain, [Condition("ends", lambda u, p: u, domain.boundary(), 4)])
    with pytest.raises(ValueError, match="no condition of problem 'problem' lies on the whole interior"):
        RunConfig(edge, adaptive_points=R3())


def test_points_are_chosen_in_one_way_only():
    with pytest.raises(ValueError, match="resample_every=3 and adaptive_points exclude each other"):
        RunConfig(heat().problem, resample_every=3, adaptive_points=RAD())
