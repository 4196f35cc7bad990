import pytest
import torch

from sngd.activations import ACTIVATIONS, KINKED, NETWORK_ACTIVATIONS, reciprocal_derivatives
from tests.reference import PLAIN_FUNCTIONS, partial

ORDERS = range(6)
POSITIVE = {"log", "sqrt"}
GROWING = {"exp", "expm1", "sinh", "cosh"}  # not near the largest numbers


def arguments(name: str) -> torch.Tensor:
    if name in GROWING:
        return torch.linspace(-40, 6, 200, dtype=torch.float64)
    if name == "tan":
        return torch.linspace(-1.2, 4.3, 100, dtype=torch.float64)  # over a pole
    if name == "log1p":
        return torch.logspace(-6, 4, 200, dtype=torch.float64) - 0.9
    if name in POSITIVE:
        return torch.logspace(-2, 4, 200, dtype=torch.float64)
    if name == "reciprocal":
        z = torch.logspace(-2, 4, 100, dtype=torch.float64)
        return torch.cat([-z, z])
    middle = torch.linspace(-6, 6, 241, dtype=torch.float64)
    return torch.cat([middle, torch.tensor([-300.0, -41, -25, -12, 12, 25, 41, 300])])


def nested(name: str, z: torch.Tensor, order: int) -> torch.Tensor:
    x = z.clone().unsqueeze(1).requires_grad_()
    return partial(PLAIN_FUNCTIONS[name](x[:, 0]), x, *([0] * order)).detach()


def test_every_activation_has_a_reference() -> None:
    assert set(ACTIVATIONS) == set(PLAIN_FUNCTIONS)
    assert set(NETWORK_ACTIVATIONS) == {"tanh", "sin", "gelu", "silu", "softplus"}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_derivatives_equal_nested_autograd(name: str, order: int) -> None:
    z = arguments(name)
    got = ACTIVATIONS[name](z, order)
    assert len(got) == order + 1
    # relative to the value itself where that is large (powers of z), else to the function's own scale of 1
    want = nested(name, z, order)
    error = (got[order] - want).abs() / want.abs().clamp_min(1.0)
    # cancellation in polynomials of the logistic function near 1, times z: 2e-13 for the fifth of silu at 25
    assert error.max() < (2e-13 if order < 5 else 5e-13), f"z={z[error.argmax()]}: {error.max()}"


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_lower_orders_do_not_depend_on_the_highest_asked(name: str) -> None:
    z = arguments(name)
    every = ACTIVATIONS[name](z, 5)
    for order in ORDERS:
        for low, high in zip(ACTIVATIONS[name](z, order), every, strict=False):
            assert torch.equal(low, high)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_the_argument_is_left_alone(name: str) -> None:
    z = arguments(name)
    before = z.clone()
    ACTIVATIONS[name](z, 5)
    assert torch.equal(z, before)


@pytest.mark.parametrize("name", sorted(NETWORK_ACTIVATIONS))
def test_float32_stays_float32_and_accurate(name: str) -> None:
    z = torch.linspace(-20, 20, 401, dtype=torch.float64)
    single, double = ACTIVATIONS[name](z.float(), 4), ACTIVATIONS[name](z, 4)
    for low, high in zip(single, double, strict=True):
        assert low.dtype == torch.float32
        # sums of up to five terms of the argument's rounding, times z for gelu and silu
        error = (low.double() - high).abs() / high.abs().clamp_min(1.0)
        assert error.max() < 1e-4, f"z={z[error.argmax()]}: {error.max()}"


@pytest.mark.parametrize("name", sorted(set(NETWORK_ACTIVATIONS) - {"sin"}))
def test_saturated_ends_are_flat_not_nan(name: str) -> None:
    ends = torch.tensor([-1e4, 1e4], dtype=torch.float64)
    for order, f in enumerate(ACTIVATIONS[name](ends, 5)):
        assert torch.isfinite(f).all()
        if order >= 2:
            assert torch.equal(f.abs(), torch.zeros(2, dtype=torch.float64)), f"order {order}"


def test_kinked_functions_have_one_derivative() -> None:
    z = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    wanted = {"abs": ([2.0, 0.0, 3.0], [-1.0, 0.0, 1.0]), "relu": ([0.0, 0.0, 3.0], [0.0, 0.0, 1.0])}
    assert set(KINKED) == set(wanted)
    for name, (values, slopes) in wanted.items():
        assert [f.tolist() for f in KINKED[name](z, 1)] == [values, slopes]
        assert [f.tolist() for f in KINKED[name](z, 0)] == [values]
        with pytest.raises(ValueError, match=rf"{name}\(u\) has no second derivative"):
            KINKED[name](z, 2)


def test_reciprocal_of_negative_numbers_alternates() -> None:
    z = torch.tensor([-2.0, 2.0], dtype=torch.float64)
    value, first, second = reciprocal_derivatives(z, 2)
    assert value.tolist() == [-0.5, 0.5]
    assert first.tolist() == [-0.25, -0.25]
    assert second.tolist() == [-0.25, 0.25]
