"""Self-scaled Broyden updates against their definitions, and the method on quadratics and networks."""

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sngd import MLP, Adam, RunConfig, SSBroyden
from sngd.collectives import LocalRanks
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.optimizers import quasi_newton
from sngd.optimizers.quasi_newton import self_scaling, update_inverse
from sngd.problems import burgers
from sngd.training import train
from tests.problems import heat, parameters
from tests.quadratic import Quadratic, losses

P = 6
CURVATURES = [300.0, 40.0, 7.0, 1.0, 0.3]
VARIANTS = ["ssbroyden", "ssbfgs", "bfgs"]


def _matrix_and_pair(seed: int):
    """H positive definite, s and y with y·s > 0; also b, h and a of them."""
    generator = np.random.default_rng(seed)
    factor = generator.standard_normal((P, P))
    inverse = factor @ factor.T + 0.1 * np.eye(P)
    s, y = generator.standard_normal((2, P))
    y = y * np.sign(y @ s)
    b = s @ np.linalg.solve(inverse, s) / (y @ s)
    h = y @ inverse @ y / (y @ s)
    return inverse, s, y, b, h, b * h - 1


def _updated(inverse, s, y, tau, phi):
    new = torch.from_numpy(inverse.copy())
    update_inverse(new, *(torch.from_numpy(x) for x in (s, y, inverse @ y)), tau, phi)
    return new.numpy()


# ---------------------------------------------------------------------------------------------
# The update
# ---------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.floats(0.1, 3.0), st.floats(-1.0, 2.0))
def test_the_secant_equation_holds_for_every_member(seed, tau, phi):
    inverse, s, y, *_ = _matrix_and_pair(seed)
    new = _updated(inverse, s, y, tau, phi)
    size = np.abs(new).max() * np.abs(y).max()
    np.testing.assert_allclose(new @ y, s, atol=1e-10 * size)
    np.testing.assert_allclose(new, new.T, atol=1e-12 * np.abs(new).max())


