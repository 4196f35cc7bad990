"""Decompositions that fail, and what serves in their place."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from sngd import ENGD, ENGDW, SNGD, SPRING, Auto
from sngd import decompositions as module
from sngd.collectives import LocalRanks
from sngd.core import Core, factor
from sngd.decompositions import NonFiniteMatrixError, eigh, svd
from sngd.gram import DampedMatrix
from sngd.memory import Plan
from sngd.objective import Objective
from tests.dense import decaying, random
from tests.problems import heat, parameters

TAKEN = {"svd": torch.linalg.svd, "eigh": torch.linalg.eigh}


class Failing:
    """torch.linalg.svd or eigh whose first calls fail: an error, NaN, or the factors of another matrix."""

    def __init__(self, kind: str, how: str, times: float) -> None:
        self.kind, self.how, self.times, self.drivers = kind, how, times, list[str]()

    def __call__(self, x, driver="none"):
        self.drivers.append(driver)
        self.times -= 1
        if self.times < 0:
            return TAKEN[self.kind](x)
        if self.how == "error":
            raise torch.linalg.LinAlgError(f"{self.kind} did not converge")
        factors = TAKEN[self.kind](x + torch.eye(len(x), dtype=x.dtype))
        return [f * math.nan for f in factors] if self.how == "nan" else factors


@pytest.fixture
def fail(monkeypatch):
    def inject(kind: str, how: str = "error", times: float = math.inf) -> Failing:
        failing = Failing(kind, how, times)
        monkeypatch.setattr(torch.linalg, kind, failing)
        return failing

    return inject


def symmetric(k: int, seed: int = 0) -> torch.Tensor:
    x = random(k, k, seed=seed)
    return x @ x.T


def rebuilt(kind: str, x: torch.Tensor, counted: Counter[str]) -> torch.Tensor:
    """The product of the factors."""
    if kind == "svd":
        u, sigma, vt = svd(x, "M", counted)
        assert bool((sigma.diff() <= 0).all())
        return (u * sigma) @ vt
    values, vectors = eigh(x, "M", counted)
    assert bool((values.diff() >= 0).all())
    return (vectors * values) @ vectors.T


@pytest.mark.parametrize("how", ["error", "nan", "another"])
@pytest.mark.parametrize(("kind", "way"), [("svd", "gesvd"), ("eigh", "syev")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scipy_serves_where_torch_fails_and_is_counted(fail, kind, way, how, dtype) -> None:
    x = symmetric(9).to(dtype)
    fail(kind, how)
    counted = Counter[str]()
    again = rebuilt(kind, x, counted)
    assert again.dtype == dtype
    assert float((again - x).abs().max()) < 100 * torch.finfo(dtype).eps * float(x.abs().max())
    assert counted == {f"{kind} by {way}": 1}


@pytest.mark.parametrize(
    ("kind", "drivers", "names"),
    [
        ("svd", ["gesvdj", "gesvd", "none"], ["gesvd", "gesdd on the CPU", "gesvd on the CPU"]),
        ("eigh", ["none", "none"], ["syevd on the CPU", "syev on the CPU"]),
    ],
)
@pytest.mark.parametrize("how", ["error", "nan", "another"])
def test_a_gpu_goes_through_its_drivers_and_then_to_the_cpu(
    fail, monkeypatch, kind, drivers, names, how
) -> None:
    monkeypatch.setitem(module._WAYS, (kind, "cpu"), module._WAYS[kind, "cuda"])
    x = symmetric(6)
    for times in range(len(drivers) + 1):
        failing, counted = fail(kind, how, times), Counter[str]()
        again = rebuilt(kind, x, counted)
        assert float((again - x).abs().max()) < 1e-13 * float(x.abs().max())
        assert failing.drivers == drivers[: times + 1]
        assert counted == ({f"{kind} by {names[times - 1]}": 1} if times else {})


@pytest.mark.parametrize("kind", ["svd", "eigh"])
def test_when_every_way_fails_the_error_names_matrix_and_ways(fail, monkeypatch, kind) -> None:
    import scipy.linalg

    def raising(*_, **__):
        raise np.linalg.LinAlgError("no")

    monkeypatch.setattr(scipy.linalg, kind, raising)
    fail(kind)
    counted = Counter[str]()
    with pytest.raises(ValueError, match=r"decomposition of the core \(3 × 3, .*\) has failed") as caught:
        (svd if kind == "svd" else eigh)(torch.eye(3, dtype=torch.float64), "the core", counted)
    assert not isinstance(caught.value, NonFiniteMatrixError)
    assert all(name in str(caught.value) for name, _ in module._WAYS[kind, "cpu"])
    assert not counted


def test_no_memory_is_no_reason_to_go_on(monkeypatch) -> None:
    def crowded(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.linalg, "svd", crowded)
    with pytest.raises(torch.OutOfMemoryError):
        svd(torch.eye(2), "M", Counter())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_an_error_of_its_own(bad) -> None:
    x = symmetric(4)
    x[2, 2] = bad
    for work in (
        lambda: svd(x, "M", Counter()),
        lambda: eigh(x, "M", Counter()),
        lambda: DampedMatrix(x, "M"),
    ):
        with pytest.raises(NonFiniteMatrixError, match=r"^M is not finite: "):
            work()
    with pytest.raises(NonFiniteMatrixError, match="not finite"):
        factor(x)


# ---------------------------------------------------------------------------------------------
# Matrices at the edge
# ---------------------------------------------------------------------------------------------

EDGES = {
    "deficient": decaying(8, 8, 3) @ torch.diag(torch.tensor([1.0] * 4 + [0.0] * 4, dtype=torch.float64)),
    "zero": torch.zeros(5, 5, dtype=torch.float64),
    "one": torch.full((1, 1), -3.0, dtype=torch.float64),
    "denormal": random(4, 4) * 1e-310,
    "tiny": random(6, 6) * 1e-150,
    "huge": random(6, 6) * 1e150,
}


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("name", EDGES)
def test_edges_are_factored_in_either_way(fail, name, failing) -> None:
    x = EDGES[name]
    size = float(x.abs().max())
    if failing:
        fail("svd")
        fail("eigh")
    for kind, matrix in (("svd", x), ("eigh", x + x.T)):
        counted = Counter[str]()
        error = float((rebuilt(kind, matrix, counted) - matrix).abs().max())
        assert error <= 1e-13 * size + 1e-320
        assert counted.total() == failing


@pytest.mark.parametrize("scale", [1e-150, 1e-80, 1.0, 1e80, 1e150])
def test_a_core_of_any_scale_solves_and_predicts_as_that_of_scale_1(scale) -> None:
    """A and r times s, λ times s²: the same z, s² times the prediction."""
    a = torch.triu(random(6, 6, seed=3))
    plain, scaled = factor(a), factor(a * scale)
    damping = 0.1 * float(plain.sigma[0]) ** 2
    z = plain.solve(damping)
    assert float((scaled.solve(damping * scale**2) - z).abs().max()) < 1e-13 * float(z.abs().max())
    want = plain.predicted_reduction(damping)
    assert scaled.predicted_reduction(damping * scale**2) / scale**2 == pytest.approx(want, rel=1e-12)
    assert scaled.effective_dimension(damping * scale**2) == pytest.approx(plain.effective_dimension(damping))


def test_a_core_whose_square_overflows_is_refused() -> None:
    with pytest.raises(NonFiniteMatrixError, match=r"σ_1² of J Q overflows, σ_1 = 1e\+160"):
        factor(1e160 * torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("damping", [0.0, 1e-3])
def test_a_zero_core_leaves_everything_alone(damping) -> None:
    core: Core = factor(torch.zeros(4, 4, dtype=torch.float64))
    assert not core.solve(damping).any()
    assert core.predicted_reduction(damping) == 0.0
    assert core.effective_dimension(damping) == 0.0


# ---------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------

GRAM = {"globalization": "trust_region"}
STEPS = {
    "sngd": (SNGD(rank=12), "svd by gesvd"),
    "line_search": (SNGD(rank=12, globalization="line_search", halvings=4), "svd by gesvd"),
    "landmarks": (SNGD(rank=12, subspace="landmarks"), "svd by gesvd"),
    "engd": (ENGD(**GRAM), "eigh by syev"),
    "engd-w": (ENGDW(**GRAM), "eigh by syev"),
    "spring": (SPRING(**GRAM), "eigh by syev"),
    "auto": (Auto(rank=12), "eigh by syev"),
}


def taken(config):
    """θ after a step from the same start, and the objective."""
    objective = Objective(heat().collocation(), LocalRanks(), Plan("factors", None, 0))
    state = objective.evaluate(parameters(objective.collocation))
    stepper = config.start(objective, state, 0, objective.collocation.row_count)
    assert stepper.step(objective, 1).accepted
    return stepper.state, objective


@pytest.mark.parametrize("how", ["error", "nan"])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_goes_on_when_its_decomposition_fails(fail, monkeypatch, name, how) -> None:
    """To 1e-12; without damping the pseudo-inverse of a Gram matrix is known to less."""
    config, counted = STEPS[name]
    failed = torch.ones((), dtype=torch.int32)  # so that Gram matrices come to their eigenvalues
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda x: (x, failed))
    state, objective = taken(config)
    assert not objective.fallbacks - Counter({"cholesky by eigh": 1})
    fail("svd", how)
    fail("eigh", how)
    other, objective = taken(config)
    assert other.loss == pytest.approx(state.loss, rel=1e-12)
    assert objective.fallbacks[counted] == 1
    others = {"eigh by syev"} if name == "landmarks" else {"cholesky by eigh"} if "eigh" in counted else set()
    assert set(objective.fallbacks) == {counted} | others


def test_eigenvalues_that_serve_for_cholesky_are_counted() -> None:
    s = random(6, 3) @ random(3, 6)
    s = s @ s.T
    counted = Counter[str]()
    DampedMatrix(s - 1e-3 * torch.eye(6, dtype=torch.float64), "S", counted).solve(1e-6, random(6))
    assert counted == {"cholesky by eigh": 1}
