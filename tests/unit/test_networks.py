import math

import pytest
import torch

from sngd.domain import Box
from sngd.networks import MLP, SIREN, Network
from sngd.taylor import Laplacian, TaylorRules, close
from tests.reference import network_function, partial, relative_error

LINE = Box(x=(-1, 3))
STRIP = Box(x=(-1, 1), t=(0, 2), periodic="x")
EVERY = close({(0, 0, 1), (1, 1), Laplacian((0, 1))})


def channels(network: Network, x: torch.Tensor, wanted=EVERY, theta=None) -> torch.Tensor:
    theta = network.initial if theta is None else theta
    return network.forward(theta, network.embedding.channels(x, wanted), TaylorRules(wanted))


# ---------------------------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------------------------


def test_parameter_counts() -> None:
    burgers = MLP((20, 20, 20, 20)).build(STRIP, 1, 0)
    assert burgers.widths == (3, 20, 20, 20, 20, 1)
    assert burgers.parameters == 1361
    assert repr(burgers) == "Network(3-20-20-20-20-1, tanh, P=1,361)"
    assert MLP((32, 32, 32, 32)).build(Box(x=(0, 1), y=(0, 1)), 1, 0).parameters == 3297
    assert MLP((590,) * 4).build(Box(x=(0, 1), y=(0, 1)), 1, 0).parameters == 1_048_431
    assert MLP((7,)).build(STRIP, 3, 0).parameters == 3 * 7 + 7 + 7 * 3 + 3
    assert SIREN((7,), modes=4).build(STRIP, 1, 0).parameters == 9 * 7 + 7 + 7 + 1


def test_split_gives_views_of_the_flat_vector() -> None:
    network = MLP((4, 5)).build(STRIP, 2, 0)
    theta = torch.arange(network.parameters, dtype=torch.float64)
    weights, biases = network.split(theta)
    assert [tuple(w.shape) for w in weights] == [(4, 3), (5, 4), (2, 5)]
    assert [tuple(b.shape) for b in biases] == [(4,), (5,), (2,)]
    assert torch.equal(torch.cat([*(w.flatten() for w in weights), *biases]), theta)
    biases[1][0] = -1.0
    assert int((theta == -1).sum()) == 1
    slices = [*network.weight_slices, *network.bias_slices]
    assert [s.start for s in slices[1:]] == [s.stop for s in slices[:-1]]
    assert slices[-1].stop == network.parameters


def test_the_same_seed_gives_the_same_network_and_another_another() -> None:
    for config in (MLP((6, 6), fourier=4), SIREN((6, 6))):
        a, b, c = (config.build(STRIP, 1, seed) for seed in (3, 3, 4))
        assert torch.equal(a.initial, b.initial)
        assert not torch.equal(a.initial, c.initial)
        assert torch.equal(a.embedding.waves, b.embedding.waves)
    assert a.initial.dtype == torch.float64


def test_glorot_normal_weights_and_zero_biases() -> None:
    network = MLP((200, 100)).build(LINE, 1, 0)
    weights, biases = network.split(network.initial)
    assert all((b == 0).all() for b in biases)
    got = float(weights[1].std())
    assert abs(got - math.sqrt(2 / 300)) < 5 * math.sqrt(2 / 300) / math.sqrt(2 * weights[1].numel())
    assert abs(float(weights[1].mean())) < 5 * math.sqrt(2 / 300 / weights[1].numel())


def test_siren_weights_fill_their_intervals() -> None:
    network = SIREN((300, 300), omega=12.0).build(LINE, 1, 0)
    weights, biases = network.split(network.initial)
    assert network.activation == "sin"
    assert all((b == 0).all() for b in biases)
    for weight, bound in zip(weights, (12.0, math.sqrt(6 / 300), math.sqrt(6 / 300)), strict=True):
        assert 0.9 * bound < float(weight.abs().max()) <= bound
        assert abs(float(weight.std()) - bound / math.sqrt(3)) < 0.1 * bound


# ---------------------------------------------------------------------------------------------
# Embeddings
# ---------------------------------------------------------------------------------------------


def test_free_axes_are_mapped_to_minus_one_and_one() -> None:
    embedding = MLP((4,)).build(Box(x=(-1, 3), t=(10, 20)), 1, 0).embedding
    corners = torch.tensor([[-1.0, 10.0], [3.0, 20.0], [1.0, 15.0]], dtype=torch.float64)
    h = embedding.channels(corners, ((), (0,), (1,), (0, 0)))
    assert h[0].tolist() == [[-1, -1], [1, 1], [0, 0]]
    assert h[1].tolist() == [[0.5, 0]] * 3
    assert h[2].tolist() == [[0, 0.2]] * 3
    assert (h[3] == 0).all()


@pytest.mark.parametrize("config", [MLP((8, 7), modes=1), MLP((8,), "gelu", modes=3), SIREN((8,), modes=2)])
def test_periodic_to_every_order(config) -> None:
    domain = Box(x=(-1.5, 0.7), t=(0, 2), periodic="x")
    network = config.build(domain, 2, 1)
    theta = network.initial + 0.1
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    low, high, beyond = (torch.stack([torch.full_like(t, v), t], 1) for v in (-1.5, 0.7, 0.7 + 2.2))
    wanted = close({(0, 0, 0, 0), (0, 0, 1), Laplacian((0, 1))})
    at_low = channels(network, low, wanted, theta)
    for other in (high, beyond):
        assert relative_error(channels(network, other, wanted, theta), at_low) < 1e-12
    middle = channels(network, low + torch.tensor([0.9, 0.0], dtype=torch.float64), wanted, theta)
    assert relative_error(middle, at_low) > 1e-3  # and is not constant