@pytest.mark.parametrize("seed", range(5))
def test_without_scaling_the_first_member_is_bfgs(seed):
    inverse, s, y, *_ = _matrix_and_pair(seed)
    rho = 1 / (y @ s)
    left = np.eye(P) - rho * np.outer(s, y)
    want = left @ inverse @ left.T + rho * np.outer(s, s)
    np.testing.assert_allclose(_updated(inverse, s, y, 1.0, 1.0), want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_inverse_of_the_update_of_the_hessian(variant, seed):
    """B ← τ (B − B s sᵀB/(s·Bs) + θ_B (s·Bs) w wᵀ) + ρ y yᵀ with w = ρ y − B s/(s·Bs)."""
    inverse, s, y, b, h, a = _matrix_and_pair(seed)
    tau, phi = self_scaling(variant, b, h, P, False)
    theta_b, hessian = (1 - phi) / (1 + a * phi), np.linalg.inv(inverse)
    bs, sbs, rho = hessian @ s, b * (y @ s), 1 / (y @ s)
    w = rho * y - bs / sbs
    part = hessian - np.outer(bs, bs) / sbs + theta_b * sbs * np.outer(w, w)
    want = np.linalg.inv(tau * part + rho * np.outer(y, y))
    np.testing.assert_allclose(_updated(inverse, s, y, tau, phi), want, rtol=1e-6, atol=1e-7)


@given(st.integers(0, 10**6), st.sampled_from(VARIANTS), st.booleans())
def test_the_inverse_stays_positive_definite(seed, variant, first):
    inverse, s, y, b, h, _ = _matrix_and_pair(seed)
    tau, phi = self_scaling(variant, b, h, P, first)
    assert tau > 0
    values = np.linalg.eigvalsh(_updated(inverse, s, y, tau, phi))
    assert values[0] > -1e-12 * values[-1]


# ---------------------------------------------------------------------------------------------
# Scaling
# ---------------------------------------------------------------------------------------------


def test_bfgs_has_no_scale_but_at_the_first_step():
    assert self_scaling("bfgs", 3.0, 2.0, P, False) == (1.0, 1.0)
    assert self_scaling("bfgs", 3.0, 2.0, P, True) == (2.0, 1.0)


@pytest.mark.parametrize(("b", "tau"), [(0.5, 1.0), (1.0, 1.0), (4.0, 0.25)])
def test_ssbfgs_scales_where_the_curvature_is_smaller_than_expected(b, tau):
    assert self_scaling("ssbfgs", b, 3.0, P, False) == pytest.approx((tau, 1.0))


@pytest.mark.parametrize("h", [1.0, 1.5, 40.0])
def test_ssbroyden_is_bfgs_where_the_curvature_is_as_expected(h):
    assert self_scaling("ssbroyden", 1.0, h, P, False) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize(
    ("b", "h"),
    # θ_B at its bounds and between them; a = 1, c = √½
    [(0.5, 4.0), (2.0, 1.0), (0.1, 20.0), (10.0, 0.2)],
)
def test_ssbroyden_takes_the_published_values(b, h):
    c = math.sqrt(0.5)
    low = min(1.0, h * (1 - c))
    theta = sorted([low - 1, (1 - b) / b, 1 / low])[1]  # the middle one: θ⁻ ≤ 0 < θ⁺
    sigma = 1 + theta
    root, most = sigma ** (-1 / (P - 1)), min(1.0, 1 / b)
    tau = min(most * root, sigma) if theta <= 0 else most * min(root, 1 / theta)
    assert self_scaling("ssbroyden", b, h, P, False) == pytest.approx((tau, (1 - theta) / sigma))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_along_an_eigenvector_and_a_single_parameter_are_no_trouble(variant):
    for b, h, count in [(2.0, 0.5, P), (1.0, 1.0, P), (0.25, 4.0, 1), (3.0, 1.0, 1)]:
        tau, phi = self_scaling(variant, b, h, count, False)
        assert 0 < tau <= 1
        assert math.isfinite(phi)


# ---------------------------------------------------------------------------------------------
# The method
# ---------------------------------------------------------------------------------------------


def test_bfgs_with_exact_line_searches_ends_after_p_steps_and_knows_the_hessian(monkeypatch):
    objective = Quadratic([5.0, 3.0, 2.0, 1.5, 1.0])

    def exact(stepper, line, slope):
        return -slope / float(2 * objective.a @ line.direction**2)

    monkeypatch.setattr(quasi_newton.SSBroydenStepper, "_search", exact)
    stepper = objective.start(SSBroyden("bfgs"))
    found = losses(objective, stepper, len(objective.a))
    assert found[-2] > 1e-9 * found[0]
    assert found[-1] < 1e-18 * found[0]
    torch.testing.assert_close(stepper.inverse, torch.diag(0.5 / objective.a), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_finds_the_minimum_of_a_quadratic(variant, scaling):
    objective = Quadratic(CURVATURES)
    stepper = objective.start(SSBroyden(variant, initial_scaling=scaling))
    found = losses(objective, stepper, 60)
    assert found[-1] < 1e-20 * found[0]
    assert all(later <= earlier for earlier, later in pairwise(found))


def test_the_method_does_not_depend_on_the_scale_of_the_loss():
    plain, tiny = Quadratic(CURVATURES), Quadratic(CURVATURES, scale=2.0**-60)
    one, other = (objective.start(SSBroyden()) for objective in (plain, tiny))
    np.testing.assert_allclose(np.array(losses(tiny, other, 8)) * 2.0**60, losses(plain, one, 8), rtol=1e-6)


def test_a_step_meets_the_wolfe_conditions_and_counts_its_gradients():
    config = SSBroyden(armijo=1e-3, curvature=0.5)
    objective = Objective(heat().collocation(), LocalRanks(), Plan("nothing", None, 0))
    start = objective.evaluate(parameters(objective.collocation))
    stepper, calls, gradient = config.start(objective, start, 0, 0), [], objective.gradient
    objective.gradient = lambda theta: calls.append(1) or gradient(theta)
    for number in range(1, 16):
        before, counted = stepper.state, len(calls)
        report = stepper.step(objective, number)
        assert report.accepted
        assert report.evaluations == len(calls) - counted
        s = stepper.state.theta - before.theta
        slopes = [float(gradient(state.theta)[1] @ s) for state in (before, stepper.state)]
        assert slopes[0] < 0
        assert stepper.state.loss <= before.loss + 1e-3 * slopes[0] * (1 + 1e-9)
        assert abs(slopes[1]) <= 0.5 * abs(slopes[0]) * (1 + 1e-9)
        assert stepper.state.loss == pytest.approx(objective.evaluate(stepper.state.theta).loss, rel=1e-12)


def test_the_inverse_begins_anew_where_the_line_search_fails():
    objective = Quadratic(CURVATURES)
    stepper = objective.start(SSBroyden())
    losses(objective, stepper, 3)
    stepper.inverse = -stepper.inverse  # points uphill
    before = stepper.state
    report = stepper.step(objective, 4)
    assert not report.accepted
    assert stepper.state is before
    assert stepper.inverse is None
    assert stepper.step(objective, 5).accepted


def test_where_no_step_along_the_gradient_is_lower_the_next_one_tried_is_shorter():
    """A narrow valley beyond the reach of ten halvings."""
    objective = Quadratic([1e9, 1.0])
    stepper = objective.start(SSBroyden(), torch.tensor([1.0 + 1e-6, 0.0], dtype=torch.float64))
    reports = [stepper.step(objective, number) for number in range(1, 5)]
    assert not reports[0].accepted
    assert any(report.accepted for report in reports)


def test_nothing_is_accepted_at_a_minimum():
    objective = Quadratic([1.0] * 4)
    stepper = objective.start(SSBroyden(), torch.ones(4, dtype=torch.float64))
    assert not any(stepper.step(objective, number).accepted for number in (1, 2))


def test_the_inverse_outlives_new_points_and_its_update_is_of_one_loss():
    objective, other = Quadratic(CURVATURES), Quadratic(CURVATURES[::-1])
    stepper = objective.start(SSBroyden())
    losses(objective, stepper, 3)
    kept = stepper.inverse.clone()
    stepper.state = other.evaluate(stepper.state.theta)
    start = stepper.state.theta
    assert torch.equal(stepper.inverse, kept)
    assert stepper.step(other, 4).accepted
    y = other.gradient(stepper.state.theta)[1] - other.gradient(start)[1]
    torch.testing.assert_close(stepper.inverse @ y, stepper.state.theta - start, rtol=1e-8, atol=1e-10)


def test_a_loss_that_is_not_finite_shortens_the_step():
    objective = Quadratic([1e-3] * 4, radius=4.2)
    stepper = objective.start(SSBroyden(), torch.full((4,), -2.0, dtype=torch.float64))
    found = losses(objective, stepper, 12)
    assert found[-1] < 1e-6 * 36e-3


def test_float32_parameters_keep_a_float64_inverse():
    objective = Quadratic(CURVATURES)
    stepper = objective.start(SSBroyden(), torch.zeros(5))
    assert losses(objective, stepper, 15)[-1] < 1e-4 * objective.evaluate(torch.zeros(5)).loss
    assert stepper.state.theta.dtype == torch.float32
    assert stepper.inverse.dtype == torch.float64


def test_an_inverse_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(quasi_newton, "available_bytes", lambda device: 199)
    with pytest.raises(ValueError, match=r"P × P matrix.*P=5"):
        Quadratic(CURVATURES).start(SSBroyden())


@pytest.mark.slow
def test_after_a_warmup_self_scaling_gains_decades_on_bfgs_as_published():
    """Urbán, Stefanou and Pons 2025: the loss after equal iterations; here 3e-6 and 3e-4."""

    def loss(variant, seed):
        run = RunConfig(
            burgers(0.05, 120, 30),
            MLP((8, 8)),
            SSBroyden(variant),
            warmup=Adam(rate=0.01),
            warmup_steps=40,
            max_steps=200,
            seed=seed,
            evaluate_every=1000,
            evaluate_points=10,
            device="cpu",
        )
        return train(run, LocalRanks(), torch.device("cpu")).result["loss"]

    medians = {v: statistics.median(loss(v, seed) for seed in range(5)) for v in ("ssbroyden", "bfgs")}
    assert medians["ssbroyden"] < 0.1 * medians["bfgs"]


def test_the_inverse_is_saved():
    objective = Quadratic(CURVATURES)
    stepper = objective.start(SSBroyden())
    assert stepper.save()["inverse"] is None
    losses(objective, stepper, 2)
    assert torch.equal(stepper.save()["inverse"], stepper.inverse)
