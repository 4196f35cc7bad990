"""The plan that is shown: what it says of memory and traffic is what a step holds and sends."""

import io
import re

import pytest
import rich.console
import torch

from sngd import ENGD, MLP, SNGD, SOAP, SPRING, Adam, Auto, RunConfig, problems
from sngd.assembly import draw_points, plan_memory
from sngd.collectives import LocalRanks
from sngd.condition import Condition
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.plan_table import parse_bytes, show
from sngd.planning import Forecast, human
from sngd.problem import Problem
from sngd.residual import Collocation
from sngd.sizes import Sizes
from sngd.training import train
from tests.problems import heat, parameters, system
from tests.thread_ranks import on_ranks

CPU = torch.device("cpu")


def run_of(optimizer=SNGD(rank=16), hidden=(200, 200, 200), points=3000, **more) -> RunConfig:
    return RunConfig(problems.heat(points, points // 10, points // 5), MLP(hidden), optimizer, **more)


def forecast(run=None, ranks=1, budget=2_000_000_000, wanted=None) -> Forecast:
    run = run_of() if run is None else run
    network = run.network.build(run.problem.domain, 1, run.seed)
    return Forecast(run, network, plan_memory(run, network, ranks, CPU, budget), CPU, wanted)


class Rank(LocalRanks):
    """One of several ranks as far as its share of the points goes."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size


def shown(forecast: Forecast) -> str:
    out = io.StringIO()
    show(forecast, rich.console.Console(file=out, width=200))
    return out.getvalue()


def cells(text: str, name: str) -> list[str]:
    """The cells of a table's row."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return next(line[1:] for line in lines if line[0] == name)


# ---------------------------------------------------------------------------------------------
# Amounts
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [(640, "640 B"), (1048.4e3, "1.05 MB"), (80e9, "80 GB"), (999.4e6, "999 MB"), (999.7e6, "1 GB")],
)
def test_bytes_are_said_in_three_digits(count, text):
    assert human(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *[("80GB", 80e9), ("500MB", 5e8), ("1.5GiB", 1.5 * 2**30), ("80", 80e9), ("0.5", 5e8)],
        *[("2 tb", 2e12), (".5 gib", 2**29), ("12kB", 12e3), ("100B", 100)],
    ],
)
def test_amounts_of_memory(text, count):
    assert parse_bytes(text, "--memory") == count


@pytest.mark.parametrize("text", ["", "GB", "80XB", "-3GB", "0", "1e3GB", "1.2.3GB", "nan", "80 G B"])
def test_what_is_no_amount_names_field_value_and_what_would_be_right(text):
    with pytest.raises(ValueError) as caught:
        parse_bytes(text, "--memory")
    assert str(caught.value).startswith(f"--memory={text} must be")
    assert "80GB" in str(caught.value)


# ---------------------------------------------------------------------------------------------
# What is predicted
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("basis", ["replicated", "sharded"])
@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize("stored", [True, False])
def test_traffic_is_what_a_step_sends(ranks, basis, precision, stored):
    config = SNGD(rank=10, basis=basis)
    run = RunConfig(heat(24).problem, MLP((8, 8)), config, precision=precision)

    def step(rank):
        collocation = heat(24).collocation(rank=rank.rank, ranks=rank.size)
        network = collocation.network
        sizes = Sizes.of(run.problem, network, rank.size, run.dtype, run.sketch_dtype, CPU)
        plan = Plan("factors", None, 0 if stored else 1, sizes)  # what does not fit is recomputed
        objective = Objective(collocation, rank, plan, run.sketch_dtype)
        state = objective.evaluate_new_points(parameters(collocation))
        stepper = config.start(objective, state, 0, 37)
        stepper.form.rank = 10
        before = dict(rank.traffic)
        stepper.step(objective, 1)
        moved = {what: total.since(before.get(what)) for what, total in rank.traffic.items()}
        return Forecast(run, network, plan, CPU), {what: t for what, t in moved.items() if t.calls}

    for forecast, moved in on_ranks(ranks, step):
        evaluations = moved["losses"].calls if moved else 0
        corrections = moved["projections"].calls if moved else 0
        predicted = forecast.traffic(10, evaluations, corrections)
        assert predicted == {what: traffic.bytes for what, traffic in moved.items()}
        assert (corrections > 0) == (ranks > 1)


def two_components() -> Problem:
    """Two fields, with one and two rows per point."""
    whole = system().problem
    one = Condition("one", lambda w, p: w[0] - w[1], whole.domain.face(t=0), 15)
    return Problem(whole.domain, [whole.conditions[0], one], fields=whole.fields)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("precision", ["float64", "mixed", "float32"])