def test_harmonics_resolve_their_frequencies() -> None:
    embedding = MLP((4,), modes=3).build(Box(x=(0, 2), periodic="x"), 1, 0).embedding
    x = torch.linspace(0, 2, 7, dtype=torch.float64).unsqueeze(1)
    h = embedding.channels(x, ((),))[0]
    want = [f(m * math.pi * x[:, 0]) for f in (torch.cos, torch.sin) for m in (1, 2, 3)]
    assert relative_error(h, torch.stack(want, 1)) < 1e-14


def test_fourier_features_replace_the_coordinates_but_not_the_harmonics() -> None:
    embedding = MLP((4,), fourier=5, fourier_scale=2.0, modes=2).build(STRIP, 1, 0).embedding
    assert embedding.features == 2 * (2 + 5)
    assert embedding.scale.shape == (2, 0)
    waves = embedding.waves
    assert (waves[1, :2] == 0).all()  # harmonics along x
    assert (waves[0, 2:] == 0).all()  # random waves along t alone: x would lose its period
    many = MLP((4,), fourier=4000, fourier_scale=2.0).build(LINE, 1, 0).embedding.waves
    # std fourier_scale per unit of the mapped axis, which is half a unit of x
    assert abs(float(many.std()) - 1.0) < 5 / math.sqrt(2 * 4000)


@pytest.mark.parametrize(
    "config",
    [
        MLP((6, 5)),
        MLP((6, 5), "silu", fourier=4),
        MLP((6,), "softplus", modes=2, fourier=3, fourier_scale=0.5),
        SIREN((6, 5), omega=3.0, modes=2),
    ],
)
@pytest.mark.parametrize("periodic", [(), ("x",), ("x", "t")])
def test_channels_of_every_kind_of_network_equal_nested_autograd(config, periodic) -> None:
    domain = Box(x=(-1, 1), t=(0, 2), periodic=periodic)
    network = config.build(domain, 2, 0)
    theta = network.initial + 0.1
    x = domain.interior.sample(0, 5, (0, 0, 0))
    got = channels(network, x, theta=theta)
    leaf = x.clone().requires_grad_()
    u = network_function(network)(theta, leaf)
    for j in range(2):
        for number, channel in enumerate(EVERY):
            if isinstance(channel, Laplacian):
                want = partial(u[:, j], leaf, 0, 0) + partial(u[:, j], leaf, 1, 1)
            else:
                want = partial(u[:, j], leaf, *channel)
            assert relative_error(got[number, :, j], want.detach()) < 1e-11, channel


def test_calling_a_network_gives_its_values() -> None:
    network = MLP((6, 5)).build(STRIP, 2, 0)
    x = STRIP.interior.sample(0, 5, (0, 0, 0))
    got = network(network.initial, x)
    assert got.shape == (5, 2)
    assert relative_error(got, network_function(network)(network.initial, x)) < 1e-14


def test_a_network_in_float32_computes_in_float32() -> None:
    network = MLP((16, 16), modes=2).build(STRIP, 1, 0)
    single = network.to(torch.float32, "cpu")
    x = STRIP.interior.sample(0, 50, (0, 0, 0))
    got = channels(single, x.float(), theta=network.initial.float())
    assert got.dtype == torch.float32
    assert relative_error(got, channels(network, x)) < 1e-4  # six digits less what third derivatives magnify
    assert network.embedding.scale.dtype == torch.float64


# ---------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(()), r"hidden=\(\) must be one or more whole numbers"),
        (lambda: MLP(32), r"hidden=32 must be one or more whole numbers ≥ 1, e\.g\. \(32, 32\)"),
        (lambda: MLP(modes="2"), "modes='2'"),
        (lambda: MLP(fourier=2.5), r"fourier=2\.5 must be a whole number"),
        (lambda: MLP(fourier_scale="1"), "fourier_scale='1' must be finite and > 0"),
        (lambda: SIREN(omega="4"), "omega='4'"),
        (lambda: MLP((3, 0)), r"hidden=\(3, 0\)"),
        (lambda: MLP((3.0,)), r"hidden=\(3\.0,\)"),
        (lambda: MLP(activation="relu"), "activation='relu' must be one of"),
        (lambda: MLP(modes=0), "modes=0 must be a whole number ≥ 1"),
        (lambda: MLP(fourier=-1), "fourier=-1 must be a whole number ≥ 0"),
        (lambda: MLP(fourier=3, fourier_scale=0.0), r"fourier_scale=0\.0"),
        (lambda: MLP(fourier_scale=math.nan), "fourier_scale=nan"),
        (lambda: SIREN(omega=0.0), r"omega=0\.0 must be finite and > 0"),
        (lambda: SIREN(omega=math.inf), "omega=inf"),
        (lambda: SIREN(()), "hidden="),
    ],
)
def test_bad_configurations_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_initial_parameters_of_another_size_are_refused() -> None:
    network = MLP((4,)).build(LINE, 1, 0)
    with pytest.raises(ValueError, match=r"must have shape \(13,\), got \(12,\)"):
        Network(network.embedding, network.widths, "tanh", network.initial[:-1])


def test_initial_values_as_torch_linear_draws_them():
    network = MLP(hidden=(50, 40), initialization="torch").build(Box(x=(0, 1), y=(0, 1)), 1, 3)
    weights, biases = network.split(network.initial)
    for weight, bias in zip(weights, biases, strict=True):
        bound = 1 / math.sqrt(weight.shape[1])
        for drawn in (weight, bias):
            assert float(drawn.abs().max()) <= bound
        if weight.numel() > 100:
            assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.15)
        assert bool((bias != 0).all())
    with pytest.raises(ValueError, match="initialization='xavier' must be"):
        MLP(initialization="xavier")
