"""Stored references: the files, what is wrong with one, and how its series is summed."""

import itertools
import shutil
from math import pi

import numpy as np
import pytest
import torch

from sngd.problems import reference
from sngd.problems.reference import Reference, load_reference

# ---------------------------------------------------------------------------------------------
# The series
# ---------------------------------------------------------------------------------------------


def _basis(kind, low, high, j, x):
    z = (x - low) / (high - low)
    if kind == "fourier":
        k = (j + 1) // 2
        return np.cos(2 * pi * k * z) if j % 2 or not j else np.sin(2 * pi * k * z)
    z = np.sqrt(z) if kind == "chebyshev of root" else z
    return np.polynomial.chebyshev.chebval(2 * z - 1, np.eye(j + 1)[j])


def test_a_reference_is_the_sum_of_its_series():
    kinds, bounds = ("fourier", "chebyshev", "chebyshev of root"), ((-1, 2), (0, 3), (1, 5))
    rng = np.random.default_rng(0)
    c = rng.normal(size=(5, 4, 3, 2))
    c[3] = c[:, 2] = 0  # functions without a coefficient are left out
    x = [rng.uniform(low, high, 30) for low, high in bounds]
    want = np.zeros((30, 2))
    for i, j, k in itertools.product(*map(range, c.shape[:3])):
        factors = [_basis(*a) for a in zip(kinds, *np.transpose(bounds), (i, j, k), x, strict=True)]
        want += np.prod(factors, axis=0)[:, None] * c[i, j, k]
    stored = Reference(torch.from_numpy(c), kinds, bounds, 0.0, "")
    got = stored(*map(torch.from_numpy, x))
    torch.testing.assert_close(torch.stack(got, 1), torch.from_numpy(want), rtol=0, atol=1e-13)
    assert [len(f) for f in stored(*[torch.zeros(0, dtype=torch.float64)] * 3)] == [0, 0]


def test_many_points_go_through_in_chunks(monkeypatch):
    stored = load_reference("gray_scott")
    x, t = torch.rand(2, 100, dtype=torch.float64)
    whole = stored(x, t)
    monkeypatch.setattr(reference, "_BUDGET", 7 * 192)
    torch.testing.assert_close(stored(x, t), whole, rtol=0, atol=1e-14)


def test_single_precision_points_give_single_precision_fields():
    stored = load_reference("kdv")
    x, t = torch.rand(2, 50, dtype=torch.float64)
    (double,), (single,) = stored(x, t), stored(x.float(), t.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)


def test_another_number_of_coordinates_is_refused():
    with pytest.raises(ValueError, match=r"has 2 axes, it was called with 1$"):
        load_reference("kdv")(torch.zeros(3))


def _in_folder(monkeypatch, folder):
    monkeypatch.setattr(reference, "_FOLDER", folder)
    load_reference.cache_clear()


@pytest.fixture(autouse=True)
def _fresh():
    yield
    load_reference.cache_clear()


def test_a_missing_file_is_one_clear_error(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"no reference solution 'kvd'.*known: .*kdv"):
        load_reference("kvd")
    _in_folder(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match=r"no reference solution 'kdv'.*known: none"):
        load_reference("kdv")


def _halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _rewrite(path, **changes):
    with np.load(path) as file:
        parts = dict(file)
    np.savez(path, **{k: v for k, v in (parts | changes).items() if v is not None})


@pytest.mark.parametrize(
    "damage",
    [
        _halve,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
        lambda path: _rewrite(path, coefficients=None),
        lambda path: _rewrite(path, tolerance=None),
        lambda path: _rewrite(path, coefficients=np.ones(3)),
        lambda path: _rewrite(path, coefficients=np.full((2, 2, 1), np.nan)),
        lambda path: _rewrite(path, kinds=np.array(["fourier", "legendre"])),
    ],
)
def test_a_damaged_file_is_one_clear_error(monkeypatch, tmp_path, damage):
    path = tmp_path / "kdv.npz"
    shutil.copy(reference._FOLDER / "kdv.npz", path)
    _in_folder(monkeypatch, tmp_path)
    assert load_reference("kdv").tolerance < 1e-11
    load_reference.cache_clear()
    damage(path)
    with pytest.raises(ValueError, match=r"'kdv'.*cannot be read.*python -m references kdv"):
        load_reference("kdv")
