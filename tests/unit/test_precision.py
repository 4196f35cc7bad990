"""A float32 sketch beside float64 residuals: the same steps at first, and float64 in the end."""

import math

import pytest
import torch

from sngd import MLP, SNGD, RunConfig
from sngd.assembly import build_objective
from sngd.collectives import LocalRanks
from sngd.memory import Plan, make_plan
from sngd.objective import Objective
from sngd.optimizers.sngd import _ESCALATION, SketchedModel
from sngd.problems import heat as heat_problem
from sngd.sizes import Sizes
from sngd.training import train
from sngd.trust import Outcome
from tests.problems import CASES, heat, parameters
from tests.ranks.harness import Collect
from tests.reference import relative_error

WHOLE = Plan("factors", None, 0)


def stepper_of(case, sketch_dtype, config, plan=WHOLE):
    objective = Objective(case.collocation(), LocalRanks(), plan, sketch_dtype)
    state = objective.evaluate(parameters(objective.collocation))
    return objective, config.start(objective, state, 5, objective.collocation.row_count)


@pytest.mark.parametrize("basis", ["replicated", "sharded"])
@pytest.mark.parametrize("test_matrix", ["khatri_rao", "gaussian"])
@pytest.mark.parametrize("name", CASES)
def test_a_step_with_large_damping_is_that_of_float64(name, test_matrix, basis) -> None:
    """Of full rank, so that both sketches hold the same subspace although their test matrices differ."""
    case = CASES[name]()
    config = SNGD(
        rank=10_000, damping=100.0, corrections=0, acceptance=1e-9, test_matrix=test_matrix, basis=basis
    )
    moved = []
    for dtype in (torch.float64, torch.float32):
        objective, stepper = stepper_of(case, dtype, config)
        before = stepper.state.theta
        model = stepper.form.linearize(objective, stepper.state, 1)
        assert isinstance(model, SketchedModel)
        assert model.product.dtype == model.displacement(model.core.c).dtype == dtype
        assert model.core.sigma.dtype == model.residual.dtype == torch.float64
        assert stepper.step(objective, 1).accepted
        assert stepper.state.theta.dtype == torch.float64
        moved.append(stepper.state.theta - before)
    assert relative_error(moved[1], moved[0]) < 1e-4
    assert relative_error(moved[1], moved[0]) > 1e-13, "the second sketch was in float64 as well"


@pytest.mark.parametrize("plan", [WHOLE, Plan("nothing", 7, 0)])
def test_corrections_refine_what_rounding_of_the_sketch_leaves(plan) -> None:
    """Eight steps of both precisions lower the loss alike while λ is far from float32's rounding."""
    ends = []
    for dtype in (torch.float64, torch.float32):
        objective, stepper = stepper_of(heat(60), dtype, SNGD(rank=10_000), plan)
        for number in range(1, 9):
            stepper.step(objective, number)
        ends.append(math.log10(stepper.state.loss))
    assert ends[1] == pytest.approx(ends[0], abs=0.3)


def test_the_sketch_goes_over_once_the_damping_is_near_its_rounding() -> None:
    """It says so once, and says the damping that made it."""
    objective, stepper = stepper_of(heat(60), torch.float32, SNGD(rank=10_000))
    notes, escalated, dampings, sigmas = [], [], [], []
    for number in range(1, 31):
        escalated.append(stepper.save()["escalated"])
        report = stepper.step(objective, number)
        notes.append(report.note)
        dampings.append(report.damping)
        sigmas.append(float(report.sigma[0]))
    said = [i for i, note in enumerate(notes) if note]
    assert len(said) == 1
    (when,) = said
    assert notes[when].startswith("the sketch goes over to float64: λ = ")
    assert escalated == [False] * (when + 1) + [True] * (29 - when)
    floor = (_ESCALATION * torch.finfo(torch.float32).eps) ** 2
    below = [lam < floor * sigma**2 for lam, sigma in zip(dampings, sigmas, strict=True)]
    assert not any(below[:when])
    assert below[when]


