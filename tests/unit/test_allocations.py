"""The sketched path never holds a matrix of size P × P, N × N or N × P when the chunk is below N."""

import pytest
import torch

from sngd.basis import make_blocks, replicate
from sngd.calculus import d
from sngd.collectives import LocalRanks
from sngd.condition import Condition
from sngd.core import factor
from sngd.domain import Box
from sngd.gram import Layout, form_kernel
from sngd.jacobian import FactoredJacobian
from sngd.networks import MLP
from sngd.problem import Problem
from sngd.product import make_product
from sngd.residual import Collocation
from sngd.sketch import Whitened, draw_test_matrix
from tests.allocations import Allocations, largest_allocation

POINTS, RANK, CHUNK = (500, 60, 40), 8, 16
DOUBLE, TILE = 8, 1 << 14


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch) -> None:
    """A tile would be larger than the matrices of this problem."""
    monkeypatch.setattr("sngd.factors._TILE_BYTES", TILE)


def collocation(chunk) -> Collocation:
    domain = Box(x=(-1, 1), t=(0, 1))
    X, T = domain.axes
    conditions = [
        Condition("equation", lambda u, p: d(u, T) + u * d(u, X) - d(u, X, X), domain.interior, POINTS[0]),
        Condition("initial", lambda u, p: u + p[X], domain.face(t=0), POINTS[1]),
        Condition("walls", lambda u, p: u, domain.boundary("x"), POINTS[2]),
    ]
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(conditions)]
    problem = Problem(domain, conditions)
    network = MLP((16, 16)).build(domain, 1, 0)
    return Collocation(problem, network, points, torch.ones(3, dtype=torch.float64), chunk)


def sketched_path(chunk, keep, kind="khatri_rao", stored: bool = True) -> tuple[Allocations, int, int]:
    """One sketch and factorisation from scratch, watched; and N and P."""
    col = collocation(chunk)
    theta, ranks = col.network.initial, LocalRanks()
    with largest_allocation() as seen:
        r = col.scale * col.residual(theta)
        jacobian = FactoredJacobian(col, theta, col.scale, keep=keep)
        test = draw_test_matrix(kind, col.network, RANK - 1, 0, 0, theta)
        whitened = Whitened(jacobian, r.unsqueeze(1), test, ranks, stored)
        blocks = make_blocks(jacobian.panels, None, 1)
        basis = replicate(jacobian, whitened, theta.new_empty(len(theta), 0), blocks, ranks)
        product = make_product(jacobian, basis, ranks, stored)
        core = factor(product.triangle(r))
        z = core.solve(1e-3)
        step = basis.displacement(z)
        after = col.scale * col.residual(theta + step)
        core.project(product.pull(after - r - product.times(z)))
    assert torch.isfinite(step).all()
    return seen, *jacobian.shape


@pytest.mark.parametrize("kind", ["khatri_rao", "gaussian"])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("keep", ["factors", "nothing"])
def test_nothing_large_is_allocated(keep, stored: bool, kind) -> None:
    seen, n, p = sketched_path(CHUNK, keep, kind, stored)
    assert (n, p) == (600, 337)
    allowed = (max(n if stored else p, p) + 1) * (RANK + 1)
    smallest_forbidden = min(n * p, p * p, n * n)
    assert smallest_forbidden > 15 * allowed
    assert 0 < seen.elements <= allowed, seen


@pytest.mark.parametrize("stored", [True, False])
def test_what_is_alive_at_the_same_time_is_small_too(stored: bool) -> None:
    """Many small pieces could add up to J: with keep="nothing" they do not."""
    seen, n, p = sketched_path(CHUNK, "nothing", stored=stored)
    # a tile of rows, a chunk's factors with temporaries, and a few matrices of k columns
    factors = 4 * CHUNK * (2 + 16 + 16 + 16 + 16 + 1)
    rows = n if stored else 2 * CHUNK
    allowed = TILE // DOUBLE + 4 * factors + 4 * (rows + p) * (RANK + 1) + 10 * (n + p)
    assert seen.peak_bytes < allowed * DOUBLE < n * p * DOUBLE / 2, seen


def test_kept_factors_stay_below_the_matrix() -> None:
    seen, n, p = sketched_path(CHUNK, "factors")
    held = 4 * POINTS[0] + POINTS[1] + POINTS[2]
    factors = held * (2 + 16 + 16 + 16 + 16 + 1)
    assert factors * DOUBLE < seen.peak_bytes < (factors + 0.5 * n * p) * DOUBLE, seen


def test_the_count_sees_rows_that_are_handed_out_in_pieces() -> None:
    """It can fail: rows in blocks are small storages, but alive together they are the matrix."""
    col = collocation(CHUNK)
    jacobian = FactoredJacobian(col, col.network.initial, col.scale, keep="nothing")
    n, p = jacobian.shape
    with largest_allocation() as seen:
        kept = [rows for _, rows in jacobian.row_blocks(CHUNK * p)]
    assert sum(len(rows) for rows in kept) == n
    assert seen.elements < n * p / 15
    assert seen.peak_bytes >= n * p * DOUBLE, seen


def test_the_count_sees_dense_matrices() -> None:
    col = collocation(250)
    jacobian = FactoredJacobian(col, col.network.initial, col.scale, keep="nothing")
    n, p = jacobian.shape
    with largest_allocation() as seen:
        jacobian.dense()
    assert seen.elements == n * p
    with largest_allocation() as seen:
        form_kernel(jacobian, Layout(col.batches, LocalRanks(), jacobian.theta.device), LocalRanks())
    assert seen.elements == n * n


# ---------------------------------------------------------------------------------------------
# The counter itself
# ---------------------------------------------------------------------------------------------


def test_counter_ignores_views_and_what_was_there_before() -> None:
    x = torch.zeros(1000)
    with largest_allocation() as seen:
        x.add_(1.0)
        y = x.view(10, 100).T[3:5]
        torch.mul(x, 2.0, out=x)
    assert seen.count == 0, seen
    assert y.shape == (2, 10)
    assert float(y.sum()) == 40.0


def test_counter_sums_what_is_alive() -> None:
    with largest_allocation() as seen:
        for _ in range(10):
            x = torch.zeros(1000, dtype=torch.float64)
            del x
    assert (seen.count, seen.elements, seen.peak_bytes) == (10, 1000, 8000)
    with largest_allocation() as seen:
        kept = [torch.zeros(1000, dtype=torch.float32) for _ in range(10)]
    assert len(kept) == 10
    assert (seen.count, seen.elements, seen.peak_bytes) == (10, 1000, 40000)
    assert "zeros" in seen.operator


def test_counter_sees_the_reverse_pass_and_the_base_of_a_view() -> None:
    x = torch.ones(50, requires_grad=True)
    with largest_allocation() as seen:
        (x.unsqueeze(0) * torch.ones(70, 1))[:1].sum().backward()
    assert seen.elements == 50 * 70
    y = (x * x).sum()
    with largest_allocation() as seen:
        y.backward()
    assert seen.elements == 50
