import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sngd.basis import ReplicatedBasis
from sngd.collectives import LocalRanks
from sngd.objective import State
from sngd.optimizers.sngd import SketchedModel
from sngd.product import StoredProduct
from sngd.trust import correct, line_search, next_rank, search_damping

ROWS, COLUMNS = 12, 5


@dataclass
class Trial:
    z: Tensor
    residual: Tensor
    loss: float


class Bowl:
    """r(z) = r + A z + bend · (z·z) b: linear but for a curvature of known size. Counts its evaluations.

    `poison` says for which z the loss is not finite.
    """

    def __init__(self, bend: float = 0.0, poison=lambda z: False, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
        self.a, self.r, self.b = draw(ROWS, COLUMNS), draw(ROWS), draw(ROWS)
        self.bend, self.poison, self.tried = bend, poison, []
        state = State(torch.zeros(0), self.r, self.r, self.r, float(self.r.square().sum()))
        ranks = LocalRanks()
        basis = ReplicatedBasis(torch.eye(COLUMNS, dtype=torch.float64), ranks)
        self.model = SketchedModel(basis, StoredProduct(self.a, ranks), state)

    def evaluate(self, z: Tensor) -> Trial:
        self.tried.append(z)
        residual = self.r + self.a @ z + self.bend * z.dot(z) * self.b
        loss = math.inf if self.poison(z) else float(residual.square().sum())
        return Trial(z, residual, loss)

    def damped_optimum(self, damping: float) -> Tensor:
        """argmin ‖A z + r‖² + λ‖z‖², by the normal equations."""
        eye = torch.eye(COLUMNS, dtype=torch.float64)
        return torch.linalg.solve(self.a.T @ self.a + damping * eye, -self.a.T @ self.r)


# ---------------------------------------------------------------------------------------------
# Chord corrections
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [1e-6, 0.1, 10.0])
def test_a_linear_residual_needs_no_correction(damping):
    bowl = Bowl()
    trial, _, spent = correct(bowl.model, damping, bowl.evaluate, corrections=8)
    assert spent == len(bowl.tried) <= 3  # one more to see that nothing changes, one for rounding
    torch.testing.assert_close(trial.z, bowl.damped_optimum(damping), rtol=1e-10, atol=1e-12)
    promised = bowl.model.loss - bowl.model.core.predicted_reduction(damping)
    assert trial.loss == pytest.approx(promised, rel=1e-12)
    assert bowl.evaluate(bowl.tried[0]).loss == pytest.approx(trial.loss, rel=1e-12)


def test_corrections_lower_the_loss_of_a_bent_residual():
    bowl, damping = Bowl(bend=0.2), 1e-3
    plain, used, spent = correct(bowl.model, damping, bowl.evaluate, corrections=0)
    assert (used, spent) == (0, 1)
    losses = [correct(bowl.model, damping, bowl.evaluate, corrections=m)[0].loss for m in range(1, 6)]
    assert losses[0] < plain.loss
    assert losses == sorted(losses, reverse=True)
    best, used, spent = correct(bowl.model, damping, bowl.evaluate, corrections=5)
    assert 1 <= used <= 5
    assert spent <= 6
    assert best.loss == losses[-1]


def test_corrections_converge_to_a_point_where_the_residual_is_orthogonal_to_the_subspace():
    """The fixed point of z = −V σ/(σ²+λ)(c + Uᵀq) has Aᵀ(r(z)) + λ z = 0."""
    bowl, damping = Bowl(bend=0.05), 0.5
    trial, _, _ = correct(bowl.model, damping, bowl.evaluate, corrections=60)
    z = bowl.tried[-1]
    residual = bowl.evaluate(z).residual
    torch.testing.assert_close(bowl.a.T @ residual, -damping * z, rtol=0, atol=1e-9)
    assert trial.loss <= correct(bowl.model, damping, bowl.evaluate, corrections=0)[0].loss


def test_corrections_stop_where_they_diverge_and_the_best_trial_is_kept():
    bowl = Bowl(bend=30.0)
    trial, used, spent = correct(bowl.model, 1e-6, bowl.evaluate, corrections=50)
    losses = [bowl.evaluate(z).loss for z in list(bowl.tried)]
    assert spent < 51
    assert trial.loss == min(losses[:spent])
    assert torch.equal(trial.z, bowl.tried[used])


def test_corrections_stop_at_once_where_the_loss_is_not_finite():
    bowl = Bowl(poison=lambda z: True)
    trial, used, spent = correct(bowl.model, 0.1, bowl.evaluate, corrections=8)
    assert (trial.loss, used, spent) == (math.inf, 0, 1)


# ---------------------------------------------------------------------------------------------
# Damping
# ---------------------------------------------------------------------------------------------

LADDER = math.sqrt(10)


def _search(bowl, damping=1.0, corrections=0, acceptance=0.075):
    return search_damping(bowl.model, damping, bowl.evaluate, corrections=corrections, acceptance=acceptance)


def test_a_good_model_lowers_the_damping_by_half_a_decade():
    bowl = Bowl()
    outcome = _search(bowl, damping=2.0)
    assert outcome.damping == pytest.approx(2.0 / LADDER)
    assert outcome.ratio == pytest.approx(1.0, rel=1e-9)
    assert (outcome.corrections, outcome.evaluations) == (0, 1)
    torch.testing.assert_close(outcome.trial.z, bowl.damped_optimum(2.0 / LADDER))


