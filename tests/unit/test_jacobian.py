from functools import lru_cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sngd.jacobian import FactoredJacobian
from tests import reference
from tests.problems import CASES, parameters
from tests.reference import relative_error

# Laplacian; nonlinear; 2 fields with 2-component residuals and third derivatives; several channel sets in one
NAMES = tuple(CASES)
KEEPS = ("factors", "nothing")
CHUNKS = (None, 1, 5, 1000)


def make(name: str, chunk=None, keep="factors", dtype=None, **split: int) -> FactoredJacobian:
    collocation = CASES[name]().collocation(chunk, **split)
    theta = parameters(collocation)
    return FactoredJacobian(collocation, theta, collocation.scale, dtype=dtype, keep=keep)


@lru_cache
def dense(name: str) -> Tensor:
    case = CASES[name]()
    collocation = case.collocation()
    return reference.jacobian(collocation, case.naive, parameters(collocation))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", NAMES)
def test_dense_equals_one_reverse_pass_per_row(name: str, chunk, keep) -> None:
    j = make(name, chunk, keep)
    assert j.shape == dense(name).shape
    assert relative_error(j.dense(), dense(name)) < 1e-12
    assert relative_error(j.dense(), dense(name)) < 1e-12  # again, now from what was kept


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("chunk", [None, 7])
@pytest.mark.parametrize("name", NAMES)
def test_products_equal_those_of_the_dense_matrix(name: str, chunk, keep) -> None:
    j, want = make(name, chunk, keep), dense(name)
    n, p = want.shape
    for tail in ((), (1,), (7,), ()):
        v, w = random(p, *tail), random(n, *tail)
        assert relative_error(j.matmul(v), want @ v) < 1e-12
        assert relative_error(j.rmatmul(w), want.T @ w) < 1e-12
    v = random(p, 5)
    assert relative_error(j.normal_matmul(v), want.T @ (want @ v)) < 1e-12


def test_products_do_not_change_their_argument() -> None:
    j = make("burgers", chunk=5)
    v, w = random(j.shape[1], 3), random(j.shape[0], 3)
    before = v.clone(), w.clone()
    j.matmul(v), j.rmatmul(w), j.normal_matmul(v), j.matmul(v[:, 0]), j.rmatmul(w[:, 0])
    assert torch.equal(v, before[0])
    assert torch.equal(w, before[1])


@given(
    st.sampled_from(NAMES),
    st.sampled_from(KEEPS),
    st.sampled_from(CHUNKS),
    st.integers(0, 5),
    st.integers(0, 10**6),
)
def test_adjoint(name: str, keep, chunk, columns: int, seed: int) -> None:
    """⟨J v, w⟩ = ⟨v, Jᵀ w⟩, for vectors (no columns) and matrices."""
    j = make(name, chunk, keep)
    n, p = j.shape
    tail = (columns,) if columns else ()
    v, w = random(p, *tail, seed=seed), random(n, *tail, seed=seed + 1)
    jv, jw = j.matmul(v), j.rmatmul(w)
    size = float(jv.norm() * w.norm())
    assert abs(float((jv * w).sum() - (v * jw).sum())) < 1e-13 * size


@pytest.mark.parametrize("ranks", [2, 3, 7])
@pytest.mark.parametrize("name", NAMES)
def test_shards_add_up_to_the_whole(name: str, ranks: int) -> None:
    want = dense(name)
    v = random(want.shape[1], 6)
    shards = [make(name, chunk=4, rank=r, ranks=ranks) for r in range(ranks)]
    assert sum(s.shape[0] for s in shards) == want.shape[0]
    assert relative_error(sum(s.normal_matmul(v) for s in shards), want.T @ (want @ v)) < 1e-12
    gram = sum(s.dense().T @ s.dense() for s in shards)
    assert relative_error(gram, want.T @ want) < 1e-12
    whole = make(name)
    for number, rows in enumerate(whole.collocation.condition_rows):
        parts = [s.matmul(v)[s.collocation.condition_rows[number]] for s in shards]
        assert relative_error(torch.cat(parts), (want @ v)[rows]) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_first_order_change_of_the_residual(name: str) -> None:
    """r(θ + εv) − r(θ − εv) = 2ε J v + O(ε³): the Jacobian is that of the residual of the package."""
    j = make(name)
    col, theta, s = j.collocation, j.theta, j.scale
    v, step = random(j.shape[1]), 1e-5
    change = s * (col.residual(theta + step * v) - col.residual(theta - step * v)) / (2 * step)
    assert relative_error(j.matmul(v), change) < 1e-7