@pytest.mark.parametrize("recycle", [True, False])
@pytest.mark.parametrize("make", [lambda: heat(24).problem, two_components])
def test_traffic_with_landmarks_is_what_a_step_sends(ranks, precision, recycle, make):
    k = 6  # so few rows that none of them depends on others
    config = SNGD(rank=k, subspace="landmarks", recycle=recycle, adaptive_rank=False)
    run = RunConfig(make(), MLP((8, 8)), config, precision=precision)
    shares = [draw_points(run, 1, Rank(r, ranks), CPU, run.dtype) for r in range(ranks)]

    def steps(rank):
        network = run.network.build(run.problem.domain, len(run.problem.fields), 0).to(run.dtype, CPU)
        weights = torch.ones(len(shares[0]), dtype=run.dtype)
        collocation = Collocation(run.problem, network, shares[rank.rank], weights)
        plan = plan_memory(run, network, rank.size, CPU, 10**9)
        objective = Objective(collocation, rank, plan, run.sketch_dtype)
        state = objective.evaluate_new_points(parameters(collocation).to(run.dtype))
        stepper, found = config.start(objective, state, run.seed, 10**6), []
        for number in (1, 2):
            before = dict(rank.traffic)
            report = stepper.step(objective, number)
            kept = sum(Forecast(run, network, plan, CPU).landmarks(k, number)[::2])
            assert (report.accepted, report.rank) == (True, kept)
            moved = {what: total.since(before.get(what)) for what, total in rank.traffic.items()}
            found.append({what: total for what, total in moved.items() if total.calls})
        return Forecast(run, network, plan, CPU), found

    for forecast, found in on_ranks(ranks, steps):
        for number, moved in enumerate(found, start=1):
            calls = [moved[what].calls if moved else 0 for what in ("losses", "triangles")]
            corrections = moved["projections"].calls if "projections" in moved else 0
            predicted = forecast.traffic(k, calls[0], corrections, number)
            assert {what: count for what, count in predicted.items() if count} == {
                what: traffic.bytes for what, traffic in moved.items()
            }
            assert calls[1] == (ranks > 1)
            assert ("gradient" in moved) == (recycle and ranks > 1)
            assert not set(moved) & {"sketch", "basis", "displacement"}


def test_the_largest_rank_fits_and_the_next_does_not():
    plan = forecast(budget=60_000_000)
    k = plan.largest
    assert plan.binding == "memory"
    assert plan.total(k) <= 60_000_000 < plan.total(k + 1)


def test_the_largest_rank_is_that_of_training():
    run = run_of(hidden=(60, 60), points=400, memory_gb=0.01)
    plan = forecast(run, budget=10_000_000)
    network = run.network.build(run.problem.domain, 1, run.seed)
    points = [torch.rand(c.points, 2, dtype=torch.float64) for c in run.problem.conditions]
    collocation = Collocation(run.problem, network, points, torch.ones(3, dtype=torch.float64))
    objective = Objective(collocation, LocalRanks(), plan.plan)
    state = objective.evaluate_new_points(network.initial)
    form = run.optimizer.start(objective, state, 0, plan.rows).form
    assert (form.rank, form.largest) == (plan.first, plan.largest)


def test_a_basis_that_is_asked_for_counts():
    whole = forecast(run_of(SNGD(rank=16, basis="replicated")), ranks=16, budget=100_000_000)
    spread = forecast(run_of(SNGD(rank=16, basis="sharded")), ranks=16, budget=100_000_000)
    assert whole.arrange(16).sharded is False
    assert spread.largest > 2 * whole.largest
    for plan in (whole, spread):
        assert plan.total(plan.largest) <= 100_000_000


LANDMARKS = SNGD(rank=16, subspace="landmarks")


def test_landmarks_take_no_memory_of_parameters_times_columns():
    small, large = (forecast(run_of(LANDMARKS, hidden=(width,) * 3), budget=10**9) for width in (100, 400))
    added = (large.total(256) - large.total(16)) / (small.total(256) - small.total(16))
    assert large.sizes.parameters > 15 * small.sizes.parameters
    assert added < 1.1 * large.sizes.widths / small.sizes.widths  # as factors grow, not as P does
    formed = forecast(run_of(hidden=(400,) * 3), budget=10**8)
    spanned = forecast(run_of(LANDMARKS, hidden=(400,) * 3), budget=10**8)
    assert formed.binding == "memory"
    assert spanned.largest > 2 * formed.largest
    assert spanned.total(spanned.largest) <= 10**8


def test_landmarks_are_planned_in_the_precision_of_the_parameters():
    mixed, double = (forecast(run_of(LANDMARKS, precision=name)) for name in ("mixed", "float64"))
    assert mixed.items(16) == double.items(16)
    assert mixed.sizes == double.sizes
    sketched = forecast(run_of(precision="mixed"))
    assert 2 * sketched.sizes.sketch_itemsize == mixed.sizes.sketch_itemsize == 8


def test_the_short_form_and_the_table_name_the_rows_that_span():
    plan = forecast(run_of(SNGD(rank=64, max_rank=64, subspace="landmarks")), ranks=4)
    assert "Q: spanned by 62 rows of J (landmarks); A: stored" in plan.lines()[1]
    assert cells(shown(plan), "basis Q") == ["spanned by 62 rows of J (landmarks)"]
    free = forecast(run_of(SNGD(rank=64, recycle=False, subspace="landmarks")))
    assert "spanned by 64 rows of J" in free.lines()[1]
    text = shown(plan)
    for name, count in plan.traffic(64).items():
        assert cells(text[text.index("bytes that travel") :], name) == [human(count)]


