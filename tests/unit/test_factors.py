"""Panels, tiles and products of the factored rows, against dense rows."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sngd.factors import Factors, Panel, kernel_block, make_panels, tile_numbers
from sngd.jacobian import FactoredJacobian
from sngd.networks import MLP
from sngd.sketch import draw_test_matrix
from tests import reference
from tests.problems import CASES, parameters
from tests.reference import relative_error

# one residual component, and two with third derivatives; several widths
NAMES = ("heat", "burgers", "diffusion", "system")
NUMBERS = (1, 40, 700, 10**6)


def prepare(name: str, chunk: int | None = None) -> tuple[FactoredJacobian, Tensor]:
    """The Jacobian of a problem, and its dense rows by nested autograd."""
    case = CASES[name]()
    collocation = case.collocation(chunk)
    theta = parameters(collocation)
    jacobian = FactoredJacobian(collocation, theta, collocation.scale)
    return jacobian, reference.jacobian(collocation, case.naive, theta)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------------------------------------
# Panels
# ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 5000))
def test_panels_cover_all_columns_once_and_in_order(hidden: list[int], numbers: int) -> None:
    network = MLP(tuple(hidden)).build(CASES["heat"]().problem.domain, 2, 0)
    panels = make_panels(network, numbers)
    assert panels[0].columns.start == 0
    assert panels[-1].columns.stop == network.parameters
    for a, b in pairwise(panels):
        assert a.columns.stop == b.columns.start
    for layer, (out, width) in enumerate(network.shapes):
        for bias in (False, True):
            mine = [p for p in panels if p.layer == layer and p.bias == bias]
            assert [p.outputs.start for p in mine] == [0, *(p.outputs.stop for p in mine[:-1])]
            assert mine[-1].outputs.stop == out
            for panel in mine:
                outputs = panel.outputs.stop - panel.outputs.start
                assert panel.width == outputs * (1 if bias else width)
                # a panel of several outputs leaves room for 48 points, or has no more than three
                assert bias or outputs <= 3 or 48 * panel.width <= numbers


def test_a_tile_fits_into_half_of_a_cache() -> None:
    assert tile_numbers(torch.float64, torch.device("cpu")) == (1 << 17) * torch.get_num_threads()
    assert tile_numbers(torch.float32, torch.device("cpu")) == (1 << 18) * torch.get_num_threads()
    assert tile_numbers(torch.float32, torch.device("cuda")) == 1 << 26


# ---------------------------------------------------------------------------------------------
# Tiles
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("name", NAMES)
def test_tiles_are_the_dense_rows(name: str, numbers: int) -> None:
    """Every entry of J stands in one tile; tiles of one point may be larger than asked."""
    jacobian, want = prepare(name, chunk=9)
    seen = torch.zeros_like(want)
    got = torch.full_like(want, torch.nan)
    panels = make_panels(jacobian.collocation.network, numbers)
    widest = max(panel.width for panel in panels)
    buffer = want.new_empty(max(numbers, 2 * widest))
    for chunk in jacobian.factors():
        q = chunk.components
        for panel in panels:
            for points, rows in chunk.spans(panel, numbers):
                tile = chunk.tile(panel, points, buffer)
                assert tile.shape == (rows.stop - rows.start, panel.width)
                assert panel.bias or tile.numel() <= max(numbers, q * panel.width)
                where = slice(chunk.rows.start + rows.start, chunk.rows.start + rows.stop)
                got[where, panel.columns] = tile
                seen[where, panel.columns] += 1
    assert (seen == 1).all()
    assert relative_error(got, want) < 1e-12


def test_tiles_of_a_panel_have_nearly_equal_heights() -> None:
    jacobian, _ = prepare("heat")
    (chunk, *_) = jacobian.factors()
    panel = Panel(slice(0, 10), 0, slice(0, 5))
    heights = [p.stop - p.start for p, _ in chunk.spans(panel, 70)]
    assert sum(heights) == 24
    assert max(heights) <= 7
    assert max(heights) - min(heights) <= 1


@pytest.mark.parametrize("keep", ["factors", "nothing"])
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("name", ["heat", "system"])
def test_products_do_not_depend_on_tiles(name: str, numbers: int, keep, monkeypatch) -> None:
    """Fewer and more columns than rows of a chunk walk through the tiles in different orders."""
    monkeypatch.setattr("sngd.jacobian.tile_numbers", lambda *_: numbers)
    for chunk in (3, None):
        whole, want = prepare(name, chunk)
        jacobian = FactoredJacobian(whole.collocation, whole.theta, whole.scale, keep=keep)
        assert len(jacobian.panels) > 6 or numbers > 1
        v, w = random(want.shape[1], 5), random(want.shape[0], 5)
        assert relative_error(jacobian.matmul(v), want @ v) < 1e-12
        assert relative_error(jacobian.rmatmul(w), want.T @ w) < 1e-12


@pytest.mark.parametrize("numbers", [1, 200])
@pytest.mark.parametrize("name", ["heat", "system"])
def test_products_with_some_panels(name: str, numbers: int, monkeypatch) -> None:
    """Also with the biases alone, and with a single panel."""
    monkeypatch.setattr("sngd.jacobian.tile_numbers", lambda *_: numbers)
    jacobian, want = prepare(name, chunk=7)
    panels = jacobian.panels
    biases = [panel for panel in panels if panel.bias]
    for some in (panels[:2], panels[1:-1], panels[-1:], biases, panels[3:4]):
        columns = slice(some[0].columns.start, some[-1].columns.stop)
        v, w = random(columns.stop - columns.start, 4), random(want.shape[0], 4)
        assert relative_error(jacobian.matmul(v, some), want[:, columns] @ v) < 1e-12
        assert relative_error(jacobian.rmatmul(w, some), want[:, columns].T @ w) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_factors_in_single_precision(name: str) -> None:
    jacobian, want = prepare(name)
    rows = torch.cat(
        [chunk.to(torch.float32).dense(jacobian.collocation.network) for chunk in jacobian.factors()]
    )
    assert rows.dtype == torch.float32
    assert relative_error(rows, want) < 1e-6


# ---------------------------------------------------------------------------------------------
# Products from the factors
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("name", CASES)
def test_a_khatri_rao_product_is_that_of_the_dense_matrices(name: str, numbers: int) -> None:
    jacobian, want = prepare(name, chunk=11)
    jacobian.tile = numbers
    test = draw_test_matrix("khatri_rao", jacobian.collocation.network, 6, 1, 2, jacobian.theta)
    rows = [test.product(jacobian, chunk) for chunk in jacobian.factors()]
    assert relative_error(torch.cat(rows), want @ test.dense(jacobian.collocation.network)) < 1e-12


@pytest.mark.parametrize("name", ["heat", "system"])
def test_a_gaussian_product_is_that_of_the_dense_matrices(name: str) -> None:
    jacobian, want = prepare(name, chunk=11)
    test = draw_test_matrix("gaussian", jacobian.collocation.network, 6, 1, 2, jacobian.theta)
    rows = [test.product(jacobian, chunk) for chunk in jacobian.factors()]
    assert relative_error(torch.cat(rows), want @ test.matrix) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_a_block_of_the_kernel_is_that_of_the_dense_rows(name: str) -> None:
    jacobian, want = prepare(name, chunk=8)
    chunks: list[Factors] = list(jacobian.factors())
    for a in chunks:
        for b in chunks:
            block = kernel_block(a, b)
            assert relative_error(block, want[a.rows] @ want[b.rows].T) < 1e-11
