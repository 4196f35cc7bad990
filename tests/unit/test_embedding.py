"""Networks that read some axes alone, and fields that are even about the middle of an axis."""

import pytest
import torch

from sngd import MLP, SIREN, GatedMLP, PirateNet, Separable
from sngd.domain import Box
from sngd.embedding import embed
from sngd.taylor import Laplacian, TaylorRules, close
from tests.reference import network_function, partial, relative_error

WANTED = close({(0, 0, 0), (0, 0, 1), (1, 1), Laplacian((0, 1))})
CONFIGS = [MLP((7, 6), modes=2), MLP((7,), fourier=5), SIREN((6,)), PirateNet(6, blocks=1), GatedMLP(5, 1)]


def channels(network, x, theta):
    rules = TaylorRules(WANTED)
    return network.forward(theta, network.embed(x, WANTED), rules)


@pytest.mark.parametrize("periodic", [(), ("x",)])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_even_to_every_order(config, periodic) -> None:
    """u(x₀ + s, t) = u(x₀ − s, t), and derivatives of odd order in x change sign."""
    domain = Box(even="x", x=(-1.5, 0.7), t=(0, 2), periodic=periodic)
    network = config.build(domain, 2, 1)
    theta = network.initial + 0.1
    generator = torch.Generator().manual_seed(0)
    s, t = torch.rand(2, 30, generator=generator, dtype=torch.float64)
    right, left = (torch.stack([-0.4 + sign * 1.1 * s, 2 * t], dim=1) for sign in (1, -1))
    here, there = channels(network, right, theta), channels(network, left, theta)
    for number, channel in enumerate(WANTED):
        sign = -1 if not isinstance(channel, Laplacian) and channel.count(0) % 2 else 1
        assert relative_error(sign * there[number], here[number]) < 1e-12, channel
    # t is not even, and the halves of x are not constant
    assert relative_error(channels(network, right.flip(0), theta)[0], here[0]) > 1e-2
    far = torch.stack([right[:, 0], 2 - right[:, 1]], dim=1)
    assert relative_error(channels(network, far, theta)[0], here[0]) > 1e-2


def test_an_even_axis_keeps_the_points_of_a_half_apart_and_its_slope_at_the_ends() -> None:
    embedding = embed(Box(even="x", x=(1, 3)), 1)
    assert embedding.features == 1
    x = torch.linspace(2, 3, 50, dtype=torch.float64).unsqueeze(1)
    value, slope = embedding.channels(x, ((), (0,)))[..., 0]
    assert bool((value.diff() < 0).all())
    assert slope[0] == 0
    assert slope[-1] < -1


def test_an_even_periodic_axis_has_cosines_alone() -> None:
    embedding = embed(Box(even="x", x=(0, 2), t=(0, 1), periodic="x"), 3)
    assert embedding.features == 1 + 3
    x = torch.tensor([[0.3, 0.5]], dtype=torch.float64)
    phase = torch.pi * (0.3 - 1) * torch.arange(1, 4, dtype=torch.float64)
    assert relative_error(embedding.channels(x, ((),))[0, 0, 1:], torch.cos(phase)) < 1e-14


@pytest.mark.parametrize("config", [MLP((6,), modes=2), SIREN((5,))], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("even", ["x", ("x", "t")])
def test_channels_of_even_fields_equal_nested_autograd(config, even) -> None:
    domain = Box(even=even, x=(-1, 2), t=(0, 1), periodic="x")
    network = config.build(domain, 1, 0)
    theta, leaf = network.initial + 0.1, domain.interior.sample(0, 4, (0, 0, 0)).requires_grad_()
    got = channels(network, leaf.detach(), theta)
    u = network_function(network)(theta, leaf)[:, 0]
    for number, channel in enumerate(WANTED):
        if isinstance(channel, Laplacian):
            want = partial(u, leaf, 0, 0) + partial(u, leaf, 1, 1)
        else:
            want = partial(u, leaf, *channel)
        assert relative_error(got[number, :, 0], want.detach()) < 1e-11, channel


@pytest.mark.parametrize(
    "config",
    [
        MLP((6, 5), axes=("x",)),
        SIREN((6,), axes=("x",)),
        PirateNet(4, axes=("x",)),
        Separable((4,), axes=("x",)),
    ],
    ids=lambda c: type(c).__name__,
)
def test_a_network_that_reads_one_axis_is_constant_along_the_others(config) -> None:
    network = config.build(Box(x=(0, 1), t=(0, 2)), 1, 0)
    theta, s = network.initial + 0.1, torch.linspace(0, 1, 9, dtype=torch.float64)
    a, b = (torch.stack([s, t], dim=1) for t in (0 * s, 2 * s))
    here, there = channels(network, a, theta), channels(network, b, theta)
    assert torch.equal(here, there)
    for number, channel in enumerate(WANTED):
        along = not isinstance(channel, Laplacian) and 1 in channel
        assert bool((here[number] == 0).all()) == along, channel


def test_axes_are_those_of_the_domain() -> None:
    with pytest.raises(
        ValueError, match=r"axes=\('y',\) of a network must be of the domain's axes \('x', 't'\)"
    ):
        MLP((4,), axes=("y",)).build(Box(x=(0, 1), t=(0, 2)), 1, 0)
    wide = MLP((4,), axes=("t",), fourier=3).build(Box(x=(0, 1), t=(0, 2), periodic="x"), 1, 0)
    assert wide.widths == (6, 4, 1)
    assert not wide.embedding.waves[0].any()
