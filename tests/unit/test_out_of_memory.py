"""Failed allocations: fewer points at a time, nothing lost, and words in place of a traceback."""

import logging
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from sngd.allocation import OutOfMemoryError, is_out_of_memory, naming_out_of_memory
from sngd.cli import main
from sngd.collectives import LocalRanks
from sngd.jacobian import FactoredJacobian
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.optimizers import SNGD, sngd
from tests.problems import CASES, heat, parameters, system
from tests.thread_ranks import on_ranks


def cpu_error() -> RuntimeError:
    """What torch raises here for more than any machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.float64)
    return RuntimeError(str(caught.value))


ERRORS = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": cpu_error,
    "python": MemoryError,
    "library": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
}


def limit(monkeypatch, network, most, make=ERRORS["gpu"]) -> list[int]:
    """Let the network fail above so many points; the list fills with the points of calls that succeed."""
    passed: list[int] = []
    for name in ("forward", "record"):
        original = getattr(network, name)

        def limited(theta, h, rules, original=original):
            if h.shape[1] > most:
                raise make()
            passed.append(h.shape[1])
            return original(theta, h, rules)

        monkeypatch.setattr(network, name, limited)
    return passed


@pytest.mark.parametrize("kind", ERRORS)
def test_what_a_failed_allocation_looks_like(kind):
    assert is_out_of_memory(ERRORS[kind]())


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory"), OSError()]
)
def test_other_errors_are_none(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("name", ["heat", "system"])
def test_residuals_go_on_with_half_the_points_where_they_failed(name, kind, monkeypatch, caplog):
    collocation = CASES[name](40).collocation()
    theta = parameters(collocation)
    want = collocation.residual(theta)
    passed = limit(monkeypatch, collocation.network, 7, ERRORS[kind])
    with caplog.at_level(logging.WARNING):
        got = collocation.residual(theta)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)
    assert collocation.chunk == 5  # 40, 20, 10, 5
    assert sum(passed) == sum(len(batch.points) for batch in collocation.batches)
    assert [record.args[1:3] for record in caplog.records] == [(40, 20), (20, 10), (10, 5)]
    passed.clear()
    caplog.clear()
    collocation.residual(theta)
    assert max(passed) == 5
    assert not caplog.records


def test_points_that_were_done_are_not_done_again(monkeypatch):
    collocation = heat(40).collocation(chunk=10)
    theta, done = parameters(collocation), []
    want, original = collocation.residual(theta), collocation.network.forward

    def fails_once_in_the_middle(theta, h, rules):
        if sum(done) == 20 and h.shape[1] == 10:
            raise MemoryError
        done.append(h.shape[1])
        return original(theta, h, rules)

    monkeypatch.setattr(collocation.network, "forward", fails_once_in_the_middle)
    torch.testing.assert_close(collocation.residual(theta), want, rtol=1e-12, atol=1e-13)
    assert done[:6] == [10, 10, 5, 5, 5, 5]


@pytest.mark.parametrize("keep", ["factors", "nothing"])
def test_products_and_gradients_are_the_same_in_halved_chunks(keep, monkeypatch):
    case = system(24)
    whole, halved = case.collocation(), case.collocation()
    theta = parameters(whole)
    limit(monkeypatch, halved.network, 4)
    exact = FactoredJacobian(whole, theta, whole.scale, keep=keep)
    jacobian = FactoredJacobian(halved, theta, halved.scale, keep=keep)
    v = torch.randn(len(theta), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(jacobian.matmul(v), exact.matmul(v), rtol=1e-11, atol=1e-12)
    for got, want in zip(jacobian.residual_and_gradient(), exact.residual_and_gradient(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
    assert halved.chunk == 3


def test_nothing_of_a_failed_chunk_is_alive_when_it_is_tried_again(monkeypatch):
    collocation = heat(16).collocation()
    theta, failed = parameters(collocation), []
    original = collocation.network.record

    def record(theta, h, rules):
        assert all(reference() is None for reference in failed)
        tape = original(theta, h, rules)
        if h.shape[1] > 4:
            failed.extend(weakref.ref(z) for z in tape.preactivations)
            raise MemoryError
        return tape

    monkeypatch.setattr(collocation.network, "record", record)
    FactoredJacobian(collocation, theta, collocation.scale).rmatmul(theta.new_ones(collocation.row_count))
    assert len(failed) > 0


def test_kept_factors_are_given_up_before_the_chunk_is_halved(monkeypatch, caplog):
    case = heat(24)
    collocation, theta = case.collocation(chunk=8), parameters(case.collocation())
    objective = Objective(collocation, LocalRanks(), Plan("factors", 8, 0))
    v = torch.ones(len(theta), 2, dtype=torch.float64)
    want = objective.jacobian(theta).matmul(v)
    original, alive = collocation.network.record, []

    def record(theta, h, rules):
        if sum(reference() is not None for reference in alive) >= 2:
            raise MemoryError
        tape = original(theta, h, rules)
        alive.append(weakref.ref(tape.inputs[-1]))
        return tape

    monkeypatch.setattr(collocation.network, "record", record)
    # products hold the chunk at hand while the next one is made: two fit beside nothing else
    jacobian = objective.jacobian(theta)
    torch.testing.assert_close(jacobian.rmatmul(jacobian.matmul(v)), objective.jacobian(theta).rmatmul(want))
    assert collocation.chunk == 8
    assert jacobian.keep == "nothing"
    assert objective.jacobian(theta).keep == "nothing"
    assert sum("no longer kept" in record.message for record in caplog.records) == 1
    objective.replace_points(list(collocation.points))
    assert objective.jacobian(theta).keep == "nothing"


def test_a_chunk_stays_halved_on_new_points(monkeypatch):
    collocation = heat(24).collocation()
    objective = Objective(collocation, LocalRanks(), Plan("factors", None, 0))
    limit(monkeypatch, collocation.network, 6)
    objective.evaluate(parameters(collocation))
    objective.replace_points(list(collocation.points))
    assert objective.collocation.chunk == 6
    assert objective.collocation.owner == "rank 0"


def test_memory_that_fails_in_a_residual_is_no_mistake_of_its_author(monkeypatch):
    collocation = heat(24).collocation()
    theta = parameters(collocation)
    want = collocation.residual(theta)
    condition = collocation.problem.conditions[0]
    original = condition.residual

    def hungry(u, p):
        if len(p) > 10:
            raise ERRORS["cpu"]()
        return original(u, p)

    object.__setattr__(condition, "residual", hungry)
    torch.testing.assert_close(collocation.residual(theta), want, rtol=1e-12, atol=1e-13)
    assert collocation.chunk == 6


def test_one_point_that_does_not_fit_is_refused_with_what_may_help(monkeypatch):
    collocation = heat(24).collocation()
    limit(monkeypatch, collocation.network, 0)
    with pytest.raises(ValueError, match=f"P={collocation.network.parameters}") as caught:
        collocation.residual(parameters(collocation))
    for word in ("one point", "memory_gb", "more ranks", "precision", "CUDA out of memory"):
        assert word in str(caught.value)
    assert collocation.chunk == 1


def test_other_errors_pass_as_they_are(monkeypatch):
    collocation = heat(24).collocation()
    limit(monkeypatch, collocation.network, 3, lambda: RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        collocation.residual(parameters(collocation))
    assert collocation.chunk is None


def test_a_rank_whose_memory_fails_does_not_disturb_the_others(monkeypatch, caplog):
    def step(ranks, most):
        collocation = heat(24).collocation(rank=ranks.rank, ranks=ranks.size)
        if ranks.rank == 1:
            limit(monkeypatch, collocation.network, most)
        objective = Objective(collocation, ranks, Plan("factors", None, 0))
        state = objective.evaluate_new_points(parameters(collocation))
        stepper = SNGD(rank=12).start(objective, state, 0, 37)
        stepper.step(objective, 1)
        return stepper.state.loss, collocation.chunk

    (want, _), _ = on_ranks(2, lambda ranks: step(ranks, 100))
    (first, untouched), (second, halved) = on_ranks(2, lambda ranks: step(ranks, 4))
    assert first == second == pytest.approx(want, rel=1e-9)
    assert untouched is None
    assert halved == 3
    assert {record.args[0] for record in caplog.records} == {"rank 1"}


@pytest.mark.parametrize("where", ["draw_test_matrix", "replicate", "make_product"])
def test_a_sketch_that_does_not_fit_names_rank_and_field(where, monkeypatch):
    def fail(*_):
        raise ERRORS["cpu"]()

    collocation = heat(24).collocation()
    objective = Objective(collocation, LocalRanks(), Plan("factors", None, 0))
    stepper = SNGD(rank=12).start(objective, objective.evaluate_new_points(parameters(collocation)), 0, 37)
    monkeypatch.setattr(sngd, where, fail)
    with pytest.raises(OutOfMemoryError) as caught:
        stepper.step(objective, 1)
    for word in ("k=12", "memory_gb", "max_rank", f"P={collocation.network.parameters}"):
        assert word in str(caught.value)


def test_an_error_that_is_named_keeps_its_reason():
    with (
        pytest.raises(OutOfMemoryError, match=r"too large \(CUDA out of memory"),
        naming_out_of_memory(lambda: "too large"),
    ):
        raise ERRORS["gpu"]()


def test_the_command_line_says_it_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sngd, "replicate", lambda *_: torch.empty(1 << 50, dtype=torch.float64))
    Path("small.py").write_text(
        "from sngd import MLP, SNGD, RunConfig\nfrom sngd.problems import heat\n"
        "run = RunConfig(heat(60, 10, 20), MLP(hidden=(8, 8)), SNGD(rank=12), max_steps=2, device='cpu')\n"
    )
    assert main(["train", "small.py", "--run-dir", "run", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: rank 0 has no memory for a sketch of rank k=12")
    assert said.count("\n") == 1


REAL = """
import resource
import torch
from sngd import MLP
from sngd.problems import heat
from sngd.residual import Collocation

