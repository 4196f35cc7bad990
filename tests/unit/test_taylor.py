"""Taylor channels through a network: their closure, their rules, and autograd's word on both."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sngd.activations import NETWORK_ACTIVATIONS
from sngd.domain import Box
from sngd.networks import MLP
from sngd.taylor import Channel, Laplacian, TaylorRules, close
from tests.reference import PLAIN_FUNCTIONS, network_function, partial, relative_error

CHANNEL_SETS: dict[str, set[Channel]] = {
    "values": {()},
    "order 1": {(0,), (2,)},
    "order 2": {(0, 0), (0, 1), (2, 2)},
    "order 3": {(0, 0, 0), (0, 1, 2), (1, 1, 2)},
    "order 4": {(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 2, 2), (0, 1, 1, 1)},
    "laplacian": {Laplacian((0, 1, 2))},
    "laplacian of apart axes": {Laplacian((0, 2)), (1,)},
    "laplacians and others": {Laplacian((0, 1)), Laplacian((0, 1, 2)), (2, 2), (0, 1, 1)},
    "slopes of a laplacian": {Laplacian((0, 1), 1, (0,)), Laplacian((0, 1), 1, (2, 2)), Laplacian((0, 2))},
    "biharmonic": {Laplacian((0, 2), 2)},
    "biharmonics and others": {Laplacian((0, 1, 2), 2), Laplacian((0, 2)), (1,), (0, 0, 1)},
    "laplacians that are sums of others": {
        Laplacian((0, 1)),
        Laplacian((0, 1), 1, (1,)),
        (0, 0, 1),
        (1, 1, 1),
    },
}
# more axes than are accumulated one by one, and a number that blocks of channels do not divide
MANY_AXES = 35


def derivative(values: Tensor, x: Tensor, channel: Channel) -> Tensor:
    """A channel of values (n,) by nested autograd."""
    if isinstance(channel, Laplacian):
        for _ in range(channel.power):
            values = torch.stack([partial(values, x, i, i) for i in channel.axes]).sum(0)
        return partial(values, x, *channel.along)
    return partial(values, x, *channel)


# ---------------------------------------------------------------------------------------------
# Channels
# ---------------------------------------------------------------------------------------------


def test_close_adds_what_the_chain_rule_needs_in_order() -> None:
    assert close(set()) == ((),)
    assert close({(0, 1, 1)}) == ((), (0,), (1,), (0, 1), (1, 1), (0, 1, 1))
    assert close({Laplacian((0, 2)), (1,)}) == ((), (0,), (1,), (2,), Laplacian((0, 2)))
    plain = ((), (0,), (1,), (0, 0), (0, 1), (1, 1))
    slopes = [Laplacian((0, 1), 1, (i,)) for i in (0, 1)]
    assert close({Laplacian((0, 1), 2)}) == (*plain, *slopes, Laplacian((0, 1), 2))


def test_close_leaves_out_what_is_the_sum_of_other_channels() -> None:
    assert close({Laplacian((0, 1)), (0, 0), (1, 1)}) == ((), (0,), (1,), (0, 0), (1, 1))
    assert Laplacian((0, 1)) in close({Laplacian((0, 1)), (0, 0)})
    assert close({Laplacian((0, 1), 2)}) == close({Laplacian((0, 1), 2), Laplacian((0, 1)), (0, 1)})
    fourths = {(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1)}
    assert close({Laplacian((0, 1), 2), *fourths}) == close(fourths | {(0, 0, 1), (0, 1, 1)})


@given(st.sets(st.lists(st.integers(0, 3), max_size=4).map(lambda a: tuple(sorted(a))), max_size=4))
def test_close_is_the_smallest_set_closed_under_dropping_an_axis(requested: set[tuple[int, ...]]) -> None:
    got = close(set(requested))
    assert len(set(got)) == len(got)
    assert requested <= set(got)
    for alpha in got:
        dropped = {alpha[:i] + alpha[i + 1 :] for i in range(len(alpha))}
        assert dropped <= set(got)
        assert not alpha or any(Counter(alpha) <= Counter(r) for r in requested)


def test_rules_need_the_value_first() -> None:
    for channels in ((), ((0,), ())):
        with pytest.raises(ValueError, match=r"must start with the value \(\)"):
            TaylorRules(channels)


@pytest.mark.parametrize("activation", sorted(NETWORK_ACTIVATIONS))
@pytest.mark.parametrize("name", CHANNEL_SETS)
def test_network_channels_equal_nested_autograd(name: str, activation: str) -> None:
    network = MLP((6, 5), activation).build(Box(x=(-1, 2), y=(0, 1), t=(0, 3)), 2, seed=1)
    theta = network.initial + 0.3 * torch.randn_like(network.initial)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    channels = close(CHANNEL_SETS[name])
    rules = TaylorRules(channels)
    got = network.forward(theta, network.embedding.channels(x, channels), rules)

    leaf = x.clone().requires_grad_()
    u = network_function(network)(theta, leaf)
    assert got.shape == (len(channels), 5, 2)
    for number, channel in enumerate(channels):
        for component in range(2):
            want = derivative(u[:, component], leaf, channel).detach()
            error = relative_error(got[number, :, component], want)
            assert error < 1e-11, f"{channel}, component {component}: {error}"


def test_the_recorded_forward_pass_is_the_forward_pass() -> None:
    network = MLP((6, 5), "silu").build(Box(x=(-1, 2), t=(0, 1)), 2, seed=1)
    x = torch.rand(5, 2, dtype=torch.float64)
    rules = TaylorRules(close({(0, 0, 1), Laplacian((0, 1))}))
    h = network.embedding.channels(x, rules.channels)
    tape = network.record(network.initial, h, rules)
    assert relative_error(tape.output, network.forward(network.initial, h, rules)) < 1e-15
    # `derivatives` reaches one order further than the forward pass needs: the reverse pass takes it
    assert all(len(f) == rules.order + 2 for f in tape.derivatives)


def compose_naively(channels: tuple[Channel, ...], f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Channels of f∘z at 0 without Faà di Bruno: derivatives at x = 0 of f(Σ_α z_α x^α/α!).

    z (C, m). Of a collapsed channel the z_α are any whose sum it is: here the smallest.
    """
    x = torch.zeros(z.shape[1], MANY_AXES, dtype=z.dtype, requires_grad=True)

    def polynomial(coefficients: dict[tuple[int, ...], Tensor]) -> Tensor:
        total = torch.zeros(z.shape[1], dtype=z.dtype)
        for alpha, coefficient in coefficients.items():
            factor = math.prod(math.factorial(many) for many in Counter(alpha).values())
            monomial = torch.ones(z.shape[1], dtype=z.dtype)
            for axis in alpha:
                monomial = monomial * x[:, axis]
            total = total + coefficient * monomial / factor
        return total

    plain = {c: z[i] for i, c in enumerate(channels) if not isinstance(c, Laplacian)}
    collapsed = [c for c in channels if isinstance(c, Laplacian)]
    result = []
    for channel in channels:
        related = [c for c in collapsed if isinstance(channel, Laplacian) and c.axes == channel.axes]
        unknown = sorted({alpha for c in related for alpha in terms_of(c)} - set(plain))
        system = torch.zeros(len(related), len(unknown), dtype=z.dtype)
        sums = []
        for row, c in enumerate(related):
            known = torch.zeros_like(z[0])
            for alpha in terms_of(c):
                if alpha in plain:
                    known = known + plain[alpha]
                else:
                    system[row, unknown.index(alpha)] += 1
            sums.append(z[channels.index(c)] - known)
        found = torch.linalg.pinv(system) @ torch.stack(sums) if sums else z[:0]
        inner = polynomial(plain | dict(zip(unknown, found, strict=True)))
        result.append(derivative(f(inner), x, channel))
    return torch.stack(result)


