"""Adam and SOAP: against their definitions, and what a step costs."""

import importlib.util
import math

import numpy as np
import pytest
import torch

from sngd import MLP, SOAP, Adam, RunConfig
from sngd.collectives import LocalRanks
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.problems import heat as heat_problem
from sngd.training import train
from tests import reference
from tests.problems import heat, parameters
from tests.quadratic import Quadratic, losses

PLAN = Plan("nothing", None, 0)
CURVATURES = [300.0, 40.0, 7.0, 1.0, 0.3]
needs_soap = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None, reason="pytorch-optimizer is not installed"
)


def _on_heat(config):
    objective = Objective(heat().collocation(), LocalRanks(), PLAN)
    state = objective.evaluate(parameters(objective.collocation))
    return objective, config.start(objective, state, 0, objective.collocation.row_count)


# ---------------------------------------------------------------------------------------------
# Rates
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (Adam(rate=2.0), {0: 2.0, 7: 2.0, 10_000: 2.0}),
        (Adam(rate=2.0, ramp_steps=4), {0: 0.5, 1: 1.0, 3: 2.0, 4: 2.0}),
        (Adam(rate=2.0, schedule="exponential", decay_steps=10, decay_factor=0.25), {0: 2, 5: 1, 10: 0.5}),
        (
            Adam(rate=2.0, schedule="cosine", decay_steps=10, decay_factor=0.25),
            {0: 2, 5: 1.25, 10: 0.5, 11: 0.5, 99: 0.5},
        ),
        (
            Adam(rate=2.0, schedule="exponential", decay_steps=1, decay_factor=0.5, ramp_steps=2),
            {0: 1.0, 1: 1.0, 2: 0.5},
        ),
    ],
)
def test_the_rate_rises_and_falls_as_its_settings_say(config, rates):
    for update, rate in rates.items():
        assert config.rate_at(update) == pytest.approx(rate, rel=1e-12)


# ---------------------------------------------------------------------------------------------
# Adam
# ---------------------------------------------------------------------------------------------


def test_adam_is_adam_on_the_gradient_of_the_loss():
    config = Adam(rate=0.01, schedule="exponential", decay_steps=3, decay_factor=0.5, beta1=0.8, beta2=0.95)
    case = heat()
    objective, stepper = _on_heat(config)
    theta = stepper.state.theta.numpy().copy()
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for k in range(6):
        leaf = torch.from_numpy(theta).requires_grad_()
        loss = reference.residual(objective.collocation, case.naive, leaf).square().sum()
        g = torch.autograd.grad(loss, leaf)[0].numpy()
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        m_hat, v_hat = m / (1 - 0.8 ** (k + 1)), v / (1 - 0.95 ** (k + 1))
        theta = theta - 0.01 * 0.5 ** (k / 3) * m_hat / (np.sqrt(v_hat) + 1e-8)
        assert stepper.step(objective, k + 1).accepted
        np.testing.assert_allclose(stepper.state.theta.numpy(), theta, rtol=1e-9, atol=1e-12)


def test_a_state_holds_the_loss_of_its_own_theta_at_one_gradient_a_step():
    objective, stepper = _on_heat(Adam(rate=0.01))
    before = stepper.state
    reports = [stepper.step(objective, number) for number in (1, 2, 3)]
    assert [report.evaluations for report in reports] == [2, 1, 1]
    again = objective.evaluate(stepper.state.theta)
    assert stepper.state.loss == pytest.approx(again.loss, rel=1e-13)
    torch.testing.assert_close(stepper.state.residual, again.residual, rtol=1e-12, atol=1e-14)
    assert not torch.equal(before.theta, stepper.state.theta)
    assert before.loss == objective.evaluate(before.theta).loss  # an earlier state is left alone


@pytest.mark.parametrize("changes", [{}, {"resample_every": 1}, {"balance": True}], ids=str)
def test_new_points_and_weights_cost_no_gradient(changes, monkeypatch):
    calls, gradient = [], Objective.gradient
    monkeypatch.setattr(Objective, "gradient", lambda *given: calls.append(1) or gradient(*given))
    run = RunConfig(heat_problem(60, 8, 8), MLP((6,)), Adam(), max_steps=9, device="cpu", **changes)
    train(run, LocalRanks(), torch.device("cpu"))
    assert len(calls) == 10


def test_adam_goes_on_from_a_theta_that_was_put_into_its_state():
    objective = Quadratic(CURVATURES)
    stepper = objective.start(Adam(rate=1e-3))
    stepper.step(objective, 1)
    stepper.state = objective.evaluate(torch.full((5,), 4.0, dtype=torch.float64))
    assert stepper.step(objective, 2).evaluations == 2
    assert float((stepper.state.theta - 4.0).abs().max()) < 2e-3


def test_a_loss_that_is_not_finite_is_refused():
    objective = Quadratic(CURVATURES, radius=5.0)
    stepper = objective.start(Adam(rate=100.0))
    before = stepper.state.theta.clone()
    for number in (1, 2):
        report = stepper.step(objective, number)
        assert not report.accepted
        assert "finite" in report.note
        assert torch.equal(stepper.state.theta, before)
        assert math.isfinite(stepper.state.loss)


def test_adam_in_float32_stays_in_float32():
    objective = Quadratic(CURVATURES)
    stepper = objective.start(Adam(rate=0.1), torch.zeros(5))
    assert losses(objective, stepper, 60)[-1] < 0.1 * objective.evaluate(torch.zeros(5)).loss
    assert stepper.state.theta.dtype == torch.float32


# ---------------------------------------------------------------------------------------------
# SOAP
# ---------------------------------------------------------------------------------------------


@needs_soap
def test_soap_has_one_preconditioner_per_layer_and_lowers_the_loss():
    objective, stepper = _on_heat(SOAP(rate=0.01))
    before = stepper.state.loss
    reports = [stepper.step(objective, number) for number in range(1, 41)]
    assert [report.accepted for report in reports] == [False] + [True] * 39
    assert stepper.state.loss < 0.5 * before
    assert stepper.state.loss == pytest.approx(objective.evaluate(stepper.state.theta).loss, rel=1e-12)
    sides = [[len(side) for side in entry["GG"]] for entry in stepper.optimizer.state.values()]
    layers = objective.collocation.network.shapes
    assert sides[: len(layers)] == [list(shape) for shape in layers]


def test_without_its_package_soap_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'sngd\[soap\]'"):
        _on_heat(SOAP())


def test_what_is_saved_can_be_read_back(tmp_path):
    objective = Quadratic(CURVATURES)
    stepper = objective.start(Adam(rate=0.01))
    losses(objective, stepper, 3)
    torch.save(stepper.save(), tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert saved["optimizer"]["state"]
