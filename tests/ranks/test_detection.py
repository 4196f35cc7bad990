"""Real ranks: θ that differs ends a run, residuals that cease to be finite are named."""

import dataclasses
import math
import re
from unittest.mock import patch

import pytest
import torch

from sngd import ENGD, ENGDW, LBFGS, MLP, SNGD, Adam, Box, Condition, Problem, RunConfig, SSBroyden, d
from sngd.assembly import build_objective
from sngd.checkpoint import Checkpoint
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from sngd.loop import Loop
from sngd.objective import Objective
from sngd.optimizers.gauss_newton import GaussNewton
from sngd.problems import heat
from sngd.training import train
from tests.ranks.harness import Collect, run_ranks
from tests.ranks.runs import SMALL

CPU = torch.device("cpu")
FLIPPED_AT, CHECKED, ILL_AT = 4, 3, 3


def _run(**fields) -> RunConfig:
    run = {**SMALL, "max_steps": 12, "check_every": CHECKED, **fields}
    return RunConfig(heat(40, 8, 8), MLP((6,)), SNGD(rank=8, max_rank=8), **run)


def _train_flipped(ranks, rank, **fields):
    """Training in which the lowest bit of one parameter of a rank changes."""
    original = GaussNewton.step

    def step(stepper, objective, number):
        report = original(stepper, objective, number)
        if objective.ranks.rank == rank and number == FLIPPED_AT:
            theta = stepper.state.theta.clone()
            theta.view(torch.int64)[5] ^= 1
            stepper.state = dataclasses.replace(stepper.state, theta=theta)
        return report

    with patch.object(GaussNewton, "step", step):
        train(_run(**fields), ranks, CPU)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_flipped_bit_ends_the_run_at_the_next_check_on_all_ranks(size):
    results = run_ranks(size, _train_flipped, size - 1, fail=False, seconds=30)
    assert {result.kind for result in results} == {"DivergedRanksError"}
    assert len({result.message for result in results}) == 1
    right = "rank 0, and" if size == 2 else f"the majority of {size};"
    assert f"at step 6: rank {size - 1} differs from {right}" in results[0].message


def _train_flipped_late(ranks):
    _train_flipped(ranks, 1, max_steps=4, check_every=100)


def test_a_flipped_bit_after_the_last_check_is_found_at_the_end():
    results = run_ranks(2, _train_flipped_late, fail=False, seconds=30)
    assert all("at step 4: rank 1 differs" in result.message for result in results)


def _train_checked(ranks):
    result = train(_run(), ranks, CPU).result
    return result["stop_reason"], ranks.traffic["check"].calls


def test_ranks_that_agree_run_to_the_end_and_compare_one_number():
    assert run_ranks(3, _train_checked) == [("max_steps", 4)] * 3


# ---------------------------------------------------------------------------------------------
# Residuals that cease to be finite
# ---------------------------------------------------------------------------------------------


def _ailing(ills: dict[int, str], optimizer, **fields) -> RunConfig:
    """A residual that is ill on one rank once `ills` says how: the loss, the gradient, or θ."""
    domain = Box(x=(0, 1), t=(0, 1))
    X, T = domain.axes

    def equation(u, p):
        r = d(u, T) - 0.1 * d(u, X, X)
        match ills.get("how") if len(p) > 3 else None:
            case "nan":
                return r * math.nan
            case "inf":
                return r * math.inf
            case "loss":
                return r + 1e200
            case "gradient":
                return r + torch.sqrt(u * 0.0)
        return r

    conditions = [
        Condition("equation", equation, domain.interior, 40),
        Condition("initial", lambda u, p: u - torch.sin(math.pi * p[X]), domain.face(t=0), 20),
    ]
    run = {**SMALL, "max_steps": 40, "check_every": 1, **fields}
    return RunConfig(Problem(domain, conditions), MLP((6,)), optimizer, **run)


def _train_ailing(ranks, how, rank, optimizer, folder=None, trials=False, **fields):
    """Training whose residual is ill on a rank from step 3 on, in trial steps alone or throughout."""
    ills, hook, step, evaluate = {}, Collect(), Loop.step, Objective.evaluate

    def step_then(loop, number):
        if number == ILL_AT and ranks.rank == rank:
            ills["from now on" if trials else "how"] = how
        return step(loop, number)

    def evaluate_ill(objective, theta):
        if "from now on" in ills:
            ills["how"] = ills["from now on"]
        state = evaluate(objective, theta)
        if "from now on" in ills:
            ills.pop("how", None)
        return state

    with patch.object(Loop, "step", step_then), patch.object(Objective, "evaluate", evaluate_ill):
        trained = train(_ailing(ills, optimizer, **fields), ranks, CPU, hooks=[hook], folder=folder)
    return trained.result, hook.records


PLACE = r"condition 'equation' has residual (nan|-?inf) at x=[\d.]+, t=[\d.]+"