def terms_of(channel: Laplacian) -> list[tuple[int, ...]]:
    """The derivatives that a collapsed channel sums up, repeated as often as they appear."""
    sums = [channel.along]
    for _ in range(channel.power):
        sums = [tuple(sorted((*alpha, i, i))) for alpha in sums for i in channel.axes]
    return sums


@pytest.mark.parametrize("activation", sorted(NETWORK_ACTIVATIONS))
@pytest.mark.parametrize("name", CHANNEL_SETS)
def test_rules_forwards_and_backwards_equal_autograd(name: str, activation: str) -> None:
    channels = close(CHANNEL_SETS[name])
    rules = TaylorRules(channels)
    generator = torch.Generator().manual_seed(3)
    n, q, width = 2, 2, 3
    z = torch.randn(len(channels), n, width, generator=generator, dtype=torch.float64)
    h_bar = torch.randn(len(channels), n, q, width, generator=generator, dtype=torch.float64)
    f = NETWORK_ACTIVATIONS[activation](z[0], rules.order + 1)

    leaf = z.flatten(1).requires_grad_()
    naive = compose_naively(channels, PLAIN_FUNCTIONS[activation], leaf)
    assert relative_error(rules.forward(z, f), naive.detach().view_as(z)) < 1e-11

    got = rules.backward(z, f, h_bar)
    assert got.shape == h_bar.shape
    for j in range(q):
        (want,) = torch.autograd.grad(naive, leaf, h_bar[:, :, j].flatten(1), retain_graph=True)
        assert relative_error(got[:, :, j], want.view_as(z)) < 1e-11


