"""QR factorisations: of rows in tiles, handed in piece by piece, and spread over ranks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sngd.core import Triangle, orthonormalize, tsqr
from tests.dense import decaying, orthonormality, random
from tests.reference import relative_error
from tests.thread_ranks import on_ranks

EPS = float(np.finfo(np.float64).eps)
DTYPES = (torch.float32, torch.float64)


# ---------------------------------------------------------------------------------------------
# TSQR
# ---------------------------------------------------------------------------------------------


@given(
    st.integers(1, 6),
    st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(lambda heights: sum(heights) > 0),
    st.integers(0, 1000),
)
def test_tsqr_of_uneven_blocks(columns: int, heights: list[int], seed: int) -> None:
    """Blocks may have fewer rows than columns, or none; TᵀT = AᵀA without ever forming it."""
    a = random(sum(heights), columns, seed=seed)
    blocks = a.split(heights)
    found = on_ranks(len(heights), lambda ranks: tsqr(blocks[ranks.rank], ranks))
    for triangle in found:
        assert triangle.shape == (columns, columns)
        assert torch.equal(triangle, triangle.triu())
        assert torch.equal(triangle, found[0])
    assert relative_error(found[0].T @ found[0], a.T @ a) < 1e-13


def test_tsqr_keeps_small_singular_values() -> None:
    """Ten decades down, where AᵀA knows nothing any more."""
    a = decaying(60, 8, 10)
    want = torch.linalg.svdvals(a)
    for heights in ([60], [20, 20, 20], [1, 0, 55, 4]):
        blocks = a.split(heights)
        triangle = on_ranks(len(heights), lambda ranks, b=blocks: tsqr(b[ranks.rank], ranks))[0]
        got = torch.linalg.svdvals(triangle)
        assert float((got - want).abs().max()) < 20 * EPS
        assert float((got / want - 1).abs().max()) < 1e-4


def test_tsqr_gathers_one_triangle_per_rank() -> None:
    blocks = random(30, 5).split(10)

    def sent(ranks) -> int:
        tsqr(blocks[ranks.rank], ranks)
        return ranks.bytes_moved

    assert on_ranks(3, sent) == [3 * 5 * 5 * 8] * 3


@pytest.fixture
def small_tiles(monkeypatch) -> None:
    """Tiles of a few rows, so that small matrices have many."""
    monkeypatch.setattr("sngd.core._tile_rows", lambda x: max(5, 2 * x.shape[1]))
    monkeypatch.setattr("sngd.core._GROUP_NUMBERS", 60)


def check_triangle(triangle: Tensor, a: Tensor) -> None:
    """Against the R factor of numpy, whose rows may have other signs."""
    k = a.shape[1]
    assert triangle.shape == (k, k)
    assert torch.equal(triangle, triangle.triu())
    want = np.zeros((k, k))
    r = np.linalg.qr(a.numpy(), mode="r") if len(a) else np.zeros((0, k))
    want[: len(r)] = r
    got = triangle.numpy()
    signs = np.sign(np.diag(got)) * np.sign(np.diag(want))
    assert relative_error(np.where(signs == 0, 1, signs)[:, None] * got, want) < 1e-12


@given(
    columns=st.integers(1, 6),
    heights=st.lists(st.integers(0, 60), max_size=5),
    seed=st.integers(0, 1000),
)
@pytest.mark.usefixtures("small_tiles")
def test_a_streamed_triangle_is_that_of_the_whole_matrix(columns: int, heights: list[int], seed: int) -> None:
    """For pieces of any height, also empty ones, ones with fewer rows than columns, or none at all."""
    a = random(sum(heights), columns, seed=seed)
    triangle = Triangle(columns, a)
    for piece in a.split(heights) if heights else ():
        triangle.add(piece)
    check_triangle(triangle.value, a)


@pytest.mark.parametrize("heights", [[5000], [2047, 1, 2952], [3, 0, 4997], [2500] * 2])
def test_a_streamed_triangle_with_tiles_of_the_usual_size(heights: list[int]) -> None:
    a = decaying(5000, 12, 3)
    triangle = Triangle(12, a)
    for piece in a.split(heights):
        triangle.add(piece)
    check_triangle(triangle.value, a)


def test_a_triangle_of_float32_rows_is_as_exact_as_asked() -> None:
    a = random(300, 5).float()
    triangle = Triangle(5, torch.zeros(0, dtype=torch.float64))
    for piece in a.split(70):
        triangle.add(piece)
    assert triangle.value.dtype == torch.float64
    check_triangle(triangle.value, a.double())


def test_a_triangle_leaves_the_rows_alone() -> None:
    a = random(50, 4)
    before = a.clone()
    triangle = Triangle(4, a)
    triangle.add(a)
    triangle.add(a[:3])
    assert torch.equal(a, before)


# ---------------------------------------------------------------------------------------------
# An orthonormal basis
# ---------------------------------------------------------------------------------------------


def deficient(kind: str, dtype: torch.dtype) -> Tensor:
    """Y (80, 12) of numerical rank below 12."""
    y = random(80, 12)
    if kind == "columns over 40 decades":
        y = y * torch.logspace(20, -20, 12, dtype=torch.float64)
    elif kind == "singular values over 40 decades":
        u, v = (torch.linalg.qr(random(n, 12, seed=n))[0] for n in (80, 12))
        y = u * torch.logspace(0, -40, 12, dtype=torch.float64) @ v.T
    elif kind == "zero columns":
        y[:, [0, 3, 4, 11]] = 0
    elif kind == "equal columns":
        y[:, 4:] = y[:, 3:4]
    elif kind == "rank one":
        y = y[:, :1] * random(1, 12, seed=1)
    elif kind == "nothing":
        y = y * 0
    elif kind == "a sketch of G":
        j = random(30, 80) * torch.logspace(0, -9, 80, dtype=torch.float64)
        y = j.T @ (j @ random(80, 12, seed=3))
    elif kind == "denormal":
        y = y * torch.finfo(dtype).tiny
    return y.to(dtype)


KINDS = (
    "columns over 40 decades",
    "singular values over 40 decades",
    "zero columns",
    "equal columns",
    "rank one",
    "nothing",
    "a sketch of G",
    "denormal",
)


HEIGHTS = {
    "alone": [80],
    "two": [40, 40],
    "three": [27, 27, 26],
    "few rows": [5, 70, 5],  # fewer rows than columns
    "no rows": [60, 0, 9, 11],
}


def spread(y: Tensor, heights: list[int]) -> Tensor:
    """Q, from shares on ranks."""
    if len(heights) == 1:
        return orthonormalize(y.clone())
    shares = y.split(heights)
    return torch.cat(on_ranks(len(heights), lambda ranks: orthonormalize(shares[ranks.rank].clone(), ranks)))


def check_basis(q: Tensor, y: Tensor) -> None:
    """Every column of Y lies in the span, measured against its own length, and none of Q is longer than 1."""
    assert q.dtype == y.dtype
    assert q.shape == y.shape
    eps = torch.finfo(q.dtype).eps
    exact, columns = q.double(), y.double()
    assert float(torch.linalg.matrix_norm(exact, 2)) < 1 + 20 * eps
    lengths = columns.norm(dim=0)
    missed = (columns - exact @ (exact.T @ columns)).norm(dim=0)
    assert (missed <= 40 * eps * lengths).all(), missed / lengths


@pytest.mark.parametrize("tiles", ["small", "usual"])
@pytest.mark.parametrize("heights", HEIGHTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_orthonormalize_whatever_the_rank(kind: str, dtype, heights: str, tiles: str, request) -> None:
    if tiles == "small":
        request.getfixturevalue("small_tiles")
    y = deficient(kind, dtype)
    q = spread(y, HEIGHTS[heights])
    check_basis(q, y)
    if heights in ("alone", "two", "three"):  # where no share has fewer rows than columns
        assert orthonormality(q) < 40 * torch.finfo(dtype).eps


@given(
    columns=st.integers(1, 6),
    heights=st.lists(st.integers(0, 50), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
@pytest.mark.usefixtures("small_tiles")
def test_orthonormalize_any_shares(columns: int, heights: list[int], seed: int) -> None:
    """Of full rank: an orthonormal basis of the same span, however the rows are shared out."""
    heights = [*heights, columns]
    y = random(sum(heights), columns, seed=seed)
    q = spread(y, heights)
    check_basis(q, y)
    assert orthonormality(q) < 20 * EPS


def test_orthonormalize_rows_by_the_thousand() -> None:
    for dtype in DTYPES:
        y = decaying(9000, 20, 12).to(dtype)
        q = spread(y, [9000])
        check_basis(q, y)
        assert orthonormality(q) < 40 * torch.finfo(dtype).eps
        check_basis(spread(y, [4500, 4500]), y)


def test_orthonormalize_works_in_the_memory_of_its_argument() -> None:
    y = random(40, 4)
    q = orthonormalize(y)
    assert q.data_ptr() == y.data_ptr()


def test_orthonormalize_gathers_one_triangle_per_rank() -> None:
    shares = random(30, 5).split(10)

    def sent(ranks) -> int:
        orthonormalize(shares[ranks.rank].clone(), ranks)
        return ranks.bytes_moved

    assert on_ranks(3, sent) == [3 * 5 * 5 * 8] * 3


def test_orthonormalize_square_and_single() -> None:
    for shape in ((6, 6), (5, 1), (1, 1)):
        assert orthonormality(orthonormalize(random(*shape))) < 1e-14


def test_orthonormalize_fewer_rows_than_columns() -> None:
    """The leading columns are a basis of everything, the others zero."""
    q = orthonormalize(random(3, 5))
    assert orthonormality(q[:, :3]) < 1e-14
    assert not q[:, 3:].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("row", [0, 33, 79])
@pytest.mark.parametrize("heights", HEIGHTS.values(), ids=HEIGHTS)
def test_orthonormalize_refuses_what_is_not_finite(heights: list[int], row: int, bad: float) -> None:
    """On every rank, whichever holds it."""
    y = random(80, 12)
    y[row, 5] = bad
    shares = y.split(heights)

    def work(ranks) -> str:
        with pytest.raises(ValueError, match="is not finite: the residual's derivatives overflow") as caught:
            orthonormalize(shares[ranks.rank].clone(), ranks if len(heights) > 1 else None)
        return str(caught.value)

    assert len(on_ranks(len(heights), work)) == len(heights)
