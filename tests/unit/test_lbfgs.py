"""L-BFGS, one iteration per step: against torch's own loop, at any scale of the loss."""

import numpy as np
import torch

from sngd import LBFGS
from tests.quadratic import Quadratic, losses

CURVATURES = [300.0, 40.0, 7.0, 1.0, 0.3]


def test_single_iterations_are_those_of_one_long_call():
    objective, steps = Quadratic(CURVATURES), 8
    stepper = objective.start(LBFGS())
    theta = stepper.state.theta.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [theta], max_iter=steps, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = (objective.a * (theta - 1) ** 2).sum()
        loss.backward()
        return loss

    found = losses(objective, stepper, steps)
    optimizer.step(closure)
    np.testing.assert_allclose(stepper.state.theta, theta.detach(), rtol=1e-9)
    assert found[-1] < 1e-2 * found[0]


def test_l_bfgs_does_not_depend_on_the_scale_of_the_loss():
    """torch would forget every pair here: y·s is below its threshold."""
    plain, tiny = Quadratic(CURVATURES), Quadratic(CURVATURES, scale=2.0**-60)
    one, other = plain.start(LBFGS()), tiny.start(LBFGS())
    np.testing.assert_allclose(
        np.array(losses(tiny, other, 8)) * 2.0**60, losses(plain, one, 8), rtol=1e-9, atol=1e-25
    )


def test_l_bfgs_counts_what_its_line_search_evaluates():
    objective = Quadratic(CURVATURES)
    stepper = objective.start(LBFGS())
    for number in range(1, 7):
        before = objective.gradients
        report = stepper.step(objective, number)
        assert report.accepted
        assert report.evaluations == objective.gradients - before


def test_pairs_of_l_bfgs_are_differences_of_one_loss():
    """Where points or weights change in between, y is that of the loss before."""
    objective, other = Quadratic(CURVATURES), Quadratic(CURVATURES[::-1])
    stepper = objective.start(LBFGS())
    thetas = [stepper.state.theta]
    for number in (1, 2):
        stepper.step(objective, number)
        thetas.append(stepper.state.theta)
    stepper.state = other.evaluate(stepper.state.theta)
    report = stepper.step(other, 3)
    assert report.accepted
    (entry,) = stepper.optimizer.state.values()
    y, s = (entry[key][-1].numpy() for key in ("old_dirs", "old_stps"))
    want = (objective.gradient(thetas[2])[1] - objective.gradient(thetas[1])[1]).numpy()
    np.testing.assert_allclose(s, (thetas[2] - thetas[1]).numpy(), rtol=1e-12)
    np.testing.assert_allclose(y / (y @ s), want / (want @ s), rtol=1e-9)


def test_l_bfgs_drops_its_history_where_no_lower_loss_is_found():
    objective = Quadratic([1.0] * 4)
    stepper = objective.start(LBFGS(), torch.ones(4, dtype=torch.float64))  # the minimum
    report = stepper.step(objective, 1)
    assert not report.accepted
    assert torch.equal(stepper.state.theta, torch.ones(4, dtype=torch.float64))
    assert not stepper.optimizer.state


def test_l_bfgs_steps_back_from_where_the_loss_is_not_finite():
    objective = Quadratic([1e-3] * 4, radius=4.2)
    theta = torch.tensor([-2.0, -2.0, -2.0, -2.0], dtype=torch.float64)
    stepper = objective.start(LBFGS(), theta)
    found = losses(objective, stepper, 6)
    assert found[-1] < 1e-6 * objective.evaluate(theta).loss


def test_l_bfgs_trains_in_float32():
    objective = Quadratic(CURVATURES)
    stepper = objective.start(LBFGS(), torch.zeros(5))
    assert losses(objective, stepper, 30)[-1] < 1e-6 * objective.evaluate(torch.zeros(5)).loss
    assert stepper.state.theta.dtype == torch.float32


def test_what_is_saved_can_be_read_back(tmp_path):
    objective = Quadratic(CURVATURES)
    stepper = objective.start(LBFGS())
    losses(objective, stepper, 3)
    torch.save(stepper.save(), tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert saved["optimizer"]["state"]
