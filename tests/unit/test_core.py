import numpy as np
import pytest
import torch
from torch import Tensor

from sngd.collectives import LocalRanks
from sngd.core import Core, factor
from sngd.jacobian import FactoredJacobian
from sngd.product import StoredProduct
from sngd.sketch import draw_test_matrix
from tests import reference
from tests.dense import decaying, dense_test_matrix, find_range, random
from tests.problems import CASES, parameters
from tests.reference import relative_error
from tests.thread_ranks import on_ranks

EPS = float(np.finfo(np.float64).eps)
LOCAL = LocalRanks()


def core_of(a: Tensor, r: Tensor, ranks=LOCAL) -> Core:
    """The core of this rank's rows of [A | r]."""
    return factor(StoredProduct(a, ranks).triangle(r))


# ---------------------------------------------------------------------------------------------
# Factorisation
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heights", [[40], [13, 0, 2, 25], [4, 36]])
def test_factor_equals_the_svd(heights: list[int]) -> None:
    a, r = decaying(40, 7, 4), random(40, seed=9)
    u, s, vt = np.linalg.svd(a.numpy(), full_matrices=False)
    blocks, residuals = a.split(heights), r.split(heights)
    cores = on_ranks(len(heights), lambda ranks: core_of(blocks[ranks.rank], residuals[ranks.rank], ranks))
    for core in cores:
        assert torch.equal(core.sigma, cores[0].sigma)
        assert torch.equal(core.v, cores[0].v)
        assert torch.equal(core.c, cores[0].c)
    core = cores[0]
    assert relative_error(core.sigma, s) < 1e-14
    signs = np.sign((core.v.numpy() * vt.T).sum(0))
    assert relative_error(core.v.numpy() * signs, vt.T) < 1e-10
    assert relative_error(core.c.numpy() * signs, u.T @ r.numpy()) < 1e-10


def test_factor_gathers_one_triangle_per_rank() -> None:
    a, r = random(20, 4).split(10), random(20).split(10)

    def sent(ranks) -> int:
        core_of(a[ranks.rank], r[ranks.rank], ranks)
        return ranks.bytes_moved

    assert on_ranks(2, sent) == [2 * 5 * 5 * 8] * 2


def test_factor_of_a_float32_block_is_float64() -> None:
    a, r = random(40, 5).float(), random(40, seed=2)
    core = core_of(a, r)
    assert core.sigma.dtype == core.v.dtype == core.c.dtype == torch.float64
    assert relative_error(core.sigma, torch.linalg.svdvals(a.double())) < 1e-14


def test_factor_with_fewer_rows_than_columns() -> None:
    a, r = random(4, 9), random(4, seed=3)
    core = core_of(a, r)
    assert relative_error(core.sigma[:4], torch.linalg.svdvals(a)) < 1e-14
    assert float(core.sigma[4:].abs().max()) < 10 * EPS * float(core.sigma[0])
    z = core.solve(0.1).numpy()
    assert relative_error(z, reference.gauss_newton_step(a.numpy(), r.numpy(), 0.1)) < 1e-12


# ---------------------------------------------------------------------------------------------
# Solutions
# ---------------------------------------------------------------------------------------------

A, R = decaying(50, 8, 5), random(50, seed=4)
CORE = core_of(A, R)
DAMPINGS = (1e-8, 1e-4, 1.0, 1e6)


@pytest.mark.parametrize("damping", DAMPINGS)
def test_solve_minimises_the_damped_model(damping: float) -> None:
    want = reference.gauss_newton_step(A.numpy(), R.numpy(), damping)
    assert relative_error(CORE.solve(damping), want) < 1e-10
    other = random(50, seed=5)
    want = reference.gauss_newton_step(A.numpy(), other.numpy(), damping)
    assert relative_error(CORE.solve(damping, CORE.project(A.T @ other)), want) < 1e-9


