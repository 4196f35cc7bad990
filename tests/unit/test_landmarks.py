"""A subspace of rows of J against dense matrices: B by its definition, Q and A by numpy."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sngd import SNGD
from sngd.collectives import LocalRanks
from sngd.jacobian import FactoredJacobian
from sngd.landmarks import LandmarkBasis, choose_landmarks, draw_landmarks
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.optimizers.sngd import SketchedForm
from sngd.problem import Problem
from tests import reference
from tests.problems import CASES, parameters
from tests.reference import relative_error
from tests.thread_ranks import on_ranks

LOCAL = LocalRanks()
RANK = 8  # small enough that rows at random points are well conditioned


def jacobian(name: str, chunk=None, dtype=None, keep="factors", ranks=LOCAL) -> FactoredJacobian:
    collocation = CASES[name]().collocation(chunk, rank=ranks.rank, ranks=ranks.size)
    return FactoredJacobian(collocation, parameters(collocation), collocation.scale, dtype, keep)


@lru_cache
def problem_of(name: str) -> Problem:
    return CASES[name]().problem


@lru_cache
def dense(name: str) -> torch.Tensor:
    case = CASES[name]()
    collocation = case.collocation()
    return reference.jacobian(collocation, case.naive, parameters(collocation))


def vectors(name: str, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(dense(name).shape[1], generator=generator, dtype=torch.float64) for _ in range(count)]


def landmark_rows(name: str, rows: int, seed: int = 0, step: int = 1) -> list[int]:
    """Rows of the dense J that belong to the landmarks, all components of each."""
    collocation = CASES[name]().collocation()
    chosen, numbers = draw_landmarks(collocation.problem, rows, seed, step), []
    for indices, condition, where in zip(
        chosen, collocation.problem.conditions, collocation.condition_rows, strict=True
    ):
        q = (where.stop - where.start) // condition.points
        numbers += [where.start + i * q + j for i in indices for j in range(q)]
    return sorted(numbers)


def spanning_rows(name: str, given: int) -> np.ndarray:
    """B (e + l, P), its rows of length 1."""
    rows = dense(name)[landmark_rows(name, RANK - given)]
    b = torch.cat([torch.stack(vectors(name, given)), rows] if given else [rows]).numpy()
    lengths = np.linalg.norm(b, axis=1, keepdims=True)
    return np.divide(b, lengths, out=np.zeros_like(b), where=lengths > 0)


def matrix(basis: LandmarkBasis) -> np.ndarray:
    """Q (P, k), a column at a time."""
    return np.stack([basis.displacement(e).numpy() for e in torch.eye(basis.rank)], axis=1)


# ---------------------------------------------------------------------------------------------
# Which points
# ---------------------------------------------------------------------------------------------


@given(st.sampled_from(list(CASES)), st.integers(1, 200), st.integers(0, 9), st.integers(1, 9))
def test_landmarks_are_distinct_points_with_at_most_so_many_rows(name, rows, seed, step) -> None:
    problem = problem_of(name)
    chosen = draw_landmarks(problem, rows, seed, step)
    assert chosen == draw_landmarks(problem, rows, seed, step)
    total, components = 0, [s.components for s in problem.signatures]
    for indices, condition, q in zip(chosen, problem.conditions, components, strict=True):
        assert indices == sorted(set(indices))
        assert all(0 <= i < condition.points for i in indices)
        total += len(indices) * q
    everything = sum(c.points * q for c, q in zip(problem.conditions, components, strict=True))
    assert total <= max(rows, max(components))
    assert total > min(rows, everything) - max(components)  # as many as fit


def test_points_are_drawn_in_proportion_to_the_scale_of_their_rows() -> None:
    problem = problem_of("heat")
    counts, draws, rows = [np.zeros(c.points) for c in problem.conditions], 4000, 3
    for step in range(draws):
        for count, indices in zip(counts, draw_landmarks(problem, rows, 3, step), strict=True):
            count[indices] += 1
    weights = np.sqrt([len(count) for count in counts])
    for count, share in zip(counts, weights / weights.sum(), strict=True):
        drawn = count.sum() / (rows * draws)
        assert abs(drawn - share) < 5 * np.sqrt(share * (1 - share) / (rows * draws))
        mean = count.mean()  # and all points of a condition are equal
        assert np.abs(count - mean).max() < 5 * np.sqrt(mean)
        assert count.std() > 0.3 * np.sqrt(mean)  # but not by turns


def test_another_step_or_seed_takes_other_points() -> None:
    problem = problem_of("heat")
    drawn = [draw_landmarks(problem, 9, *key) for key in ((0, 1), (0, 2), (1, 1), (1, 0))]
    assert all(a != b for i, a in enumerate(drawn) for b in drawn[:i])


# ---------------------------------------------------------------------------------------------
# The basis
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [0, 1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_basis_is_orthonormal_and_spans_the_rows(name: str, given: int) -> None:
    basis, _ = choose_landmarks(jacobian(name), vectors(name, given), RANK, 0, 1, LOCAL)
    q, b = matrix(basis), spanning_rows(name, given)
    sigma = np.linalg.svd(b, compute_uv=False)
    assert basis.rank == (sigma > 1e-6 * sigma[0]).sum()  # nothing lies between here and the cut-off
    # Q and the space are known to rounding over the square of the least singular value
    tolerance = 1e-13 * (sigma[0] / sigma[basis.rank - 1]) ** 2
    assert tolerance < 1e-3
    np.testing.assert_allclose(q.T @ q, np.eye(basis.rank), atol=tolerance)
    np.testing.assert_allclose(q @ (q.T @ b.T), b.T, atol=tolerance)


@pytest.mark.parametrize("keep", ["factors", "nothing"])
@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("name", CASES)
def test_the_product_is_that_of_the_dense_matrices(name: str, chunk, keep, monkeypatch) -> None:
    monkeypatch.setattr("sngd.factors._BLOCK", 7)
    j = jacobian(name, chunk, keep=keep)
    basis, rounding = choose_landmarks(j, vectors(name, 2), RANK, 0, 1, LOCAL)
    assert relative_error(basis.times(j), dense(name).numpy() @ matrix(basis)) < rounding


@pytest.mark.parametrize("name", CASES)
def test_float32_factors_give_the_product_to_the_rounding_that_is_named(name: str) -> None:
    j = jacobian(name, dtype=torch.float32)
    basis, rounding = choose_landmarks(j, vectors(name, 2), RANK, 0, 1, LOCAL)
    a = basis.times(j)
    assert a.dtype == torch.float32
    assert basis.displacement(torch.ones(basis.rank)).dtype == torch.float64
    error = a.double().numpy() - dense(name).numpy() @ matrix(basis)
    assert np.linalg.norm(error, 2) < rounding * np.linalg.norm(dense(name).numpy(), 2)
    assert 1e-9 < rounding < 1e-3


def test_directions_that_depend_on_others_are_dropped() -> None:
    j, (v, w) = jacobian("heat"), vectors("heat", 2)
    independent, _ = choose_landmarks(j, [v, w], RANK, 0, 1, LOCAL)
    repeated, _ = choose_landmarks(j, [v, w, 3 * v - w, 0 * v], RANK + 2, 0, 1, LOCAL)
    assert repeated.rank == independent.rank == RANK
    q, p = matrix(independent), matrix(repeated)
    np.testing.assert_allclose(p @ p.T, q @ q.T, atol=1e-6)


def test_more_landmarks_than_the_spectrum_can_bear() -> None:
    """With all rows B is as ill-conditioned as J: what is kept is still orthonormal and consistent."""
    name = "poisson"
    j = jacobian(name)
    basis, rounding = choose_landmarks(j, vectors(name, 1), 10_000, 0, 1, LOCAL)
    assert RANK < basis.rank <= j.shape[0] + 1
    q, a = matrix(basis), basis.times(j).numpy()
    np.testing.assert_allclose(q.T @ q, np.eye(basis.rank), atol=0.3)
    want = dense(name).numpy()
    assert np.linalg.norm(a - want @ q, 2) < rounding * np.linalg.norm(want, 2)
    # what A misses of J is below the cut-off
    lost = want - want @ np.linalg.qr(q)[0] @ np.linalg.qr(q)[0].T
    assert np.linalg.norm(lost, 2) < 1e-6 * np.linalg.norm(want, 2)


def test_values_that_are_not_finite_are_refused() -> None:
    j, (v,) = jacobian("heat"), vectors("heat", 1)
    v[3] = torch.inf
    with pytest.raises(ValueError) as caught:
        choose_landmarks(j, [v], RANK, 0, 1, LOCAL)
    assert "not finite" in str(caught.value)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("name", ["heat", "system"])
def test_all_ranks_have_the_same_basis(name: str, size: int) -> None:
    whole = jacobian(name)
    alone, _ = choose_landmarks(whole, vectors(name, 2), RANK, 0, 1, LOCAL)

    def work(ranks):
        basis, _ = choose_landmarks(jacobian(name, ranks=ranks), vectors(name, 2), RANK, 0, 1, ranks)
        return basis.coefficients, matrix(basis), ranks.traffic

    results = on_ranks(size, work)
    for coefficients, q, traffic in results:
        assert torch.equal(coefficients, alone.coefficients)
        assert np.array_equal(q, matrix(alone))
        points = sum(len(indices) for indices in draw_landmarks(problem_of(name), RANK - 2, 0, 1))
        assert {what: t.bytes for what, t in traffic.items()} == {"landmarks": points * 2 * 8}


# ---------------------------------------------------------------------------------------------
# The step
# ---------------------------------------------------------------------------------------------


def _model(name: str, rank: int, **options):
    case = CASES[name]()
    objective = Objective(case.collocation(), LOCAL, Plan("factors", None, 0))
    state = objective.evaluate(parameters(objective.collocation))
    config = SNGD(rank=rank, subspace="landmarks", **options)
    form = SketchedForm(config, objective, 0, len(state.residual))
    return form.linearize(objective, state, 1), state, form


@pytest.mark.parametrize("name", CASES)
def test_with_every_row_the_step_is_that_of_gauss_and_newton(name: str) -> None:
    j = dense(name).numpy()
    model, state, _ = _model(name, len(j), recycle=False)
    r = state.residual.numpy()
    for factor in (1e-1, 1e-3, 1e-5):
        damping = factor * np.linalg.norm(j, 2) ** 2
        step = model.displacement(model.solve(damping))
        assert relative_error(step, reference.gauss_newton_step(j, r, damping)) < 1e-4
        assert model.core.predicted_reduction(damping) == pytest.approx(
            r @ r - float(np.square(j @ step.numpy() + r).sum()), rel=1e-3
        )


@pytest.mark.parametrize("recycle", [True, False])
@pytest.mark.parametrize("name", ["heat", "system"])
def test_a_step_is_the_damped_one_in_the_span_of_the_rows(name: str, recycle: bool) -> None:
    j = dense(name)
    model, state, _ = _model(name, RANK, recycle=recycle)
    r = state.residual
    rows = j[landmark_rows(name, RANK - recycle)]
    b = torch.cat([(j.T @ r).unsqueeze(0), rows]) if recycle else rows
    q = np.linalg.svd(b.numpy(), full_matrices=False)[2][: model.basis.rank].T
    damping = 1e-3 * model.largest
    u, s, vt = np.linalg.svd(j.numpy() @ q, full_matrices=False)
    want = q @ (vt.T @ (-s / (s**2 + damping) * (u.T @ r.numpy())))
    assert relative_error(model.displacement(model.solve(damping)), want) < 1e-6


def test_the_last_displacement_lies_in_the_next_subspace() -> None:
    case = CASES["heat"]()
    objective = Objective(case.collocation(), LOCAL, Plan("factors", None, 0))
    theta = parameters(objective.collocation)
    form = SketchedForm(SNGD(rank=RANK, subspace="landmarks"), objective, 0, 40)
    form.linearize(objective, objective.evaluate(theta), 1)
    (moved,) = vectors("heat", 1)
    model = form.linearize(objective, objective.evaluate(theta + 1e-3 * moved), 2)
    q = matrix(model.basis)
    np.testing.assert_allclose(q @ (q.T @ moved.numpy()), moved.numpy(), atol=1e-6)
    assert model.basis.rank <= RANK


def test_dampings_below_the_rounding_of_the_gram_matrix_are_not_tried() -> None:
    model, _, _ = _model("heat", RANK)
    eps = torch.finfo(torch.float64).eps
    assert eps**2 * model.largest < model.least_damping < eps * model.largest


def test_a_mixed_run_takes_the_precision_of_the_parameters() -> None:
    case = CASES["heat"]()
    objective = Objective(case.collocation(), LOCAL, Plan("factors", None, 0), torch.float32)
    state = objective.evaluate(parameters(objective.collocation))
    for subspace, want in (("landmarks", torch.float64), ("range_finder", torch.float32)):
        form = SketchedForm(SNGD(rank=RANK, subspace=subspace), objective, 0, 40)
        assert form.linearize(objective, state, 1).product.dtype == want


def test_there_is_nothing_to_shard() -> None:
    with pytest.raises(ValueError) as caught:
        SNGD(subspace="landmarks", basis="sharded")
    assert "optimizer.basis='sharded'" in str(caught.value)
    assert "optimizer.subspace='landmarks'" in str(caught.value)
    assert SNGD(subspace="landmarks", basis="replicated").placement == "landmarks"


def test_subspace_is_one_of_two() -> None:
    with pytest.raises(ValueError) as caught:
        SNGD(subspace="rows")
    assert str(caught.value).startswith("optimizer.subspace='rows'")