def test_a_bad_model_raises_the_damping_to_the_first_that_keeps_its_promise():
    bowl, damping = Bowl(bend=2.0), 0.01
    outcome = _search(bowl, damping)
    assert outcome.damping > damping
    steps = math.log(outcome.damping / (damping / LADDER), LADDER)
    assert steps == pytest.approx(round(steps))
    assert outcome.evaluations == round(steps) + 1
    assert outcome.ratio >= 0.075
    assert outcome.trial.loss < bowl.model.loss
    for j in range(round(steps)):  # none of the smaller ones was good enough
        smaller = damping * LADDER ** (j - 1)
        gain = bowl.model.loss - bowl.evaluate(bowl.model.core.solve(smaller)).loss
        assert gain < 0.075 * bowl.model.core.predicted_reduction(smaller)


def test_the_ratio_is_actual_over_predicted_reduction():
    bowl = Bowl(bend=0.3)
    outcome = _search(bowl)
    predicted = bowl.model.core.predicted_reduction(outcome.damping)
    assert outcome.ratio == pytest.approx((bowl.model.loss - outcome.trial.loss) / predicted)


def test_candidates_are_judged_after_their_corrections():
    """At the same λ the plain step fails where the corrected one passes."""
    bowl = Bowl(bend=0.6)
    strict = 0.9
    plain, corrected = (_search(bowl, 0.1, corrections=m, acceptance=strict) for m in (0, 10))
    assert corrected.damping < plain.damping
    assert corrected.corrections > 0


def test_nothing_acceptable_raises_the_damping_a_thousandfold_and_returns_no_trial():
    bowl = Bowl(poison=lambda z: True)
    outcome = _search(bowl, damping=3.0, corrections=4)
    assert outcome.trial is None
    assert outcome.damping == 3000.0
    assert outcome.corrections == 0
    assert outcome.ratio == -math.inf
    assert outcome.evaluations == len(bowl.tried) == 7  # from half a decade below to below three above


def test_losses_that_are_not_finite_are_failures():
    bowl = Bowl()
    limit = float(bowl.model.core.solve(5.0).norm())
    bowl.poison = lambda z: float(z.norm()) > limit
    outcome = _search(bowl, damping=1.0)
    assert outcome.damping >= 5.0 / LADDER
    assert outcome.trial is not None
    assert math.isfinite(outcome.trial.loss)
    assert len(bowl.tried) > 1


def test_nan_loss_is_never_accepted():
    bowl = Bowl()
    outcome = search_damping(
        bowl.model, 1.0, lambda z: Trial(z, bowl.r * math.nan, math.nan), corrections=3, acceptance=0.075
    )
    assert outcome.trial is None


# ---------------------------------------------------------------------------------------------
# Rank
# ---------------------------------------------------------------------------------------------


def _sigma(*squares: float) -> Tensor:
    return torch.tensor(squares, dtype=torch.float64).sqrt()


def test_rank_grows_by_half_while_every_direction_matters():
    sigma = _sigma(*[1.0] * 20)
    assert next_rank(sigma, 0.5, smallest=4, largest=1000) == 30
    assert next_rank(sigma, 9.9, smallest=4, largest=1000) == 30  # σ² > λ/10 still
    assert next_rank(sigma, 10.1, smallest=4, largest=1000) < 20


def test_rank_grows_only_up_to_the_bound():
    assert next_rank(_sigma(*[1.0] * 20), 0.5, smallest=4, largest=23) == 23


def test_rank_falls_by_a_tenth_when_most_directions_do_not_matter():
    sigma = _sigma(*[1.0] * 10, *[1e-6] * 90)
    assert next_rank(sigma, 0.1, smallest=4, largest=1000) == 90


def test_rank_settles_a_little_above_the_directions_that_matter():
    sigma = _sigma(*[1.0] * 90, *[1e-6] * 10)
    assert next_rank(sigma, 0.1, smallest=4, largest=1000) == 107


def test_rank_never_falls_below_the_first():
    sigma = _sigma(1.0, *[1e-9] * 63)
    assert next_rank(sigma, 0.1, smallest=64, largest=1000) == 64
    assert next_rank(sigma, 0.1, smallest=64, largest=40) == 40  # P or N below the rank asked for


# ---------------------------------------------------------------------------------------------
# The paper's line search
# ---------------------------------------------------------------------------------------------


def _search_line(bowl, cutoff, halvings):
    direction = bowl.model.core.pseudo_solve(cutoff)
    return line_search(bowl.model, direction, bowl.evaluate, damping=0.0, halvings=halvings)


def test_line_search_takes_the_best_power_of_one_half():
    bowl = Bowl(bend=1.0)
    outcome = _search_line(bowl, cutoff=1e-10, halvings=10)
    direction = -torch.linalg.pinv(bowl.a) @ bowl.r
    losses = [bowl.evaluate(direction * 0.5**j).loss for j in range(11)]
    best = min(range(11), key=losses.__getitem__)
    assert best > 0  # the full step is not the best here
    torch.testing.assert_close(outcome.trial.z, direction * 0.5**best)
    assert outcome.trial.loss == pytest.approx(losses[best])
    assert (outcome.damping, outcome.evaluations) == (0.0, 11)


def test_line_search_drops_small_singular_values():
    bowl = Bowl()
    sigma = bowl.model.core.sigma
    cutoff = float((sigma[2] + sigma[3]) / 2 / sigma[0])
    outcome = _search_line(bowl, cutoff=cutoff, halvings=0)
    torch.testing.assert_close(outcome.trial.z, -torch.linalg.pinv(bowl.a, rtol=cutoff) @ bowl.r)


def test_line_search_keeps_parameters_where_nothing_is_better():
    bowl = Bowl(poison=lambda z: True)
    outcome = _search_line(bowl, cutoff=1e-10, halvings=3)
    assert outcome.trial is None
    assert outcome.evaluations == 4
