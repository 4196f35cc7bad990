"""Kernel and Gramian over ranks against dense products, and damped solves with them."""

import numpy as np
import pytest
import torch

from sngd import MLP
from sngd.collectives import LocalRanks
from sngd.gram import DampedMatrix, Layout, form_gramian, form_kernel
from sngd.jacobian import FactoredJacobian
from tests import reference
from tests.problems import CASES, Case, heat, parameters
from tests.reference import relative_error
from tests.thread_ranks import on_ranks


def _wide(points: int = 24) -> Case:
    """A network whose rows are so long that products of factors are cheaper."""
    case = heat(points)
    return Case(case.problem, case.naive, MLP((100, 100)))


def _jacobian(case, ranks, chunk=None):
    collocation = case.collocation(chunk, rank=ranks.rank, ranks=ranks.size)
    return FactoredJacobian(collocation, parameters(collocation), collocation.scale)


def _layout(jacobian, ranks):
    return Layout(jacobian.collocation.batches, ranks, jacobian.theta.device)


def _whole(case):
    collocation = case.collocation()
    return reference.jacobian(collocation, case.naive, parameters(collocation))


def _order(case, size):
    """Where the rows of `size` ranks, one after the other, stand in the whole matrix."""
    order, whole = [], case.collocation()
    for rank in range(size):
        part = case.collocation(rank=rank, ranks=size)
        places = torch.empty(part.row_count, dtype=torch.long)
        for number, condition in enumerate(case.problem.conditions):
            mine, all_rows = part.condition_rows[number], whole.condition_rows[number]
            q = (all_rows.stop - all_rows.start) // condition.points
            first = all_rows.start + condition.points * rank // size * q
            places[mine] = torch.arange(first, first + mine.stop - mine.start)
        order.append(places)
    return torch.cat(order)


@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("name", [*CASES, "wide"])
def test_one_rank_forms_the_dense_products(name, chunk):
    case, ranks = _wide() if name == "wide" else CASES[name](), LocalRanks()
    jacobian, want = _jacobian(case, ranks, chunk), _whole(case)
    assert relative_error(form_kernel(jacobian, _layout(jacobian, ranks), ranks), want @ want.T) < 1e-12
    if name != "wide":
        assert relative_error(form_gramian(jacobian, ranks), want.T @ want) < 1e-12


def test_both_ways_to_a_block_are_taken(monkeypatch):
    import sngd.gram

    by_factors, block = [], sngd.gram.kernel_block

    def noted(first, second):
        by_factors.append(len(first.inputs[0]))
        return block(first, second)

    monkeypatch.setattr(sngd.gram, "kernel_block", noted)
    channels = 4  # value, both slopes, one second derivative
    for case, wide in ((_wide(), True), (heat(), False)):
        by_factors.clear()
        jacobian = _jacobian(case, LocalRanks())
        form_kernel(jacobian, _layout(jacobian, LocalRanks()), LocalRanks())
        assert (channels in by_factors) == wide


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", ["heat", "system", "wide"])
def test_ranks_form_the_same_matrices(name, size):
    case = _wide() if name == "wide" else CASES[name]()
    want, order = _whole(case), _order(case, size)

    def work(ranks):
        jacobian = _jacobian(case, ranks)
        layout = _layout(jacobian, ranks)
        residual = torch.arange(jacobian.shape[0], dtype=torch.float64) + 100 * ranks.rank
        kernel = form_kernel(jacobian, layout, ranks)
        gramian = None if name == "wide" else form_gramian(jacobian, ranks)  # 10,501² numbers
        return kernel, gramian, layout.collect(residual), residual, layout.mine

    results = on_ranks(size, work)
    together = torch.cat([residual for _, _, _, residual, _ in results])
    for kernel, gramian, collected, residual, mine in results:
        assert relative_error(kernel, (want @ want.T)[order][:, order]) < 1e-12
        assert torch.equal(kernel, results[0][0])
        if gramian is not None:
            assert relative_error(gramian, want.T @ want) < 1e-12
            assert torch.equal(gramian, results[0][1])
        assert torch.equal(collected, together)
        assert torch.equal(collected[mine], residual)


def test_more_ranks_than_points_of_a_condition():
    case, size = heat(6), 5
    assert min(c.points for c in case.problem.conditions) < size
    want, order = _whole(case), _order(case, size)

    def work(ranks):
        jacobian = _jacobian(case, ranks)
        return form_kernel(jacobian, _layout(jacobian, ranks), ranks)

    for kernel in on_ranks(size, work):
        assert relative_error(kernel, (want @ want.T)[order][:, order]) < 1e-12


def test_large_batches_go_in_blocks(monkeypatch):
    monkeypatch.setattr("sngd.factors._BLOCK", 7)
    monkeypatch.setattr("sngd.gram._PANEL", 4)
    for case in (heat(), _wide(), CASES["system"]()):
        jacobian, want = _jacobian(case, LocalRanks()), _whole(case)
        kernel = form_kernel(jacobian, _layout(jacobian, LocalRanks()), LocalRanks())
        assert relative_error(kernel, want @ want.T) < 1e-12
        if len(want.T) < 1000:
            assert relative_error(form_gramian(jacobian, LocalRanks()), want.T @ want) < 1e-12


# ---------------------------------------------------------------------------------------------
# Damped solves
# ---------------------------------------------------------------------------------------------


def _matrix(values):
    generator = torch.Generator().manual_seed(2)
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    s = (q * torch.tensor(values, dtype=torch.float64)) @ q.T
    return 0.5 * (s + s.T), q


def test_a_damped_solve_is_that_of_the_dense_system():
    s, _ = _matrix([4.0, 1.0, 0.1, 1e-3])
    b = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    damped = DampedMatrix(s)
    for damping in (1e-4, 1.0, 1e-4):
        want = torch.linalg.solve(s + damping * torch.eye(4, dtype=torch.float64), b)
        assert relative_error(damped.solve(damping, b), want) < 1e-10
    assert not damped.indefinite
    assert damped.largest() == pytest.approx(4.0, rel=1e-6)
    assert damped.least_damping == pytest.approx(5.101 * np.finfo(float).eps, rel=1e-6)


def test_an_indefinite_matrix_is_solved_by_its_eigenvalues():
    s, q = _matrix([1.0, 0.5, 0.0, -1e-3])
    b = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    damped, damping = DampedMatrix(s), 1e-5
    weights = 1 / (torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64) + damping)
    assert relative_error(damped.solve(damping, b), q @ (weights * (q.T @ b))) < 1e-9
    assert damped.indefinite


def test_no_damping_gives_the_pseudo_inverse():
    s, q = _matrix([2.0, 0.5, 1e-18, 0.0])
    b = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    weights = torch.tensor([0.5, 2.0, 0.0, 0.0], dtype=torch.float64)
    assert relative_error(DampedMatrix(s).solve(0.0, b), q @ (weights * (q.T @ b))) < 1e-9