def test_solve_without_damping_is_least_squares() -> None:
    want = np.linalg.lstsq(A.numpy(), -R.numpy(), rcond=None)[0]
    assert relative_error(CORE.solve(0.0), want) < 1e-9


def test_solve_leaves_empty_directions_alone() -> None:
    sigma = torch.tensor([2.0, 0.0], dtype=torch.float64)
    core = Core(sigma, torch.eye(2, dtype=torch.float64), torch.tensor([3.0, 5.0], dtype=torch.float64))
    assert core.solve(0.0).tolist() == [-1.5, 0.0]
    assert core.solve(4.0).tolist() == [-0.75, 0.0]
    assert core.predicted_reduction(0.0) == 9.0
    assert core.effective_dimension(0.0) == 1.0
    assert core.project(torch.diag(sigma) @ torch.ones(2, dtype=torch.float64)).tolist() == [1.0, 0.0]


def test_pseudo_solve_drops_what_lies_below_the_cut_off() -> None:
    for cutoff in (1e-7, 3e-3, 0.5):
        want = -np.linalg.pinv(A.numpy(), rcond=cutoff) @ R.numpy()
        assert relative_error(CORE.pseudo_solve(cutoff), want) < 1e-9
    sigma = torch.tensor([1.0, 0.0], dtype=torch.float64)
    core = Core(sigma, torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    assert core.pseudo_solve(0.0).tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("damping", [0.0, *DAMPINGS])
def test_predicted_reduction_is_that_of_the_linear_model(damping: float) -> None:
    model = A @ CORE.solve(damping) + R
    want = float(R @ R - model @ model)
    # the direct difference is only good to the rounding of ‖r‖²
    assert abs(CORE.predicted_reduction(damping) - want) < 1e-13 * float(R @ R) + 1e-9 * want


def test_predicted_reduction_has_its_digits_where_the_difference_has_none() -> None:
    # λ → ∞: p → 2‖Aᵀr‖²/λ
    damping = 1e14
    want = 2 * float((A.T @ R).square().sum()) / damping
    assert CORE.predicted_reduction(damping) == pytest.approx(want, rel=1e-10)


@pytest.mark.parametrize("damping", DAMPINGS)
def test_effective_dimension_is_the_trace_of_the_smoother(damping: float) -> None:
    gram = A.T @ A
    smoother = torch.linalg.solve(gram + damping * torch.eye(8, dtype=torch.float64), gram)
    assert CORE.effective_dimension(damping) == pytest.approx(float(smoother.trace()), rel=1e-6)


@pytest.mark.parametrize("heights", [[50], [20, 0, 30]])
def test_projecting_the_residual_gives_c(heights: list[int]) -> None:
    a, r = A.split(heights), R.split(heights)

    def work(ranks) -> tuple[Tensor, Core, int]:
        core = core_of(a[ranks.rank], r[ranks.rank], ranks)
        before = ranks.bytes_moved
        projected = core.project(StoredProduct(a[ranks.rank], ranks).pull(r[ranks.rank]))
        return projected, core, ranks.bytes_moved - before

    for got, core, sent in on_ranks(len(heights), work):
        # Σ⁻¹ magnifies the rounding of Aᵀr by σ_1/σ_i
        allowed = 20 * EPS * float(R.norm()) * core.sigma[0] / core.sigma
        assert ((got - core.c).abs() < allowed).all()
        assert sent == (8 * 8 if len(heights) > 1 else 0)  # k numbers


# ---------------------------------------------------------------------------------------------
# Together with the sketch
# ---------------------------------------------------------------------------------------------


def draw(jacobian: FactoredJacobian, rank: int, kind: str):
    return draw_test_matrix(kind, jacobian.collocation.network, rank, 0, 0, jacobian.theta)


def step(
    jacobian: FactoredJacobian, r: Tensor, rank: int, damping: float, kind: str = "khatri_rao", ranks=LOCAL
) -> Tensor:
    q = find_range(jacobian, draw(jacobian, rank, kind), ranks)
    return q @ core_of(jacobian.matmul(q), r, ranks).solve(damping)


def prepare(name: str, chunk=None, **split: int) -> tuple[FactoredJacobian, Tensor]:
    collocation = CASES[name]().collocation(chunk, **split)
    theta = parameters(collocation)
    return FactoredJacobian(collocation, theta, collocation.scale), collocation.scale * collocation.residual(
        theta
    )


@pytest.mark.parametrize("kind", ["khatri_rao", "gaussian"])
@pytest.mark.parametrize("name", CASES)
def test_a_sketch_as_wide_as_the_rank_gives_the_exact_step(name: str, kind: str) -> None:
    jacobian, r = prepare(name)
    case, n = CASES[name](), len(r)
    dense = reference.jacobian(jacobian.collocation, case.naive, jacobian.theta).numpy()
    # a plain sketch would lose directions with σ < 10⁻⁸ σ_1, which add σ/λ to the step
    damping = 1e-8 * float(np.linalg.norm(dense, 2) ** 2)
    assert n < jacobian.shape[1], "the rank is n"
    want = reference.gauss_newton_step(dense, r.numpy(), damping)
    assert relative_error(step(jacobian, r, n, damping, kind), want) < 1e-9
    assert relative_error(step(jacobian, r, n + 5, damping, kind), want) < 1e-9
    # half of the rank is not enough for that: the check above can fail
    assert relative_error(step(jacobian, r, 3, damping, kind), want) > 1e-3


@pytest.mark.parametrize("kind", ["khatri_rao", "gaussian"])
@pytest.mark.parametrize("name", CASES)
def test_the_sketched_step_equals_the_naive_one(name: str, kind: str) -> None:
    jacobian, r = prepare(name)
    dense = reference.jacobian(jacobian.collocation, CASES[name]().naive, jacobian.theta).numpy()
    top = float(np.linalg.norm(dense, 2) ** 2)
    for rank, damping in ((1, 1e-3), (4, 1e-3), (8, 1e-4)):
        omega = dense_test_matrix(draw(jacobian, rank, kind), jacobian).numpy()
        want = reference.sketched_step(dense, r.numpy(), omega, damping * top)
        assert relative_error(step(jacobian, r, rank, damping * top, kind), want) < 1e-9


@pytest.mark.parametrize("kind", ["khatri_rao", "gaussian"])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", ["heat", "system"])
def test_ranks_take_the_same_step_as_one_process(name: str, size: int, kind: str) -> None:
    jacobian, r = prepare(name)
    damping = 1e-4 * float(torch.linalg.matrix_norm(jacobian.dense(), 2) ** 2)
    want = step(jacobian, r, 8, damping, kind)

    def work(ranks) -> Tensor:
        mine, residual = prepare(name, chunk=4, rank=ranks.rank, ranks=ranks.size)
        return step(mine, residual, 8, damping, kind, ranks)

    found = on_ranks(size, work)
    assert all(torch.equal(x, found[0]) for x in found)
    assert relative_error(found[0], want) < 1e-9


def test_more_ranks_than_points() -> None:
    """Ranks without points take part in every collective."""
    case = CASES["heat"]
    collocations = [case(4).collocation(rank=r, ranks=8) for r in range(8)]
    assert any(c.row_count == 0 for c in collocations)
    whole = case(4).collocation()
    theta = parameters(whole)
    want = step(FactoredJacobian(whole, theta, whole.scale), whole.scale * whole.residual(theta), 5, 1e-3)

    def work(ranks) -> Tensor:
        c = collocations[ranks.rank]
        return step(FactoredJacobian(c, theta, c.scale), c.scale * c.residual(theta), 5, 1e-3, ranks=ranks)

    for got in on_ranks(8, work):
        assert relative_error(got, want) < 1e-9
