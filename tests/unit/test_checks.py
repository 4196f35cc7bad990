"""Values that configs, problems and geometry took in silence, or refused without saying which."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sngd import (
    MLP,
    RAD,
    SNGD,
    Adam,
    Ball,
    Box,
    Causal,
    Coefficient,
    Condition,
    Conserved,
    Curriculum,
    Data,
    GatedMLP,
    Marching,
    Module,
    PointCloud,
    Polygon,
    Problem,
    ResidualMLP,
    RunConfig,
    Separable,
)
from sngd.checks import told, words_of
from tests.fuzz.problems import tiny
from tests.fuzz.strategies import Odd

SEVERAL = [torch.ones(2, 2), np.ones(2), Odd()]
BAD = [
    *[
        (Adam, field, value)
        for field in ("decay_factor", "beta1", "beta2")
        for value in (True, False, *SEVERAL)
    ],
    *[(Adam, "rate", value) for value in (10**400, True, np.float32(1))],
    *[(RAD, "offset", value) for value in (False, *SEVERAL)],
    *[(SNGD, field, value) for field in ("basis", "subspace", "cutoff", "rank") for value in SEVERAL],
    *[(SNGD, "rank", value) for value in (2**63, 10**400, np.int64(8))],
    *[(MLP, "activation", value) for value in ([], None, {}, *SEVERAL)],
    *[(MLP, "weight_factorization", value) for value in (1, None, "yes")],
    *[(MLP, "axes", value) for value in ("x", None, (1,), 3)],
    *[(kind, "activation", None) for kind in (GatedMLP, ResidualMLP, Separable)],
    *[(ResidualMLP, "fourier", value) for value in (1, 3, "yes", None)],
    *[(Causal, "tolerance", value) for value in (("a", 1.0), (1.0, None), (True,))],
    *[
        (Marching, field, value)
        for field in ("slabs", "tolerance")
        for value in (True, 10**400, (True, 2.0), Odd())
    ],
    *[(Module, "path", value) for value in SEVERAL],
]
BAD_COEFFICIENTS = [
    {"initial": True},
    {"initial": 10**400},
    {"initial": 0.5, "exact": math.nan},
    {"initial": 0.5, "lower": False, "upper": 1},
    {"initial": math.nextafter(1, 0), "lower": -1e300, "upper": 1},
    {"initial": 0.0, "lower": -1e308, "upper": 1e308},
    {"initial": 1e308, "lower": -1e308},
]


@pytest.mark.parametrize(("kind", "field", "value"), BAD)
def test_a_field_of_another_kind_is_named_with_its_value(kind, field, value):
    needed = {Module: {"module": nn.Linear}}.get(kind, {})
    with pytest.raises(ValueError) as caught:
        kind(**needed, **{field: value})
    assert f"{field}={told(value)} must be" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_steps_of_a_curriculum_whose_values_are_none_are_no_other_error():
    with pytest.raises(ValueError, match=r"curriculum\.values=3 must be"):
        Curriculum("nu", 3, (1, 2))


@pytest.mark.parametrize(("field", "value"), [("memory_gb", math.inf), ("timeout_seconds", math.inf)])
def test_what_no_machine_can_have_or_wait_for_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}=inf must be > 0, below 1e\\+09"):
        RunConfig(tiny(), **{field: value})


@pytest.mark.parametrize("arguments", BAD_COEFFICIENTS)
def test_a_coefficient_starts_at_a_finite_parameter_or_not_at_all(arguments):
    with pytest.raises(ValueError, match=r"^Coefficient\.\w+="):
        Coefficient(**arguments)


def test_a_coefficient_close_to_its_bounds_starts_where_it_is_told():
    for initial in (1e-300, 1e-12, 0.5, 1 - 1e-12):
        coefficient = Coefficient(initial, 0.0, 1.0)
        rho = torch.tensor(coefficient.start, dtype=torch.float64)
        assert float(coefficient.value(rho)) == pytest.approx(initial, rel=1e-10)


def _problem(**settings):
    domain = Box(x=(0, 1))
    return Problem(domain, [Condition("a", lambda u, p: u, domain.interior, 4)], **settings)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("name", value) for value in (None, 3, "", "a/b", "a\0", "..".join("//"))],
        *[("fields", value) for value in (3, None, {"u"}, (1,), ("u", ""))],
        *[("outputs", value) for value in (3, {"u"}, (None,))],
        *[(field, "u") for field in ("ansatz", "solution")],
        *[("coefficients", value) for value in (0, [], "nu")],
        *[("conserved", value) for value in (None, 3, ("mass",), {Conserved("mass", lambda u, p: u)})],
    ],
)
def test_a_problem_of_other_things_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"^Problem: {field}="):
        _problem(**{field: value})


@pytest.mark.parametrize("scale", [True, "1", math.nan, 10**400, *SEVERAL])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale=.* must be finite and > 0"):
        Conserved("mass", lambda u, p: u, scale)


def test_conserved_quantities_of_one_name_are_refused_before_the_run():
    mass = Conserved("mass", lambda u, p: u)
    with pytest.raises(ValueError, match=r"conserved names must differ, \['mass'\]"):
        _problem(conserved=[mass, mass])


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex128])
def test_a_residual_that_is_not_of_real_numbers_is_refused(dtype):
    domain = Box(x=(0, 1))
    condition = Condition("a", lambda u, p: torch.ones(len(p), dtype=dtype), domain.interior, 4)
    with pytest.raises(ValueError, match=f"must return real numbers in floating point, it returned {dtype}"):
        Problem(domain, [condition])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Box(x=(False, True)),
        lambda: Box(x=(0, 10**400)),
        lambda: Box(x=(-1e308, 1e308)),
        lambda: Box(x=(0, 1e-200)),
        lambda: Box(x=(0, 1), periodic=3),
        lambda: Box(x=(0, 1), periodic=(np.ones(2),)),
        lambda: Box(x=(0, 1)).face(x="0"),
        lambda: Box(x=(0, 1)).face(x=True),
        lambda: Ball(x=0, radius=True),
        lambda: Ball(x=0, radius=10**400),
        lambda: Ball(x=1e20, radius=1),
        lambda: Polygon(["00", "20", "11"]),
        lambda: Polygon([(0, 0), (True, 0), (1, 1)]),
        lambda: Polygon([(0, 0), (2, 0), (1, 1)], names="xy"),
        lambda: Polygon([(-1e200, -1e200), (1e200, -1e200), (0, 1e200)]),
        lambda: PointCloud("box", [[0.5]]),
        lambda: PointCloud(Box(x=(0, 1)), [["0.5"]]),
        lambda: PointCloud(Box(x=(0, 1)), np.array([["1970-01-01"]], dtype="datetime64[D]")),
        lambda: PointCloud(Box(x=(0, 1)), np.ma.array([[0.5], [0.2]], mask=[[0], [1]])),
        lambda: Data(Box(x=(0, 1)), [[0.5]], {1: [0.5]}),
        lambda: Data.from_csv(Box(x=(0, 1)), 0),
        lambda: Data.from_npz("box", "a.npz"),
    ],
)
def test_geometry_and_data_of_other_things_are_refused_in_one_line(make):
    with pytest.raises(ValueError) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1


def test_underscores_make_no_number_of_a_measurement(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("x,u\n0.5,1_5\n")
    with pytest.raises(ValueError, match="'1_5' must be a finite number"):
        Data.from_csv(Box(x=(0, 1)), path)


class NotANumber(nn.Module):
    """Finite values whose derivative is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """|x| by a root whose slope at 0 is 0/0."""
        zero = torch.zeros_like(x)
        return torch.sqrt(zero * x) + self.weight * x


def test_a_derivative_that_is_not_a_number_is_no_match():
    with pytest.raises(ValueError, match=r"derivative of order 1 that torch\.func gives is not finite"):
        Module(NotANumber()).build(Box(x=(0, 1)), 1, 0)


def test_values_and_errors_are_shown_in_one_short_line():
    assert told(torch.eye(2)) == "tensor([[1., 0.], [0., 1.]])"
    assert told(Odd()) == "<Odd>"
    assert told(10**5000) == "<int>"
    assert len(told("x" * 10_000)) < 600
    assert words_of(ValueError("two\nlines")) == "two lines"
