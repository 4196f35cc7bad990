"""Architectures beyond the multilayer perceptron: values, derivatives, Jacobian, initial parameters."""

import dataclasses
import math
from functools import cache

import pytest
import torch

from sngd import MLP, Gabor, GatedMLP, PirateNet, ResidualMLP, Separable
from sngd.composite import Composite, Constants
from sngd.domain import Box
from sngd.export import export_network
from sngd.jacobian import FactoredJacobian
from sngd.networks import NetworkConfig
from sngd.taylor import Laplacian, TaylorRules, close, parts
from tests import reference
from tests.naive_networks import naive_network
from tests.problems import CASES, Case, parameters
from tests.reference import partial, relative_error

CONFIGS: dict[str, NetworkConfig] = {
    "factorized": MLP((6, 5), modes=2, weight_factorization=True),
    "gated": GatedMLP(6, layers=2),
    "gated factorized": GatedMLP(5, layers=2, activation="silu", weight_factorization=True),
    "pirate": PirateNet(6, blocks=2),
    "pirate factorized": PirateNet(4, blocks=1, activation="sin", weight_factorization=True),
    "residual": ResidualMLP(6, layers=3, activation="gelu", modes=2),
    "residual fourier": ResidualMLP(6, layers=2, fourier=True),
    "gabor": Gabor(5, layers=2),
    "separable": Separable((5, 4), rank=3),
    "separable factorized": Separable((4,), rank=2, weight_factorization=True),
}
BOX = Box(x=(-1, 2), t=(0, 1))
STRIP = Box(x=(-1, 1), t=(0, 2), periodic="x")
# fourth derivatives, mixed ones, the collapsed Laplacian; and the biharmonic Δ² with what it needs
WANTED = {(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 1), Laplacian((0, 1))}
COLLAPSED = {Laplacian((0, 1), 2)}


