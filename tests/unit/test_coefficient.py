import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sngd import Coefficient

BOUNDS = [(None, None), (-2.0, None), (None, 3.0), (-2.0, 3.0)]


@pytest.mark.parametrize(("lower", "upper"), BOUNDS)
@given(initial=st.floats(-1.999, 2.999), rho=st.floats(-30, 30))
def test_training_starts_at_the_initial_value_and_stays_within_the_bounds(lower, upper, initial, rho) -> None:
    coefficient = Coefficient(initial, lower, upper)
    start = torch.tensor([coefficient.start], dtype=torch.float64)
    assert float(coefficient.value(start)) == pytest.approx(initial, rel=1e-12, abs=1e-12)
    value = float(coefficient.value(torch.tensor(rho, dtype=torch.float64)))
    assert (-math.inf if lower is None else lower) <= value <= (math.inf if upper is None else upper)


@pytest.mark.parametrize(("lower", "upper"), BOUNDS)
def test_the_parameter_moves_the_value_everywhere(lower, upper) -> None:
    rho = torch.tensor([-5.0, 0.0, 5.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Coefficient(0.5, lower, upper).value(rho).sum(), rho)
    assert bool((slope.abs() > 1e-3).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": math.nan}, "Coefficient.initial=nan must be a finite number"),
        ({"initial": 1, "lower": math.inf}, "Coefficient.lower=inf must be finite or None"),
        ({"initial": 1, "exact": "one"}, "Coefficient.exact='one' must be finite or None"),
        ({"initial": 0, "lower": 0}, "Coefficient.initial=0 must lie strictly between 0 and inf"),
        ({"initial": 2, "lower": 0, "upper": 1}, "Coefficient.initial=2 must lie strictly between 0 and 1"),
    ],
)
def test_mistakes(arguments, message) -> None:
    with pytest.raises(ValueError) as error:
        Coefficient(**arguments)
    assert str(error.value) == message