def test_a_rank_without_any_points() -> None:
    collocation = CASES["heat"](4).collocation(rank=0, ranks=8)
    theta = parameters(collocation)
    j = FactoredJacobian(collocation, theta, collocation.scale)
    p = len(theta)
    assert j.shape == (0, p)
    assert j.dense().shape == (0, p)
    for tail in ((), (3,)):
        assert j.matmul(random(p, *tail)).shape == (0, *tail)
        assert torch.equal(j.rmatmul(random(0, *tail)), torch.zeros(p, *tail, dtype=torch.float64))
    assert not j.normal_matmul(random(p, 3)).any()


@pytest.mark.parametrize("numbers", [1, 700, 10**6])
@pytest.mark.parametrize("name", ["heat", "system"])
def test_blocks_of_rows_are_the_rows_in_order(name: str, numbers: int) -> None:
    j, want = make(name, chunk=6), dense(name)
    seen, blocks = [], []
    for rows, block in j.row_blocks(numbers):
        assert block.shape == (rows.stop - rows.start, j.shape[1])
        components = 2 if name == "system" else 1
        assert block.numel() <= max(numbers, components * j.shape[1])  # or of one point
        seen.append(rows)
        blocks.append(block)
    assert [rows.start for rows in seen] == [0, *(rows.stop for rows in seen[:-1])]
    assert relative_error(torch.cat(blocks), want) < 1e-12


def test_a_pass_that_stops_early_leaves_the_next_one_whole() -> None:
    for keep in KEEPS:
        j = make("burgers", chunk=4, keep=keep)
        next(iter(j.factors()))
        next(iter(j.row_blocks(10)))
        assert relative_error(j.dense(), dense("burgers")) < 1e-12


def test_kept_factors_are_made_once_and_others_in_every_pass(monkeypatch) -> None:
    for keep, passes in (("factors", 1), ("nothing", 3)):
        j = make("heat", chunk=6, keep=keep)
        made, original = [], j._make_factors
        monkeypatch.setattr(j, "_make_factors", lambda *a, o=original, m=made: m.append(1) or o(*a))
        chunks = [len(list(j.factors())) for _ in range(3)]
        assert len(made) == passes * chunks[0]
        assert chunks[0] > 3


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("name", NAMES)
def test_rows_in_float32(name: str, keep) -> None:
    j, want = make(name, 5, keep, dtype=torch.float32), dense(name)
    v, w = random(want.shape[1], 4), random(want.shape[0], 4)
    assert j.dense().dtype == torch.float32
    assert relative_error(j.dense(), want) < 1e-6
    for got, exact in (
        (j.matmul(v.float()), want @ v),
        (j.rmatmul(w.float()), want.T @ w),
        (j.normal_matmul(v.float()), want.T @ (want @ v)),
    ):
        assert got.dtype == torch.float32
        assert relative_error(got, exact) < 1e-5
    # one vector is multiplied with factors of the same precision
    assert relative_error(j.matmul(v[:, 0]), want @ v[:, 0]) < 1e-5
    assert relative_error(j.rmatmul(w[:, 0]), want.T @ w[:, 0]) < 1e-5


def test_scale_multiplies_the_rows() -> None:
    j = make("heat")
    other = FactoredJacobian(j.collocation, j.theta, torch.arange(j.shape[0]) * j.scale)
    want = torch.arange(j.shape[0]).unsqueeze(1) * dense("heat")
    assert relative_error(other.dense(), want) < 1e-12
