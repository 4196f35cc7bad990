"""Products with A = J Q: stored and recomputed ones agree with each other and with dense matrices."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sngd.basis import ReplicatedBasis, ShardedBasis, make_blocks
from sngd.collectives import LocalRanks
from sngd.core import factor
from sngd.jacobian import FactoredJacobian
from sngd.product import RecomputedProduct, StoredProduct, make_product
from tests.problems import CASES, parameters
from tests.reference import relative_error
from tests.thread_ranks import on_ranks

RANK = 7


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jacobian_of(name: str, keep="nothing", dtype=None, rank: int = 0, ranks: int = 1) -> FactoredJacobian:
    collocation = CASES[name]().collocation(5, rank=rank, ranks=ranks)
    return FactoredJacobian(collocation, parameters(collocation), collocation.scale, dtype, keep)


def basis_of(jacobian: FactoredJacobian) -> Tensor:
    return torch.linalg.qr(random(jacobian.shape[1], RANK))[0]


def gram(triangle: Tensor) -> Tensor:
    return triangle.T @ triangle


@pytest.mark.parametrize("keep", ["factors", "nothing"])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("name", ["heat", "burgers", "system"])
def test_stored_and_recomputed_are_the_dense_products(name: str, size: int, keep, monkeypatch) -> None:
    monkeypatch.setattr("sngd.product._ROWS", 10)
    q, z = basis_of(jacobian_of(name)), random(RANK, seed=2)

    def work(ranks):
        jacobian = jacobian_of(name, keep, None, ranks.rank, ranks.size)
        basis = ReplicatedBasis(q, ranks)
        x, r = random(jacobian.shape[0], seed=3), random(jacobian.shape[0], seed=4)
        results = []
        for stored, kind in ((True, StoredProduct), (False, RecomputedProduct)):
            product = make_product(jacobian, basis, ranks, stored)
            assert isinstance(product, kind)
            assert product.dtype == torch.float64
            before = ranks.bytes_moved
            pulled = product.pull(x)
            assert ranks.bytes_moved - before == (0 if size == 1 else RANK * 8)
            results.append((product.times(z), pulled, product.triangle(r)))
        return jacobian.dense(), x, r, results

    found = on_ranks(size, work)
    a = torch.cat([j for j, *_ in found]) @ q
    x, r = (torch.cat([entry[i] for entry in found]) for i in (1, 2))
    want = gram(torch.cat([a, r.unsqueeze(1)], dim=1))
    for kind in (0, 1):
        assert relative_error(torch.cat([f[3][kind][0] for f in found]), a @ z) < 1e-11
        for _, _, _, results in found:
            _, pulled, triangle = results[kind]
            assert relative_error(pulled, a.T @ x) < 1e-11
            assert triangle.shape == (RANK + 1, RANK + 1)
            assert torch.equal(triangle, triangle.triu())
            assert relative_error(gram(triangle), want) < 1e-11
            assert torch.equal(triangle, found[0][3][kind][2])  # the same on every rank


@pytest.mark.parametrize("stored", [True, False])
def test_the_core_of_a_product_has_the_digits_of_a_qr(stored: bool) -> None:
    """Small singular values are those of A, not of AᵀA."""
    jacobian = jacobian_of("heat", "factors")
    # columns along right singular vectors, of lengths far apart
    vt = torch.linalg.svd(jacobian.dense(), full_matrices=False)[2]
    q = vt[:6].T * torch.logspace(0, -10, 6, dtype=torch.float64)
    product = make_product(jacobian, ReplicatedBasis(q, LocalRanks()), LocalRanks(), stored)
    core = factor(product.triangle(random(jacobian.shape[0])))
    want = np.linalg.svd((jacobian.dense() @ q).numpy(), compute_uv=False)
    assert want[-1] < 1e-9 * want[0]
    np.testing.assert_allclose(core.sigma.numpy(), want, rtol=1e-4)


@pytest.mark.parametrize("stored", [True, False])
def test_in_single_precision_products_are_single_and_triangles_are_not(stored: bool) -> None:
    jacobian = jacobian_of("heat", "factors", torch.float32)
    q = basis_of(jacobian)
    product = make_product(jacobian, ReplicatedBasis(q.float(), LocalRanks()), LocalRanks(), stored)
    x, z = random(jacobian.shape[0], seed=3), random(RANK, seed=2)
    assert product.dtype == torch.float32
    a = jacobian_of("heat").dense() @ q
    assert relative_error(product.times(z), a @ z) < 1e-5
    assert relative_error(product.pull(x), a.T @ x) < 1e-5
    triangle = product.triangle(x)
    assert triangle.dtype == torch.float64
    assert relative_error(gram(triangle), gram(torch.cat([a, x.unsqueeze(1)], dim=1))) < 1e-5


def test_a_basis_that_is_spread_needs_its_product_kept() -> None:
    jacobian, ranks = jacobian_of("heat"), LocalRanks()
    q = basis_of(jacobian)
    basis = ShardedBasis(q, make_blocks(jacobian.panels, 30, 1), ranks)
    product = make_product(jacobian, basis, ranks, stored=False)
    assert isinstance(product, StoredProduct)
    assert relative_error(product.matrix, jacobian.dense() @ q) < 1e-12