@pytest.mark.parametrize(("size", "how"), [(1, "nan"), (1, "inf"), (2, "inf"), (3, "nan")])
def test_a_run_that_stalls_on_residuals_says_where(size, how):
    rank = size - 1
    results = run_ranks(size, _train_ailing, how, rank, SNGD(rank=8), None, True, seconds=50)
    assert {result["stop_reason"] for result, _ in results} == {"stalled"}
    result, records = results[0]
    (warning,) = result["warnings"]
    assert (warning["kind"], warning["step"]) == ("non_finite", ILL_AT + 4)
    where = f" \\(rank {rank}\\)" if size > 1 else ""
    assert re.fullmatch(f"stalled: no step could be taken, {PLACE}{where}", warning["text"])
    assert records[-1]["warnings"] == [warning["text"]]
    assert [r["accepted"] for r in records] == [True] * (ILL_AT - 1) + [False] * 5
    assert math.isfinite(result["loss"])


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("optimizer", [SNGD(rank=8), SNGD(rank=8, subspace="landmarks"), ENGD(), ENGDW()])
def test_a_linear_model_that_is_not_finite_ends_the_run_on_all_ranks_with_the_last_state(
    tmp_path, size, optimizer
):
    results = run_ranks(size, _train_ailing, "nan", size - 1, optimizer, tmp_path, fail=False, seconds=50)
    assert {result.kind for result in results} == {"NonFiniteMatrixError"}
    assert len({result.message for result in results}) == 1
    assert re.search(rf"is not finite: .* overflow; {PLACE}", results[0].message)
    kept = Checkpoint.load(tmp_path)
    assert kept.step == ILL_AT - 1
    assert bool(torch.isfinite(kept.theta).all())


def test_a_derivative_that_is_not_finite_is_named(tmp_path):
    (result,) = run_ranks(1, _train_ailing, "gradient", 0, SNGD(rank=8), tmp_path, fail=False)
    assert "; condition 'equation' has a derivative by the parameters of nan at x=" in result.message
    assert Checkpoint.load(tmp_path).step == ILL_AT - 1


FIRST_ORDER = [Adam(), LBFGS(), SSBroyden()]


@pytest.mark.parametrize("optimizer", FIRST_ORDER)
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("nan", PLACE),
        ("loss", "the residuals are finite, but the loss overflows"),
        ("gradient", "condition 'equation' has a derivative by the parameters of nan at x=.*"),
    ],
)
def test_an_optimizer_that_goes_by_gradients_stalls_and_says_why(tmp_path, optimizer, how, text):
    result, records = _train_ailing(LocalRanks(), how, 0, optimizer, tmp_path)
    assert result["stop_reason"] == "stalled"
    (warning,) = [one for one in result["warnings"] if one["text"].startswith("stalled")]
    assert re.fullmatch(f"stalled: no step could be taken, {text}", warning["text"])
    kept = Checkpoint.load(tmp_path)
    assert bool(torch.isfinite(kept.theta).all())
    assert math.isfinite(records[-1]["loss"])
    assert records[-1]["step"] <= ILL_AT + 5


def test_new_points_on_which_a_residual_is_nan_end_the_run_with_the_last_state(tmp_path):
    """The residual is ill on points drawn before step 3."""
    results = run_ranks(2, _train_resampled, 1, tmp_path, fail=False, seconds=50)
    assert {result.kind for result in results} == {"NonFiniteResidualError"}
    assert Checkpoint.load(tmp_path).step == ILL_AT - 1


def _train_resampled(ranks, rank, folder):
    _train_ailing(ranks, "nan", rank, SNGD(rank=8), folder, resample_every=1)


def test_parameters_that_are_not_finite_are_no_state_whatever_the_residual():
    """tanh hides them: the residual is finite."""
    domain = Box(x=(1, 2), t=(1, 2))
    problem = Problem(domain, [Condition("data", lambda u, p: u - 1.0, domain.interior, 20)])
    run = RunConfig(problem, MLP((4,)), SNGD(rank=4), **SMALL)
    network = build_network(problem, run.network, 0)
    objective = build_objective(run, network, LocalRanks(), CPU)
    theta = network.initial.double().clone()
    theta[0] = math.inf
    state = objective.evaluate(theta)
    assert bool(torch.isfinite(state.raw).all())
    assert state.loss == math.inf
    assert "parameters that are not finite" in objective.explain_lost()
    assert math.isfinite(objective.evaluate(network.initial.double()).loss)
    assert not objective.explain_lost()


def test_a_decomposition_that_fails_is_in_the_record_the_result_and_told_once():
    def fail(x):
        raise torch.linalg.LinAlgError("did not converge")

    hook = Collect()
    with patch("torch.linalg.svd", fail):
        result = train(_run(), LocalRanks(), CPU, hooks=[hook]).result
    assert result["fallbacks"] == {"svd by gesvd": 12}
    assert [record["fallbacks"] for record in hook.records] == [{"svd by gesvd": 1}] * 12
    (warning,) = result["warnings"]
    assert (warning["kind"], warning["step"]) == ("fallback", 1)
    assert hook.records[0]["warnings"] == [warning["text"]]
    assert [record["warnings"] for record in hook.records[1:]] == [None] * 11
    plain = train(_run(), LocalRanks(), CPU).result
    assert plain["fallbacks"] == {}
    assert plain["loss"] == pytest.approx(result["loss"], rel=1e-6)