@pytest.mark.parametrize("dim", [7, MANY_AXES])
def test_a_laplacian_of_many_axes_equals_nested_autograd(dim: int) -> None:
    box = Box(periodic=(), **{f"x{i}": (-1, 1 + i) for i in range(dim)})
    network = MLP((6, 5)).build(box, 1, seed=2)
    x = box.interior.sample(0, 4, (0, 0, 0), "uniform")
    channels = close({Laplacian(tuple(range(dim)))})
    assert len(channels) == dim + 2
    got = network.forward(network.initial, network.embedding.channels(x, channels), TaylorRules(channels))
    leaf = x.clone().requires_grad_()
    u = network_function(network)(network.initial, leaf)[:, 0]
    for number, channel in enumerate(channels):
        assert relative_error(got[number, :, 0], derivative(u, leaf, channel).detach()) < 1e-11


def test_rules_of_many_axes_forwards_and_backwards_equal_autograd() -> None:
    channels = close({Laplacian(tuple(range(MANY_AXES))), Laplacian((0, 1, 32, 34))})
    rules = TaylorRules(channels)
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(len(channels), 2, 3, generator=generator, dtype=torch.float64)
    h_bar = torch.randn(len(channels), 2, 2, 3, generator=generator, dtype=torch.float64)
    f = NETWORK_ACTIVATIONS["tanh"](z[0], rules.order + 1)
    leaf = z.flatten(1).requires_grad_()
    naive = compose_naively(channels, torch.tanh, leaf)
    assert relative_error(rules.forward(z, f), naive.detach().view_as(z)) < 1e-11
    got = rules.backward(z, f, h_bar)
    for j in range(2):
        (want,) = torch.autograd.grad(naive, leaf, h_bar[:, :, j].flatten(1), retain_graph=True)
        assert relative_error(got[:, :, j], want.view_as(z)) < 1e-11


def test_rules_leave_their_arguments_alone() -> None:
    channels = close({(0, 0, 1, 1), Laplacian((0, 1))})
    rules = TaylorRules(channels)
    z = torch.randn(len(channels), 4, 3, dtype=torch.float64)
    f = NETWORK_ACTIVATIONS["tanh"](z[0], rules.order + 1)
    h_bar = torch.randn(len(channels), 4, 2, 3, dtype=torch.float64)
    before = [t.clone() for t in (z, h_bar, *f)]
    rules.forward(z, f)
    rules.backward(z, f, h_bar)
    assert all(torch.equal(a, b) for a, b in zip(before, (z, h_bar, *f), strict=True))