torch.set_num_threads(1)
problem = heat(100_000, 1, 2)
network = MLP((64, 64)).build(problem.domain, 1, 0)
points = [c.region.sample(0, c.points, (0, 0, 0), c.sampling) for c in problem.conditions]
collocation = Collocation(problem, network, points, torch.ones(3, dtype=torch.float64), 1000)
want = collocation.residual(network.initial)
collocation.chunk = None
for batch in collocation.batches:
    batch.embedded = None
taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize:"))
resource.setrlimit(resource.RLIMIT_AS, (taken * 1024 + (150 << 20),) * 2)
got = collocation.residual(network.initial)
assert torch.allclose(got, want, rtol=1e-12, atol=1e-13)
print(collocation.chunk)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the size of the process")
def test_a_process_that_runs_out_of_address_space_goes_on():
    ended = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    chunk = int(ended.stdout)
    assert 1000 < chunk < 100_000
    assert f"going on with {chunk}" in ended.stderr
    assert "memory" in ended.stderr


RANKS = """
import os
from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d

box = Box(x=(0, 1))
(X,) = box.axes
seen = []


def residual(u, p):
    seen.append(len(p))
    if os.environ.get("RANK") == "1" and len(seen) > 20:
        raise MemoryError
    return d(u, X, X) + 1


ends = Condition("ends", lambda u, p: u, box.boundary(), 8)
conditions = [Condition("equation", residual, box.interior, 40), ends]
run = RunConfig(Problem(box, conditions), MLP((8, 8)), SNGD(rank=8), max_steps=200, device="cpu")
"""


def test_of_several_processes_the_one_without_memory_says_why(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("starved.py").write_text(RANKS)
    assert main(["train", "starved.py", "--ranks", "2", "--run-dir", "run", "--quiet"]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert said[0].startswith("error: rank 1 has no memory for one point")
