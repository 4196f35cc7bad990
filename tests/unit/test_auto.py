"""auto: the cheapest form in every step, what it says of it, and that it changes nothing else."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sngd import ENGD, MLP, SNGD, Auto
from sngd.collectives import LocalRanks
from sngd.costs import SPEEDS, Size
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.optimizers.auto import CheapestForm, first_rank
from sngd.sizes import Sizes
from tests.problems import CASES, Case, heat, parameters
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")
FREE = {kind: 0.0 for kind in SPEEDS["cpu"]}


def _stepper(case, config=Auto(), plan=Plan("factors", None, 0), ranks=None):
    ranks = ranks or LocalRanks()
    objective = Objective(case.collocation(rank=ranks.rank, ranks=ranks.size), ranks, plan)
    state = objective.evaluate(parameters(objective.collocation))
    rows = sum(
        c.points * s.components for c, s in zip(case.problem.conditions, case.problem.signatures, strict=True)
    )
    return objective, config.start(objective, state, 3, rows)


def _speeds(monkeypatch, **costs):
    """A machine on which only some kinds of work take time."""
    monkeypatch.setattr("sngd.costs.SPEEDS", {"cpu": FREE | costs})


def test_where_cholesky_is_dear_the_sketch_serves(monkeypatch):
    _speeds(monkeypatch, cholesky=1.0, steps=1e-9)
    objective, stepper = _stepper(heat(), Auto(rank=16))
    reports = [stepper.step(objective, number) for number in range(1, 6)]
    assert all(report.rank is not None for report in reports)
    assert reports[0].note.startswith("sketched form, rank 16 for N=37, P=105: predicted ")
    assert "exact form" in reports[0].note
    assert "kernel form" in reports[0].note
    assert not any(report.note for report in reports[1:])  # said once


@pytest.mark.parametrize(("points", "form"), [(24, "kernel"), (200, "exact")])
def test_where_qr_is_dear_the_smaller_gram_matrix_serves(monkeypatch, points, form):
    _speeds(monkeypatch, qr=1.0, cholesky=1e-9)
    objective, stepper = _stepper(heat(points))
    report = stepper.step(objective, 1)
    assert report.rank is None
    assert report.note.startswith(f"{form} form for N=")
    assert stepper.save()["form"] == form


def test_the_steps_are_those_of_the_form_that_was_chosen(monkeypatch):
    _speeds(monkeypatch, qr=1.0, cholesky=1e-9)
    (one, auto), (two, exact) = _stepper(heat(200)), _stepper(heat(200), ENGD(globalization="trust_region"))
    for number in range(1, 5):
        auto.step(one, number)
        exact.step(two, number)
        assert auto.state.loss == exact.state.loss
    _speeds(monkeypatch, cholesky=1.0)
    (one, auto), (two, sketch) = _stepper(heat(60), Auto(rank=20)), _stepper(heat(60), SNGD(rank=20))
    for number in range(1, 5):
        auto.step(one, number)
        sketch.step(two, number)
        assert auto.state.loss == sketch.state.loss


def test_a_gram_matrix_near_its_rounding_gives_way_to_the_sketch(monkeypatch):
    _speeds(monkeypatch, qr=1.0, cholesky=1e-9)
    objective, stepper = _stepper(CASES["nonlinear"](60))
    notes, damping, ranks = [], [], []
    for number in range(1, 41):
        report = stepper.step(objective, number)
        notes.append(report.note)
        damping.append(report.damping)
        ranks.append(report.rank)
    changed = next(number for number, note in enumerate(notes) if note.startswith("sketched form"))
    assert changed > 1
    assert "λ is near rounding" in notes[changed]
    assert damping[changed - 1] < 1e-9 * damping[0]
    # the sketch starts where the spectrum is expected to end, not at the first rank
    assert ranks[changed] is not None
    assert len([note for note in notes if note]) == 2


def test_a_small_gain_changes_nothing(monkeypatch):
    objective, stepper = _stepper(heat(), Auto(rank=16))
    form = stepper.form
    assert isinstance(form, CheapestForm)
    costs = {"sketched": 1.0, "exact": 0.9, "kernel": 2.0}
    monkeypatch.setattr(form, "predict", lambda: dict(costs))
    form.chosen = "sketched"
    stepper.step(objective, 1)
    assert form.chosen == "sketched"
    costs["exact"] = 0.8
    stepper.step(objective, 2)
    assert form.chosen == "exact"


def test_what_does_not_fit_into_memory_is_not_considered(monkeypatch):
    _speeds(monkeypatch, qr=1.0, cholesky=1e-9)
    case, itemsize = Case(heat(400).problem, heat(400).naive, MLP((16, 16))), 8
    objective, _ = _stepper(case)
    network = objective.collocation.network
    sizes = Sizes.of(case.problem, network, 1, torch.float64, torch.float64, CPU)
    n, p = objective.jacobian(objective.collocation.network.initial).shape
    assert p < n
    room = 3 * p**2 * itemsize
    assert room < 3 * n**2 * itemsize
    objective, stepper = _stepper(case, plan=Plan("nothing", 20, room, sizes))
    assert stepper.form.allowed == ["exact"]
    plan = Plan("nothing", 20, room - 1, sizes)
    objective, stepper = _stepper(case, plan=plan)
    assert stepper.form.allowed == []
    report = stepper.step(objective, 1)
    assert report.rank is not None
    assert "does not fit" in report.note
    assert plan.total(stepper.form.sketched.largest) < room
    assert stepper.form.sketched.largest < p


def test_the_first_rank_is_what_is_cheap(monkeypatch):
    size = Size(parameters=10**6, rows=1000, ranks=1, channels=4, components=1, widths=1000, layers=4)
    for work, rank in (("steps", 256), ("product", 16), ("qr", 16)):
        _speeds(monkeypatch, **{work: 1.0})
        assert first_rank(size, CPU) == rank
    _speeds(monkeypatch, steps=1.0, qr=1e-10)
    assert first_rank(size, CPU) < first_rank(dataclasses.replace(size, parameters=1000), CPU)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_choose_alike_and_lose_nothing(monkeypatch, size):
    _speeds(monkeypatch, qr=1.0, cholesky=1e-9)
    case = heat(60)

    def run(ranks):
        objective, stepper = _stepper(case, Auto(rank=30), ranks=ranks)
        reports = [stepper.step(objective, number) for number in range(1, 6)]
        return stepper.state.loss, [report.note for report in reports]

    alone, notes = run(LocalRanks())
    for loss, theirs in on_ranks(size, run):
        assert loss == pytest.approx(alone, rel=1e-8)
        assert [bool(note) for note in theirs] == [bool(note) for note in notes]


def test_a_run_may_ask_for_auto_by_name():
    from sngd import RunConfig
    from sngd.problems import heat as problem

    assert RunConfig(problem(10, 4, 4), optimizer="auto").optimizer == Auto()


@pytest.mark.parametrize(
    ("field", "value"),
    [("rank", 0), ("max_rank", 0), ("corrections", -1), ("acceptance", 0), ("damping", math.inf)],
)
def test_a_bad_field_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as caught:
        Auto(**{field: value})
    assert str(caught.value).startswith(f"optimizer.{field}={value!r} must be ")


def test_all_forms_take_the_same_number_of_steps():
    """Why the cheapest step wins: under one rule the forms fall alike."""
    losses = []
    for config in (SNGD(), ENGD(globalization="trust_region"), Auto()):
        objective, stepper = _stepper(heat(200), config)
        for number in range(1, 16):
            stepper.step(objective, number)
        losses.append(math.log10(stepper.state.loss))
    assert np.ptp(losses) < 0.5


def test_what_the_sketched_form_has_to_say_is_said():
    objective, stepper = _stepper(heat())
    form = stepper.form
    form.allowed = []  # the sketch serves
    learn = form.sketched.learn

    def learn_and_tell(model, outcome):
        learn(model, outcome)
        form.sketched.note = "told"

    form.sketched.learn = learn_and_tell
    reports = [stepper.step(objective, number) for number in (1, 2)]
    assert reports[0].note.startswith("sketched form, rank")
    assert [report.note.split("; ")[-1] for report in reports] == ["told", "told"]