def test_a_rejected_step_makes_the_sketch_go_over() -> None:
    objective, stepper = stepper_of(heat(), torch.float32, SNGD(rank=8, damping=1.0))
    before = stepper.state
    objective.evaluate = lambda theta: before  # nothing is ever gained
    report = stepper.step(objective, 1)
    assert not report.accepted
    assert report.note.startswith("the sketch goes over to float64")
    assert stepper.save()["escalated"] is True


def test_a_sketch_in_the_precision_of_the_residuals_has_nowhere_to_go() -> None:
    for dtype in (None, torch.float64):
        objective, stepper = stepper_of(heat(), dtype, SNGD(rank=8, damping=1e-40))
        assert not stepper.step(objective, 1).note
        assert stepper.save()["escalated"] is False


def test_a_mixed_run_reaches_what_float64_reaches() -> None:
    """Beyond what float32 alone can: the sketch has gone over on the way, and the records say when."""
    found = {}
    for precision in ("float64", "mixed", "float32"):
        run = RunConfig(
            heat_problem(400, 40, 80),
            MLP((16, 16)),
            precision=precision,
            max_steps=45,
            evaluate_every=45,
            evaluate_points=1000,
            device="cpu",
        )
        hook = Collect()
        result = train(run, LocalRanks(), torch.device("cpu"), hooks=[hook]).result
        notes = [record["note"] for record in hook.records if record["note"]]
        found[precision] = result["relative_l2"], result["loss"], notes
    assert found["mixed"][0] < 5 * found["float64"][0] < 1e-5
    assert found["mixed"][1] < 30 * found["float64"][1]
    assert found["float32"][0] > 10 * found["mixed"][0]
    assert len(found["mixed"][2]) == 1
    assert "goes over to float64" in found["mixed"][2][0]
    assert not found["float64"][2]
    assert not found["float32"][2]


def test_the_memory_plan_goes_over_to_float64_with_the_sketch() -> None:
    """What float64 takes is planned for, too: on little memory the rank falls."""
    case = heat(400)
    collocation = case.collocation()
    kinds = (torch.float64, torch.float32)
    sizes = Sizes.of(case.problem, collocation.network, 1, *kinds, torch.device("cpu"))
    plan = make_plan(sizes, 3_000_000)
    objective, stepper = stepper_of(case, torch.float32, SNGD(rank=10_000), plan)
    before = stepper.form.largest
    model = stepper.form.linearize(objective, stepper.state, 1)
    stepper.form.learn(model, Outcome(None, 1.0, -math.inf, 0, 1))  # no step was accepted
    assert "float64" in stepper.form.note
    assert objective.plan.sizes.sketch_itemsize == 8
    assert objective.collocation.chunk == objective.plan.chunk
    assert stepper.form.largest < before
    assert stepper.form.rank <= stepper.form.largest
    assert objective.plan.total(stepper.form.largest) <= objective.plan.budget


def test_a_stepper_that_begins_anew_plans_for_its_own_precision_as_after_a_resume():
    """A stepper before it has gone over to float64; a run that goes on from a file makes its plan anew."""
    problem = heat_problem(60, 8, 8)
    run = RunConfig(problem, MLP((8, 8)), SNGD(rank=8), precision="mixed", device="cpu", memory_gb=0.5)
    network = run.network.build(run.problem.domain, 1, run.seed)
    objective = build_objective(run, network, LocalRanks(), torch.device("cpu"))
    fresh, state = objective.plan, objective.evaluate(network.initial.double())
    stepper = run.optimizer.start(objective, state, 0, run.problem.rows)
    assert objective.plan is fresh
    stepper.form._escalate(torch.float64)
    assert objective.plan != fresh
    again = run.optimizer.start(objective, state, 0, run.problem.rows)
    assert again.form.dtype == torch.float32
    assert objective.plan == fresh