def start(network, seed: int = 0) -> torch.Tensor:
    """Parameters away from the initial ones, where many are zero."""
    noise = torch.randn(
        network.parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return network.initial + 0.2 * noise


def channels(network, theta, x, wanted):
    rules = TaylorRules(close(wanted))
    return network.forward(theta, network.embed(x, rules.channels), rules), rules.channels


# ---------------------------------------------------------------------------------------------
# Values and derivatives
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", [BOX, STRIP], ids=["box", "strip"])
@pytest.mark.parametrize("name", CONFIGS)
def test_channels_equal_nested_autograd_on_the_definition(name: str, domain: Box) -> None:
    network = CONFIGS[name].build(domain, 2, 1)
    theta, x = start(network), domain.interior.sample(0, 3, (0, 0, 0))
    leaf = x.clone().requires_grad_()
    u = naive_network(CONFIGS[name], domain, 2)(theta, leaf)
    for wanted in (WANTED, COLLAPSED):
        got, kinds = channels(network, theta, x, wanted)
        for number, channel in enumerate(kinds):
            terms = parts(channel) if isinstance(channel, Laplacian) else {channel: 1}
            for j in range(2):
                want = sum(many * partial(u[:, j], leaf, *alpha) for alpha, many in terms.items())
                assert relative_error(got[number, :, j], want.detach()) < 1e-9, channel
    assert relative_error(network(theta, x), u.detach()) < 1e-12


@pytest.mark.parametrize("name", CONFIGS)
def test_recording_gives_the_same_output(name: str) -> None:
    network = CONFIGS[name].build(STRIP, 2, 1)
    theta, rules = start(network), TaylorRules(close(WANTED))
    h = network.embed(STRIP.interior.sample(0, 4, (0, 0, 0)), rules.channels)
    tape = network.record(theta, h, rules)
    assert torch.equal(tape.output.detach(), network.forward(theta, h, rules))
    assert [t.shape[2] for t in tape.inputs] == [i for _, i in network.shapes]
    assert not any(t.requires_grad for t in tape.inputs)


@pytest.mark.parametrize("name", CONFIGS)
def test_in_float32(name: str) -> None:
    network = CONFIGS[name].build(STRIP, 1, 0)
    single, theta = network.to(torch.float32, "cpu"), start(network)
    x = STRIP.interior.sample(0, 20, (0, 0, 0))
    got, _ = channels(single, theta.float(), x.float(), {(0, 0), (1,)})
    assert got.dtype == torch.float32
    assert relative_error(got, channels(network, theta, x, {(0, 0), (1,)})[0]) < 1e-5
    assert network.embedding.scale.dtype == torch.float64


# ---------------------------------------------------------------------------------------------
# The Jacobian
# ---------------------------------------------------------------------------------------------


def case_of(problem: str, name: str) -> Case:
    return dataclasses.replace(CASES[problem](9), network=CONFIGS[name])


@cache
def dense(problem: str, name: str) -> torch.Tensor:
    case = case_of(problem, name)
    collocation = case.collocation()
    u = naive_network(case.network, case.problem.domain, len(case.problem.fields))
    return reference.jacobian(collocation, case.naive, parameters(collocation), u)


def factored(problem: str, name: str, chunk=None, dtype=None, **split: int) -> FactoredJacobian:
    collocation = case_of(problem, name).collocation(chunk, **split)
    return FactoredJacobian(collocation, parameters(collocation), collocation.scale, dtype=dtype)


# a periodic axis; the collapsed Laplacian; two fields, two components and third derivatives
@pytest.mark.parametrize("problem", ["burgers", "poisson", "system"])
@pytest.mark.parametrize("name", CONFIGS)
def test_factors_give_the_jacobian_of_the_definition(name: str, problem: str) -> None:
    want = dense(problem, name)
    for chunk in (None, 4):
        j = factored(problem, name, chunk)
        assert relative_error(j.dense(), want) < 1e-11
        v, w = (torch.linspace(-1, 2, size, dtype=torch.float64).sin() for size in (j.shape[1], j.shape[0]))
        assert relative_error(j.matmul(v), want @ v) < 1e-11
        assert relative_error(j.rmatmul(w), want.T @ w) < 1e-11
        columns = torch.stack([v, v.cos()], dim=1)
        assert relative_error(j.normal_matmul(columns), want.T @ (want @ columns)) < 1e-11
    for column in range(want.shape[1]):  # every parameter matters, so that none is left out unseen
        assert want[:, column].abs().max() > 0, column


@pytest.mark.parametrize("name", CONFIGS)
def test_shards_add_up_and_float32_rounds(name: str) -> None:
    want = dense("burgers", name)
    shards = [factored("burgers", name, chunk=2, rank=r, ranks=3).dense() for r in range(3)]
    assert relative_error(sum(s.T @ s for s in shards), want.T @ want) < 1e-11
    single = factored("burgers", name, dtype=torch.float32).dense()
    assert single.dtype == torch.float32
    assert relative_error(single, want) < 1e-5


def test_beside_unknown_coefficients_and_other_networks() -> None:
    pirate, plain = PirateNet(4, blocks=1).build(BOX, 1, 0), MLP((4,), axes=("x",)).build(BOX, 1, 1)
    both = Composite([pirate, plain, Constants(torch.tensor([2.0], dtype=torch.float64))])
    theta, rules = start(both), TaylorRules(close({(0, 0), (1,)}))
    h = both.embed(BOX.interior.sample(0, 5, (0, 0, 0)), rules.channels)
    tape = both.record(theta, h, rules)
    d_out = torch.randn(*tape.output.shape[:2], 2, 3, dtype=torch.float64)
    got = both.pull_back(theta, tape, d_out, rules)
    parts = theta.split([pirate.parameters, plain.parameters, 1])
    first = pirate.pull_back(parts[0], pirate.record(parts[0], h[0], rules), d_out[..., :1], rules)
    assert len(got) == len(both.shapes) == len(first) + 3
    for mine, alone in zip(got, first, strict=False):
        assert torch.equal(mine, alone)
    assert torch.equal(got[-1], d_out[:1, ..., 2:])


# ---------------------------------------------------------------------------------------------
# Initial parameters
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_the_seed_names_the_parameters(name: str) -> None:
    a, b, c = (CONFIGS[name].build(STRIP, 1, seed).initial for seed in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.dtype == torch.float64
    assert torch.isfinite(a).all()


def test_what_networks_say_of_themselves() -> None:
    said = {
        GatedMLP(8, layers=2): "GatedMLP(2-8-8-1, tanh, P=153)",  # 2 · 24 gates, 24 + 72, 9
        PirateNet(8, blocks=2): "PirateNet(2-8-1, blocks=2, tanh, P=599)",  # 12 + 8·72 + 2 + 9
        ResidualMLP(8, layers=2, fourier=True): "ResidualMLP(2-8-8-1, tanh, Fourier features, P=93)",
        Gabor(8, layers=2): "Gabor(2-8-8-1, P=177)",  # 2 (16 + 8 + 24) + 72 + 9
        Separable((8,), rank=4): "Separable(2 axes × 8, rank=4, tanh, P=104)",  # 2 (16 + 36)
        MLP((8, 8), weight_factorization=True): "MLP(2-8-8-1, tanh, factorised weights, P=122)",
    }
    for config, text in said.items():
        assert repr(config.build(BOX, 1, 0)) == text


def test_a_factorised_weight_starts_as_the_plain_one() -> None:
    plain, factorized = (MLP((30, 20), weight_factorization=on).build(BOX, 1, 5) for on in (False, True))
    x = BOX.interior.sample(0, 9, (0, 0, 0))
    assert relative_error(factorized(factorized.initial, x), plain(plain.initial, x)) < 1e-13
    assert factorized.parameters == plain.parameters + 30 + 20 + 1
    scales = torch.cat([b for b, (_, i) in zip(*_biases(factorized), strict=True) if i == 0])
    assert abs(float(scales.mean()) - 1) < 5 * 0.1 / math.sqrt(len(scales))
    assert 0.05 < float(scales.std()) < 0.2


def _biases(network):
    return network.split(network.initial)[1], network.shapes


def test_a_pirate_net_starts_linear_in_its_features() -> None:
    """Its blocks do nothing until their shares α leave 0."""
    network = PirateNet(16, blocks=3).build(BOX, 1, 0)
    theta, x = network.initial.clone(), BOX.interior.sample(0, 9, (0, 0, 0))
    before = network(theta, x)
    inside = [i for i, shape in enumerate(network.shapes) if shape == (16, 16)]
    assert len(inside) == 2 + 3 * 3
    for layer in inside:
        theta[network.weight_slices[layer]] += 0.3
    assert torch.equal(network(theta, x), before)
    shares = [i for i, shape in enumerate(network.shapes) if shape == (1, 0)]
    assert len(shares) == 3
    theta[network.bias_slices[shares[1]]] = 0.1
    assert relative_error(network(theta, x), before) > 1e-3


def test_a_separable_network_is_a_sum_of_products() -> None:
    """The values on a grid are a matrix of rank 3, and every field has products of its own."""
    network = Separable((6, 6), rank=3).build(BOX, 2, 0)
    s = torch.linspace(0, 1, 12, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(3 * s - 1, s, indexing="ij"), dim=2).view(-1, 2)
    u = network(start(network), grid).view(12, 12, 2)
    for field in u.unbind(2):
        sigma = torch.linalg.svdvals(field)
        assert sigma[3] < 1e-12 * sigma[0] < sigma[2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GatedMLP(hidden=0), "hidden=0 must be a whole number ≥ 1"),
        (lambda: GatedMLP(activation="relu"), "activation='relu' must be one of"),
        (lambda: PirateNet(hidden=7), "hidden=7 must be even"),
        (lambda: PirateNet(blocks=0), "blocks=0 must be a whole number ≥ 1"),
        (lambda: PirateNet(fourier_scale=0.0), r"fourier_scale=0\.0 must be finite and > 0"),
        (lambda: ResidualMLP(hidden=5, fourier=True), "hidden=5 must be even with fourier=True"),
        (lambda: Gabor(precision=-1.0), r"precision=-1\.0 must be finite and > 0"),
        (lambda: Gabor(frequency=math.inf), "frequency=inf must be finite"),
        (lambda: ResidualMLP(fourier_scale=math.inf), "fourier_scale=inf must be finite"),
        (lambda: Separable(hidden=32), r"hidden=32 must be one or more .* e\.g\. \(24, 24\)"),
        (lambda: Separable(hidden=()), r"hidden=\(\) must be one or more whole numbers"),
        (lambda: Separable(rank=0), "rank=0 must be a whole number ≥ 1"),
        (lambda: GatedMLP(axes=("z",)).build(BOX, 1, 0), r"axes=\('z',\) .* domain's axes \('x', 't'\)"),
    ],
)
def test_bad_configurations_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 traces nothing that is vmapped")
def test_an_exported_network_takes_any_number_of_points(tmp_path) -> None:
    problem = CASES["burgers"](9).problem
    network = PirateNet(4, blocks=1).build(problem.domain, 1, 0)
    theta = start(network)
    path = export_network(problem, network, theta, tmp_path / "network.pt2")
    program = torch.export.load(path).module()
    for points in (1, 7):
        x = problem.domain.interior.sample(0, points, (0, 0, 0))
        assert relative_error(program(x).detach(), network(theta, x)) < 1e-13
