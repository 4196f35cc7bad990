"""ENGD, ENGD-W and SPRING: single steps against the dense ones, rules against their definitions."""

import math

import numpy as np
import pytest
import torch

from sngd import ENGD, ENGDW, SNGD, SPRING
from sngd.collectives import LocalRanks
from sngd.memory import Plan
from sngd.objective import Objective
from tests import reference
from tests.problems import CASES, heat, parameters

PLAIN = {"globalization": "trust_region", "corrections": 0, "acceptance": 1e-9}
FORMS = {"engd": ENGD, "engd-w": ENGDW}


def _stepper(case, config, plan=Plan("factors", None, 0)):
    objective = Objective(case.collocation(), LocalRanks(), plan)
    state = objective.evaluate(parameters(objective.collocation))
    return objective, config.start(objective, state, 0, objective.collocation.row_count)


def _dense(case, objective, theta):
    j = reference.jacobian(objective.collocation, case.naive, theta).numpy()
    return j, reference.residual(objective.collocation, case.naive, theta).detach().numpy()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_dense_damped_one(name, form):
    case = CASES[name]()
    objective, stepper = _stepper(case, FORMS[form](damping=1.0, **PLAIN))
    theta = stepper.state.theta.clone()
    j, r = _dense(case, objective, theta)
    report = stepper.step(objective, 1)
    assert report.accepted
    assert report.rank is None
    top = np.linalg.svd(j, compute_uv=False)[0] ** 2
    rungs = math.log(report.damping / top) / math.log(math.sqrt(10)) + 1  # above the first candidate
    assert rungs == pytest.approx(round(rungs), abs=0.05)  # σ_1² comes from power iteration
    assert rungs > -0.05
    assert report.evaluations == round(rungs) + 1
    want = reference.gauss_newton_step(j, r, report.damping)
    assert reference.relative_error(stepper.state.theta - theta, want) < 1e-8
    predicted = r @ r - np.square(r + j @ want).sum()
    assert report.reduction_ratio == pytest.approx((r @ r - stepper.state.loss) / predicted, rel=1e-6)


@pytest.mark.parametrize("plan", [Plan("factors", 7, 0), Plan("nothing", 5, 0)])
@pytest.mark.parametrize("config", [ENGD(damping=1e-3, **PLAIN), ENGDW(damping=1e-3, **PLAIN)])
def test_a_step_does_not_depend_on_the_memory_plan(config, plan):
    case = CASES["system"]()
    (whole, first), (chunked, second) = _stepper(case, config), _stepper(case, config, plan)
    for number in (1, 2, 3):
        first.step(whole, number)
        second.step(chunked, number)
        assert first.state.loss == pytest.approx(second.state.loss, rel=1e-8)


def _best_length(objective, theta, direction, halvings=30):
    losses = [objective.evaluate(theta + 0.5**j * direction).loss for j in range(halvings + 1)]
    return 0.5 ** int(np.argmin(losses))


@pytest.mark.parametrize("form", FORMS)
def test_the_published_rule_takes_the_best_of_31_lengths_along_the_damped_direction(form):
    case, damping = heat(), 1e-5
    objective, stepper = _stepper(case, FORMS[form](fixed_damping=damping))
    for number in (1, 2, 3):
        theta = stepper.state.theta.clone()
        direction = torch.from_numpy(reference.gauss_newton_step(*_dense(case, objective, theta), damping))
        report = stepper.step(objective, number)
        assert (report.evaluations, report.corrections, report.damping) == (31, 0, damping)
        want = _best_length(objective, theta, direction) * direction
        assert reference.relative_error(stepper.state.theta - theta, want) < 1e-7


def test_undamped_engd_takes_the_least_squares_solution_of_least_norm():
    case = CASES["nonlinear"]()
    objective, stepper = _stepper(case, ENGD())
    theta = stepper.state.theta.clone()
    j, r = _dense(case, objective, theta)
    gramian = j.T @ j
    rounding = len(gramian) * np.finfo(float).eps
    direction = -np.linalg.lstsq(gramian, j.T @ r, rcond=rounding)[0]
    model = stepper.form.linearize(objective, stepper.state, 1)
    got = model.solve(0.0).numpy()
    # which directions survive the cut-off is a matter of rounding; what they do to the residual is not
    assert np.linalg.norm(j @ (got - direction)) < 1e-5 * np.linalg.norm(j @ direction)
    assert np.linalg.norm(r + j @ got) < 1e-2 * np.linalg.norm(r)
    assert stepper.step(objective, 1).accepted


@pytest.mark.parametrize("rule", ["line_search", "fixed_rate", "trust_region"])
def test_spring_follows_its_recursion(rule):
    case, damping, mu, rate, longest = heat(), 1e-4, 0.8, 0.1, 0.5
    config = SPRING(rule, fixed_damping=damping, momentum=mu, rate=rate, longest_step=longest, corrections=0)
    objective, stepper = _stepper(case, config)
    phi = np.zeros(len(stepper.state.theta))
    for number in (1, 2, 3, 4):
        theta = stepper.state.theta.clone()
        j, r = _dense(case, objective, theta)
        report = stepper.step(objective, number)
        moved = (stepper.state.theta - theta).numpy()
        step = reference.momentum_step(j, r, report.damping, mu * phi)
        if rule == "trust_region":
            assert report.accepted
            phi = want = step
        else:
            assert report.damping == damping
            phi, direction = step, step / math.sqrt(1 - mu ** (2 * number))
            if rule == "line_search":
                want = _best_length(objective, theta, torch.from_numpy(direction)) * direction
            else:
                want = min(rate, longest / np.linalg.norm(direction)) * direction
        assert reference.relative_error(moved, want) < 1e-6
        phi = moved if rule == "trust_region" else phi


