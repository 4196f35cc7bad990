"""Random test matrices: their distribution, and that every rank draws the same."""

from itertools import pairwise
from math import sqrt

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sngd.networks import layout
from sngd.sketch import draw_test_matrix

DTYPES = (torch.float32, torch.float64)


class Sizes:
    """Of a network's layers and parameters, as far as a test matrix asks."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        self.shapes = [(o, i) for i, o in pairwise(widths)]
        self.weight_slices, self.bias_slices = layout(self.shapes)
        self.parameters = sum(o * i + o for o, i in self.shapes)


def gaussian(parameters: int, rank: int, seed: int = 0, step: int = 0, dtype=torch.float64) -> Tensor:
    sizes = Sizes((parameters - 1, 1))  # one layer
    test = draw_test_matrix("gaussian", sizes, rank, seed, step, torch.empty(0, dtype=dtype))
    assert test.rank == rank
    return test.matrix


def khatri_rao(widths, rank: int, seed: int = 0, step: int = 0, dtype=torch.float64) -> Tensor:
    sizes = Sizes(tuple(widths))
    test = draw_test_matrix("khatri_rao", sizes, rank, seed, step, torch.empty(0, dtype=dtype))
    assert test.rank == rank
    return test.dense(sizes)


WIDTHS = st.lists(st.integers(1, 6), min_size=2, max_size=4)


@given(WIDTHS, st.integers(1, 20), st.integers(0, 20), st.integers(0, 9), st.sampled_from(DTYPES))
def test_growing_the_rank_keeps_the_leading_columns(widths, k: int, more: int, step: int, dtype) -> None:
    p = Sizes(tuple(widths)).parameters
    for draw, size in ((gaussian, p), (khatri_rao, widths)):
        small, large = draw(size, k, 3, step, dtype), draw(size, k + more, 3, step, dtype)
        assert small.shape == (p, k)
        assert small.dtype == dtype
        assert torch.equal(small, large[:, :k])


@given(st.tuples(st.integers(0, 50), st.integers(0, 50)), st.tuples(st.integers(0, 50), st.integers(0, 50)))
def test_test_matrix_is_a_function_of_seed_and_step(one, other) -> None:
    for draw, size in ((gaussian, 30), (khatri_rao, (4, 5, 2))):
        a = draw(size, 4, *one)
        torch.manual_seed(1)
        assert torch.equal(a, draw(size, 4, *one))
        assert (one == other) == torch.equal(a, draw(size, 4, *other))


def check_gaussian(x: Tensor) -> None:
    n = x.numel()
    assert abs(float(x.mean())) < 5 / sqrt(n)
    assert abs(float(x.var()) - 1) < 5 * sqrt(2 / n)
    assert abs(float(x.pow(4).mean()) - 3) < 5 * sqrt(96 / n)
    gram = x.T @ x / len(x)  # columns are independent
    off = gram - torch.diag(gram.diagonal())
    assert float(off.abs().max()) < 5.5 / sqrt(len(x))
    neighbours = (x[1:] * x[:-1]).mean()
    assert abs(float(neighbours)) < 5 / sqrt(n)


def test_test_matrix_is_gaussian() -> None:
    check_gaussian(gaussian(2000, 50))


def test_a_khatri_rao_matrix_has_outer_products_of_gaussians_as_columns() -> None:
    sizes = Sizes((1999, 2000, 3))
    test = draw_test_matrix("khatri_rao", sizes, 50, 0, 0, torch.empty(0, dtype=torch.float64))
    everything = torch.cat([*test.outer, *test.inner, test.bias])
    assert len(everything) == 2000 + 3 + 1999 + 2000 + 2
    check_gaussian(everything)
    small = Sizes((3, 4, 2))
    test = draw_test_matrix("khatri_rao", small, 5, 0, 0, torch.empty(0, dtype=torch.float64))
    for j in range(5):
        a, b, beta = ([x[:, j] for x in group] for group in (test.outer, test.inner, test.bias.unsqueeze(1)))
        weights = [torch.outer(u, v).flatten() for u, v in zip(a, b, strict=True)]
        biases = [u * c for u, c in zip(a, beta, strict=True)]
        torch.testing.assert_close(test.dense(small)[:, j], torch.cat([*weights, *biases]), rtol=0, atol=0)


def test_a_khatri_rao_matrix_has_the_identity_as_covariance() -> None:
    """E ΩΩᵀ = k I, on which the range finder relies."""
    omega = khatri_rao((2, 2, 1), 20_000)
    covariance = omega @ omega.T / 20_000
    assert float((covariance - torch.eye(9, dtype=torch.float64)).abs().max()) < 6 * 3 / sqrt(20_000)


def test_test_matrix_is_contiguous_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    assert gaussian(40, 6).is_contiguous()
    khatri_rao((3, 4), 6)
    assert torch.equal(torch.get_rng_state(), before)