def test_more_ranks_never_lower_the_largest_rank():
    found = [forecast(ranks=ranks, budget=60_000_000).largest for ranks in (2, 4, 8, 16, 32)]
    assert found == sorted(found)
    assert found[-1] > found[0]


@pytest.mark.parametrize("bound", ["P", "N", "max_rank"])
def test_what_bounds_the_rank_is_named(bound):
    run = {
        "P": run_of(hidden=(5,)),
        "N": run_of(points=30),
        "max_rank": run_of(SNGD(rank=16, max_rank=40)),
    }[bound]
    plan = forecast(run)
    assert plan.binding == bound
    assert plan.largest == {"P": 21, "N": plan.rows, "max_rank": 40}[bound]


def test_auto_starts_as_training_does():
    plan = forecast(run_of(Auto()))
    assert plan.first in (16, 32, 64, 128, 256)
    assert forecast(run_of(Auto(rank=24))).first == 24


# ---------------------------------------------------------------------------------------------
# What is said
# ---------------------------------------------------------------------------------------------


def test_tables_hold_sizes_items_and_totals_of_both_ranks():
    plan = forecast(ranks=4, budget=100_000_000)
    text = shown(plan)
    k, most = plan.first, plan.largest
    assert cells(text, "parameters P") == [f"{plan.sizes.parameters:,}"] * 2
    assert cells(text, "rows N")[0] == f"{plan.rows:,}"
    assert f"k = {k:,}, the first" in text
    assert f"k = {most:,}, the largest (memory)" in text
    memory = text[text.index("memory of a rank") :]
    for name, count in plan.items(k).items():
        assert cells(memory, name) == [human(count), human(plan.items(most)[name])]
    assert cells(text, "total") == [human(plan.total(k)), human(plan.total(most))]
    assert cells(text, "budget") == ["100 MB", "100 MB"]
    for name, count in plan.traffic(k).items():
        assert cells(text, name)[0] == human(count)
    assert human(plan.sizes.parameters**2 * 8) in text


def test_nothing_travels_on_one_rank():
    assert forecast().traffic(16) == {}
    assert "travel" not in shown(forecast())


def test_optimizers_with_a_matrix_say_what_it_takes():
    plan = forecast(run_of(ENGD(), hidden=(30,)))
    assert cells(shown(plan), "Gramian, damped copy and factor (3·P²)") == [
        human(3 * plan.sizes.parameters**2 * 8)
    ]
    plan = forecast(run_of(SPRING()))
    assert cells(shown(plan), "kernel, damped copy and factor (3·N²)") == [human(3 * plan.rows**2 * 8)]


@pytest.mark.parametrize("optimizer", [Adam(), SOAP()])
def test_optimizers_without_a_matrix_say_so(optimizer):
    text = shown(forecast(run_of(optimizer)))
    assert "no Gram matrix" in text
    assert "basis Q" not in text
    assert cells(text, "factors of the Jacobian") == ["0 B"]


@pytest.mark.parametrize("optimizer", [ENGD(), SPRING()])
def test_a_matrix_that_training_would_refuse_is_a_shortage(optimizer):
    run = run_of(optimizer, points=8000)
    plan = forecast(run, budget=1_000_000_000)
    assert "SNGD" in plan.shortage()
    with pytest.raises(ValueError, match="take SNGD"):
        train(run_of(optimizer, points=8000, memory_gb=1, max_steps=1, device="cpu"), LocalRanks(), CPU)
    assert forecast(run, budget=10**12).shortage() == ""


def test_a_rank_that_does_not_fit_comes_with_amounts_that_do():
    plan = forecast(ranks=2, budget=60_000_000, wanted=100)
    said = plan.shortage()
    memory, ranks = re.search(r"--memory (\S+), or --ranks (\d+)", said).groups()
    assert "k=100" in said
    assert f"k={plan.largest:,}" in said
    assert forecast(ranks=2, budget=parse_bytes(memory, ""), wanted=100).shortage() == ""
    assert forecast(ranks=int(ranks), budget=60_000_000, wanted=100).shortage() == ""
    assert forecast(ranks=2, budget=60_000_000, wanted=plan.largest).shortage() == ""


@pytest.mark.parametrize("ranks", [1, 8])
@pytest.mark.parametrize("optimizer", [SNGD(rank=16), Auto(), Adam(), ENGD()])
def test_the_short_form_is_a_few_lines(ranks, optimizer):
    plan = forecast(run_of(optimizer, hidden=(30,)), ranks=ranks)
    lines = plan.lines()
    assert 1 <= len(lines) <= 4
    assert "of 2 GB a rank" in lines[0]
    if plan.sketched:
        assert f"k={plan.first:,}" in lines[0]
        assert any(human(sum(plan.traffic(plan.first).values())) in line for line in lines) or ranks == 1