def test_spring_without_momentum_is_engd_w():
    case = CASES["burgers"]()
    for rule in ("line_search", "trust_region"):
        (one, first), (two, second) = (
            _stepper(case, config(rule, fixed_damping=1e-6, **more))
            for config, more in ((SPRING, {"momentum": 0.0}), (ENGDW, {}))
        )
        for number in (1, 2, 3):
            first.step(one, number)
            second.step(two, number)
            assert first.state.loss == pytest.approx(second.state.loss, rel=1e-7)


def test_spring_forgets_its_direction_after_a_rejected_trust_region_step():
    objective, stepper = _stepper(heat(), SPRING("trust_region", momentum=0.9))
    assert stepper.step(objective, 1).accepted
    assert float(stepper.form.velocity.norm()) > 0
    before = stepper.state
    objective.evaluate = lambda theta: before  # nothing is ever gained
    assert not stepper.step(objective, 2).accepted
    assert float(stepper.form.velocity.norm()) == 0
    assert stepper.state is before


def test_a_fixed_rate_moves_uphill_but_not_to_where_the_loss_is_not_finite():
    objective, stepper = _stepper(heat(), SPRING("fixed_rate", rate=1.0, longest_step=100.0))
    evaluate = objective.evaluate
    objective.evaluate = lambda theta: evaluate(theta * math.nan)
    before = stepper.state
    assert not stepper.step(objective, 1).accepted
    assert stepper.state is before
    high = evaluate(10 * stepper.state.theta)
    assert high.loss > before.loss
    objective.evaluate = lambda theta: high
    assert stepper.step(objective, 2).accepted
    assert stepper.state is high


@pytest.mark.parametrize("config", [ENGD, ENGDW])
def test_corrections_beat_the_plain_step(config):
    losses = {}
    for corrections in (0, 6):
        objective, stepper = _stepper(heat(60), config(globalization="trust_region", corrections=corrections))
        for number in range(1, 16):
            stepper.step(objective, number)
        losses[corrections] = stepper.state.loss
    assert losses[6] < 0.3 * losses[0]


def test_a_cholesky_factorisation_that_fails_is_said_and_survived():
    case = heat()
    objective, stepper = _stepper(case, ENGD(fixed_damping=1e-19))
    n, p = objective.jacobian(stepper.state.theta).shape
    assert n < p  # G is singular, and λ below rounding
    before = stepper.state.loss
    report = stepper.step(objective, 1)
    assert report.note == "Cholesky failed, eigenvalues served"
    assert stepper.state.loss < before


@pytest.mark.parametrize("config", [ENGD(), ENGDW(), SPRING()])
def test_a_gram_matrix_that_does_not_fit_is_refused(config):
    with pytest.raises(ValueError) as caught:
        _stepper(heat(), config, Plan("nothing", 7, 20_000))
    message = str(caught.value)
    assert message.startswith(f"optimizer {'ENGD' if config == ENGD() else config.__class__.__name__[:4]}")
    assert "GB" in message
    assert "memory_gb" in message


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        *[(config, "fixed_damping", -1.0) for config in (ENGD, ENGDW, SPRING)],
        *[(config, "corrections", 1.5) for config in (ENGD, ENGDW, SPRING)],
        *[(config, "halvings", -1) for config in (ENGD, ENGDW, SPRING)],
        *[(config, "acceptance", 1) for config in (ENGD, ENGDW, SPRING)],
        *[(config, "damping", math.nan) for config in (ENGD, ENGDW, SPRING)],
        (ENGD, "globalization", "fixed_rate"),
        (ENGDW, "globalization", None),
        (SPRING, "globalization", "sgd"),
        *[(SPRING, "momentum", value) for value in (1.0, -0.1, None)],
        (SPRING, "rate", 0.0),
        (SPRING, "longest_step", math.inf),
    ],
)
def test_a_bad_field_is_named_with_its_value(config, field, value):
    with pytest.raises(ValueError) as caught:
        config(**{field: value})
    assert str(caught.value).startswith(f"optimizer.{field}={value!r} must be ")


def test_every_form_takes_the_same_steps():
    """A sketch of full rank, the Gramian and the kernel differ in their arithmetic alone."""
    losses = []
    for config in (SNGD(rank=1000), ENGD(globalization="trust_region"), ENGDW("trust_region")):
        objective, stepper = _stepper(CASES["nonlinear"](), config)
        for number in range(1, 11):
            stepper.step(objective, number)
        losses.append(stepper.state.loss)
    assert max(losses) < 0.01 * objective.evaluate(parameters(objective.collocation)).loss
    np.testing.assert_allclose(losses, losses[0], rtol=1e-8)
