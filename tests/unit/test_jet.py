"""Two halves as in sngd/jet.py: Taylor channels through a network, and the algebra of fields."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from sngd.activations import ACTIVATIONS
from sngd.calculus import biharmonic, d, laplacian
from sngd.domain import Box
from sngd.jet import Jet
from sngd.leaves import coordinate, field, recorder
from sngd.taylor import Channel, Laplacian, close
from tests.reference import PLAIN_FUNCTIONS, partial, relative_error

# ---------------------------------------------------------------------------------------------
# Algebra of fields
# ---------------------------------------------------------------------------------------------

POINTS = torch.rand(6, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5
NUMBERS = torch.linspace(0.5, 2.0, 6, dtype=torch.float64)


def first(x: Tensor) -> Tensor:
    return torch.sin(2 * x[:, 0]) * torch.exp(0.3 * x[:, 1]) + x[:, 0] * x[:, 1] ** 2


def second(x: Tensor) -> Tensor:
    return 2 + torch.cos(x[:, 0] - 2 * x[:, 1])  # at least 1, so that it can be divided by


class Plain:
    """Tensors on points with the interface of a field: what the expressions below mean by autograd alone."""

    def __init__(self) -> None:
        self.x = POINTS.clone().requires_grad_()

    def fields(self) -> list[Tensor]:
        return [first(self.x), second(self.x), self.x[:, 0]]

    def d(self, u: Tensor, *axes: int) -> Tensor:
        return partial(u, self.x, *axes)

    def laplacian(self, u: Tensor) -> Tensor:
        return partial(u, self.x, 0, 0) + partial(u, self.x, 1, 1)


class Jets:
    """The same as fields."""

    def fields(self) -> list[Jet]:
        def make(function: Callable[[Tensor], Tensor]) -> Jet:
            x = POINTS.clone().requires_grad_()
            return Jet(lambda alpha: partial(function(x), x, *alpha).detach(), 2)

        return [make(first), make(second), coordinate(POINTS, 0, 2)]

    d = staticmethod(d)
    laplacian = staticmethod(laplacian)


ALPHAS = [(), (0,), (1,), (0, 0), (0, 1), (1, 1), (0, 0, 1), (0, 1, 1, 1)]

# (fields or tensors u, v > 0, x; the interface) → one field or tensor
EXPRESSIONS: dict[str, Callable] = {
    "+u": lambda u, v, x, i: +u,
    "-u": lambda u, v, x, i: -u,
    "u + v": lambda u, v, x, i: u + v,
    "u - v": lambda u, v, x, i: u - v,
    "u v": lambda u, v, x, i: u * v,
    "u / v": lambda u, v, x, i: u / v,
    "u + 2": lambda u, v, x, i: u + 2,
    "2 + u": lambda u, v, x, i: 2 + u,
    "u - 2": lambda u, v, x, i: u - 2,
    "2 - u": lambda u, v, x, i: 2 - u,
    "3 u": lambda u, v, x, i: 3 * u,
    "u 3": lambda u, v, x, i: u * 3,
    "u / 4": lambda u, v, x, i: u / 4,
    "1 / v": lambda u, v, x, i: 1 / v,
    "2 / v": lambda u, v, x, i: 2 / v,
    "u + c": lambda u, v, x, i: u + NUMBERS,
    "c + u": lambda u, v, x, i: NUMBERS + u,
    "u - c": lambda u, v, x, i: u - NUMBERS,
    "c - u": lambda u, v, x, i: NUMBERS - u,
    "u c": lambda u, v, x, i: u * NUMBERS,
    "c u": lambda u, v, x, i: NUMBERS * u,
    "u / c": lambda u, v, x, i: u / NUMBERS,
    "c / v": lambda u, v, x, i: NUMBERS / v,
    "add(c, u)": lambda u, v, x, i: torch.add(NUMBERS, u),
    "sub(c, u)": lambda u, v, x, i: torch.sub(NUMBERS, u),
    "sub(u, c)": lambda u, v, x, i: torch.sub(u, NUMBERS),
    "mul(u, v)": lambda u, v, x, i: torch.mul(u, v),
    "div(c, v)": lambda u, v, x, i: torch.div(NUMBERS, v),
    "true_divide(u, v)": lambda u, v, x, i: torch.true_divide(u, v),
    "u^0": lambda u, v, x, i: u**0 * v,
    "u^1": lambda u, v, x, i: u**1,
    "u^2": lambda u, v, x, i: u**2,
    "u^3": lambda u, v, x, i: u**3,
    "u^4": lambda u, v, x, i: u**4,
    "u^7": lambda u, v, x, i: u**7,
    "u^2.0": lambda u, v, x, i: u**2.0,
    "v^-2": lambda u, v, x, i: v**-2,
    "v^1.5": lambda u, v, x, i: v**1.5,
    "pow(v, 2.5)": lambda u, v, x, i: torch.pow(v, 2.5),
    "v^c": lambda u, v, x, i: v**NUMBERS,
    "pow(v, c)": lambda u, v, x, i: torch.pow(v, NUMBERS),
    "silu of nn": lambda u, v, x, i: functional.silu(u),
    "gelu of nn": lambda u, v, x, i: functional.gelu(u),
    "softplus of nn": lambda u, v, x, i: functional.softplus(u),
    "sum": lambda u, v, x, i: sum([u, v, x]),
    "x u": lambda u, v, x, i: x * u,
    "sin πx": lambda u, v, x, i: torch.sin(math.pi * x),
    "u_x": lambda u, v, x, i: i.d(u, 0),
    "u_xy": lambda u, v, x, i: i.d(u, 1, 0),
    "(u_x)_y": lambda u, v, x, i: i.d(i.d(u, 0), 1),
    "(k u_x)_x": lambda u, v, x, i: i.d((1 + x**2) * v * i.d(u, 0), 0),
    "(u³)_xx / v": lambda u, v, x, i: i.d(u**3, 0, 0) / v,
    "sin(u_x v)_y": lambda u, v, x, i: i.d(torch.sin(i.d(u, 0) * v), 1),
    "Δu": lambda u, v, x, i: i.laplacian(u),
    "Δ(u v)": lambda u, v, x, i: i.laplacian(u * v),
    "x Δ(exp u / v)": lambda u, v, x, i: x * i.laplacian(torch.exp(u) / v),
    "ΔΔu": lambda u, v, x, i: i.laplacian(i.laplacian(u)),
    "c Δu / 3 - 1": lambda u, v, x, i: NUMBERS * i.laplacian(u) / 3 - 1,
    "Δ(u)_xy": lambda u, v, x, i: i.d(i.laplacian(u), 1, 0),
    "Δ(v sin(u)_x)": lambda u, v, x, i: i.laplacian(v * i.d(torch.sin(u), 0)),
    "Δ(v Δu)": lambda u, v, x, i: i.laplacian(v * i.laplacian(u)),
    "Δ²exp(u)": lambda u, v, x, i: i.laplacian(i.laplacian(torch.exp(u))),
    "v^u": lambda u, v, x, i: v**u,
    "2^u": lambda u, v, x, i: 2**u,
    "c^u": lambda u, v, x, i: NUMBERS**u,
    "pow(c, u)": lambda u, v, x, i: torch.pow(NUMBERS, u),
    "|v|": lambda u, v, x, i: abs(v) + torch.abs(-v) + torch.relu(v),
    "where": lambda u, v, x, i: torch.where(u > v - 0.9, u * v, i.d(v, 0)),
    "where c": lambda u, v, x, i: (
        torch.where(NUMBERS > x, u * v, NUMBERS)  # noqa: SIM300
        + torch.where(x <= 1, 2.0, v)
    ),
} | {
    f"{name} of the list": lambda u, v, x, i, name=name: (
        PLAIN_FUNCTIONS[name](0.5 + v) if isinstance(v, Tensor) else _torch_function(name)(0.5 + v)
    )
    for name in ACTIVATIONS
}


# fewer derivatives of what has high ones itself, and of kinks
HIGHEST = {"ΔΔu": 6, "Δ(u)_xy": 6, "Δ(v Δu)": 6, "Δ²exp(u)": 3, "|v|": 3}


def _torch_function(name: str) -> Callable:
    return getattr(torch, name, None) or getattr(functional, name)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_algebra_equals_nested_autograd(name: str) -> None:
    expression = EXPRESSIONS[name]
    plain, jets = Plain(), Jets()
    want, got = expression(*plain.fields(), plain), expression(*jets.fields(), jets)
    assert isinstance(got, Jet), f"the result is a {type(got).__name__} and has lost its derivatives"
    for alpha in ALPHAS[: HIGHEST.get(name)]:
        values = plain.d(want, *alpha).detach()
        assert relative_error(got.derivative(alpha), values) < 1e-11, alpha


UNARY = {
    "sin": torch.sin,
    "tanh": torch.tanh,
    "negative": lambda a: -a,
    "square": lambda a: a**2,
    "bounded exp": lambda a: torch.exp(torch.sin(a)),
}
BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / (2 + torch.cos(b)),
    "c": lambda a, b: NUMBERS - a * 0.5,
}
TREES = st.recursive(
    st.sampled_from(["u", "v", "x"]),
    lambda inner: (
        st.tuples(st.sampled_from(sorted(UNARY)), inner)
        | st.tuples(st.sampled_from(sorted(BINARY)), inner, inner)
    ),
    max_leaves=5,
)


def grow(tree, u, v, x):
    if isinstance(tree, str):
        return {"u": u, "v": v, "x": x}[tree]
    if len(tree) == 2:
        return UNARY[tree[0]](grow(tree[1], u, v, x))
    return BINARY[tree[0]](grow(tree[1], u, v, x), grow(tree[2], u, v, x))


@given(TREES, st.lists(st.integers(0, 1), max_size=3))
def test_random_expressions_equal_nested_autograd(tree, axes: Sequence[int]) -> None:
    plain, jets = Plain(), Jets()
    want = partial(grow(tree, *plain.fields()), plain.x, *axes).detach()
    got = grow(tree, *jets.fields())
    got = d(got, *axes) if axes else got
    scale = max(1.0, float(want.abs().max()))
    assert float((got.value - want).abs().max()) < 1e-10 * scale


def test_whole_powers_have_derivatives_where_the_field_vanishes() -> None:
    x = coordinate(torch.tensor([[0.0], [2.0]], dtype=torch.float64), 0, 1)
    assert d(x**2.0, 0, 0, 0).value.tolist() == [0.0, 0.0]
    assert d(x**5, 0, 0, 0, 0, 0).value.tolist() == [120.0, 120.0]
    assert d(x**5, *[0] * 6).value.tolist() == [0.0, 0.0]
    assert d(x ** torch.full((2,), 2.0, dtype=torch.float64), 0, 0, 0).value.tolist() == [0.0, 0.0]


def test_exponents_that_are_trained_have_a_gradient() -> None:
    x = coordinate(torch.tensor([[0.5], [2.0]], dtype=torch.float64), 0, 1)
    k = torch.tensor([2.0, 2.0], dtype=torch.float64, requires_grad=True)
    third = d(x**k, 0, 0, 0).value  # k (k − 1) (k − 2) x^{k − 3}, zero at k = 2 with another slope
    (slope,) = torch.autograd.grad(third.sum(), k)
    torch.testing.assert_close(slope, 2 / x.value)


def test_a_derivative_is_evaluated_once() -> None:
    asked = []
    u = Jet(lambda alpha: asked.append(alpha) or NUMBERS, 2)
    for _ in range(3):
        d(u, 0).value, u.value, d(d(u, 1), 0).value, d(u, 0, 1).value
    assert Counter(asked) == {(0,): 1, (): 1, (0, 1): 1}


def test_laplacian_takes_the_collapsed_channel_only_where_there_is_one() -> None:
    channels = (*close({(0, 0), (1, 1)}), Laplacian((0, 1)))
    values = torch.arange(len(channels), dtype=torch.float64).view(-1, 1, 1)
    number = {c: float(i) for i, c in enumerate(channels)}
    u = field(values, channels, 0, 2)
    assert laplacian(u).value.item() == number[Laplacian((0, 1))]
    assert laplacian(u, (1, 0)).value.item() == number[Laplacian((0, 1))]
    assert laplacian(u, (1,)).value.item() == number[(1, 1)]
    assert laplacian(2 * u).value.item() == 2 * number[Laplacian((0, 1))]
    # without the channel by its parts
    u = field(values, channels[:-1], 0, 2)
    assert laplacian(u).value.item() == number[(0, 0)] + number[(1, 1)]


def test_field_picks_its_component() -> None:
    values = torch.randn(3, 4, 2, dtype=torch.float64)
    u, v = (field(values, ((), (0,), (1,)), j, 2) for j in range(2))
    assert torch.equal(u.value, values[0, :, 0])
    assert torch.equal(d(v, 1).value, values[2, :, 1])


@pytest.mark.parametrize(
    ("residual", "needs"),
    [
        (lambda u, x: u, {()}),
        (lambda u, x: d(u, 1), {(1,)}),
        (lambda u, x: d(u, 1) + u * d(u, 0) - d(u, 0, 0), {(), (0,), (1,), (0, 0)}),
        (lambda u, x: d(u, 1, 0), {(0, 1)}),
        (lambda u, x: laplacian(u), {Laplacian((0, 1, 2))}),
        (lambda u, x: laplacian(u, (2, 0)), {Laplacian((0, 2))}),
        (lambda u, x: laplacian(u, (2,)), {(2, 2)}),
        (lambda u, x: d(x * d(u, 0), 0), {(0,), (0, 0)}),
        (lambda u, x: d(laplacian(u, (0, 1)), 2), {Laplacian((0, 1), 1, (2,))}),
        (lambda u, x: laplacian(d(u, 2, 0), (0, 1)), {Laplacian((0, 1), 1, (0, 2))}),
        (lambda u, x: laplacian(laplacian(u)), {Laplacian((0, 1, 2), 2)}),
        (lambda u, x: biharmonic(u, (2, 0)), {Laplacian((0, 2), 2)}),
        (lambda u, x: biharmonic(u, (1,)), {(1, 1, 1, 1)}),
        (
            lambda u, x: laplacian(laplacian(u, (0, 1)), (1, 2)),
            {Laplacian((1, 2), 1, (0, 0)), Laplacian((1, 2), 1, (1, 1))},
        ),
        (
            lambda u, x: laplacian(u, (0, 1)) * laplacian(u * u, (0, 2)),
            {Laplacian((0, 1)), Laplacian((0, 2)), (), (0,), (2,)},
        ),
        (lambda u, x: laplacian(x * torch.exp(u)), {(), (0,), (1,), (2,), Laplacian((0, 1, 2))}),
        (lambda u, x: torch.where(x < 0.5, 2.0, laplacian(u)), {Laplacian((0, 1, 2))}),
        (lambda u, x: torch.exp(u) * x, {()}),
        (lambda u, x: x * x, set()),
    ],
)
def test_recorder_finds_the_channels(residual: Callable, needs: set[Channel]) -> None:
    log: set[Channel] = set()
    u = recorder(4, 3, log, torch.float64, torch.device("cpu"))
    result = residual(u, coordinate(torch.rand(4, 3, dtype=torch.float64), 0, 3))
    assert result.value.shape == (4,)
    assert log == needs


def test_errors_say_what_to_do() -> None:
    u, v, _ = Jets().fields()
    box = Box(a=(0, 1), b=(0, 1), c=(0, 1))
    with pytest.raises(ValueError, match=r"axis .*'c'.* does not exist: the domain has 2 axes"):
        d(u, box.axes[2])
    with pytest.raises(ValueError, match=r"axis -1 does not exist"):
        d(u, -1)
    with pytest.raises(ValueError, match="needs at least one axis, got none"):
        d(u)
    with pytest.raises(ValueError, match=r"needs a field, got tuple.*`u, v = w`"):
        d((u, v), 0)
    for operator in (laplacian, biharmonic):
        with pytest.raises(ValueError, match=rf"{operator.__name__}\(u\) needs a field, got Tensor"):
            operator(u.value)
        with pytest.raises(ValueError, match=r"got tuple; .* component by component"):
            operator((u, v))
    with pytest.raises(ValueError, match=r"abs\(u\) has no second derivative"):
        d(abs(u), 0, 0).value  # noqa: B018
    for axes in ((0, 0), ()):
        with pytest.raises(ValueError, match="needs distinct axes"):
            laplacian(u, axes)
    with pytest.raises(ValueError, match=r"axis 5 does not exist"):
        laplacian(u, (0, 5))
    with pytest.raises(TypeError, match=r"cannot be unpacked.*fields=\('u', 'v'\)"):
        _a, _b = u
    for bad in (lambda: u + "1", lambda: u * None, lambda: u / "2", lambda: u ** "2", lambda: "3" - u):
        with pytest.raises(TypeError):
            bad()


def test_a_function_without_known_derivatives_is_refused_instead_of_taken_as_constant() -> None:
    x = coordinate(torch.rand(4, 1, dtype=torch.float64), 0, 1)
    for function in (torch.floor, torch.lgamma, torch.argsort, lambda u: torch.where(u, u, u)):
        with pytest.raises(TypeError, match=r"not known on fields.*u\.value"):
            function(x)
    assert torch.equal(functional.tanh(x).value, torch.tanh(x.value))
    assert torch.equal(torch.zeros_like(x), torch.zeros(4, dtype=torch.float64))


def test_fields_are_compared_point_by_point() -> None:
    x = coordinate(torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), 0, 1)
    c = torch.tensor([0.0, 2.0, 2.0], dtype=torch.float64)
    for equal in (x == c, c == x, torch.eq(x, c)):
        assert equal.tolist() == [True, False, False]
    for other in (x != c, c != x, torch.ne(x, c)):
        assert other.tolist() == [False, True, True]
    assert torch.where(x == 1, 7.0, x).value.tolist() == [0.0, 7.0, 3.0]


def test_a_derivative_that_was_not_recorded_is_refused() -> None:
    u = field(torch.zeros(2, 3, 1), ((), (0,)), 0, 2)
    assert d(u, 0).value.shape == (3,)
    for missing in (d(u, 1), laplacian(u)):
        with pytest.raises(ValueError, match="was not asked for when the problem was built"):
            _ = missing.value
