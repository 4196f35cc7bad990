"""The general path: any torch module, held against nested autograd and against the factored path."""

import dataclasses
from unittest.mock import patch

import numpy as np
import pytest
import torch

from sngd import ENGD, ENGDW, LBFGS, MLP, SNGD, SPRING, Adam, Box, Module, RunConfig, SSBroyden
from sngd.collectives import LocalRanks
from sngd.general import GeneralNetwork
from sngd.gram import Layout, form_kernel
from sngd.jacobian import FactoredJacobian
from sngd.memory import Plan
from sngd.nests import make_recipe
from sngd.networks import Network
from sngd.objective import Objective
from sngd.problems import heat
from sngd.taylor import Laplacian, TaylorRules, close
from sngd.training import train
from tests import reference, thread_ranks
from tests.modules import MODULES, Normed, dense
from tests.problems import CASES, parameters
from tests.reference import network_function, partial, relative_error

CPU = torch.device("cpu")
STRIP = Box(x=(-1, 1), t=(0, 2), periodic="x")
EVERY = close({(0, 0, 0, 1), (0, 0, 1, 1), (1, 1, 1), Laplacian((0, 1))})


def _case(name, module="normed", path="auto"):
    return dataclasses.replace(CASES[name](), network=Module(MODULES.get(module, dense), path=path))


# ---------------------------------------------------------------------------------------------
# Channels
# ---------------------------------------------------------------------------------------------


def _partial(u, x, channel):
    if isinstance(channel, Laplacian):
        return sum(partial(u, x, axis, axis) for axis in channel.axes)
    return partial(u, x, *channel)


@pytest.mark.parametrize("module", MODULES)
def test_derivatives_to_the_fourth_equal_nested_autograd(module):
    network = Module(MODULES[module]).build(STRIP, 2, 3)
    assert isinstance(network, GeneralNetwork)
    theta = network.initial + 0.1
    x = STRIP.interior.sample(0, 4, (0, 0, 0))
    got = network.forward(theta, network.embed(x, EVERY), TaylorRules(EVERY))
    assert got.shape == (len(EVERY), 4, 2)
    leaf = x.clone().requires_grad_()
    u = network_function(network)(theta, leaf)
    for j in range(2):
        for number, channel in enumerate(EVERY):
            want = _partial(u[:, j], leaf, channel).detach()
            assert relative_error(got[number, :, j], want) < 1e-10, channel
    assert torch.equal(network(theta, x), network.forward(theta, x, TaylorRules(((),)))[0])


def test_a_nest_goes_along_derivatives_that_no_other_one_gives():
    recipe = make_recipe(close({(0, 0, 0), (0, 1), Laplacian((0, 1))}))
    assert recipe.groups == (((0, 0, 0),), ((0, 1), (1, 1)))
    assert recipe.evaluations == 1 + 7 + 1 + 2 * 3
    assert make_recipe(((),)).evaluations == 1


def test_a_module_that_does_not_depend_on_a_coordinate_has_no_derivative_along_it():
    class First(Normed):
        def forward(self, x):
            return super().forward(x[:, :1])

    network = Module(lambda inputs, outputs: First(1, outputs)).build(Box(x=(0, 1), y=(0, 1)), 1, 0)
    wanted = close({(0, 0), (0, 1), (1, 1)})
    x = torch.rand(3, 2, dtype=torch.float64)
    z = network.forward(network.initial, x, TaylorRules(wanted))
    for channel, values in zip(wanted, z, strict=True):
        assert bool((values == 0).all()) == (1 in channel), channel


# ---------------------------------------------------------------------------------------------
# Rows of J
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "module"),
    [
        *[("poisson", module) for module in MODULES],
        ("system", "attention"),
        ("burgers", "convolution"),
        ("diffusion", "normed"),
        ("plate", "normed"),
    ],
)
def test_rows_of_the_jacobian_equal_nested_autograd(name, module):
    case = _case(name, module)
    collocation = case.collocation()
    theta = parameters(collocation)
    j = FactoredJacobian(collocation, theta, collocation.scale)
    want = reference.jacobian(collocation, case.naive, theta)
    assert relative_error(j.dense(), want) < 1e-9
    residual = collocation.scale * collocation.residual(theta)
    assert relative_error(residual, reference.residual(collocation, case.naive, theta).detach()) < 1e-10
    raw, gradient = j.residual_and_gradient()
    assert relative_error(gradient, want.T @ (collocation.scale * raw)) < 1e-10
    v = torch.randn(j.shape[1], 3, dtype=torch.float64)
    assert relative_error(j.matmul(v), want @ v) < 1e-9
    assert relative_error(j.matmul(v[:, 0]), want @ v[:, 0]) < 1e-9
    assert relative_error(j.normal_matmul(v), want.T @ (want @ v)) < 1e-9


def test_points_that_go_through_at_once_change_nothing():
    case = _case("poisson", "attention")
    collocation = case.collocation()
    theta = parameters(collocation)
    whole = FactoredJacobian(collocation, theta, collocation.scale).dense()
    with patch.object(GeneralNetwork, "_points_at_once", lambda *sizes: 5):
        pieces = FactoredJacobian(collocation, theta, collocation.scale).dense()
    assert relative_error(pieces, whole) < 1e-13


def test_more_derivatives_and_longer_rows_leave_room_for_fewer_points():
    network = Module(Normed).build(STRIP, 1, 0)
    x = torch.zeros(1, 2, dtype=torch.float64)
    low, high = make_recipe(close({(0,)})), make_recipe(close({(0, 0, 1, 1)}))
    at_once = network._points_at_once
    assert at_once(low, x) > 5 * at_once(high, x) > 5 * at_once(high, x, 10**5) > 0
    assert at_once(low, x, 10**9) == 1
    # inputs of linear layers, of tanh, LayerNorm and GELU, the gate's factor; no weights
    assert 3 + 5 * 6 <= network._saved_of_a_point(x) <= 3 + 10 * 6


def test_single_precision_computes_in_single_precision():
    network = Module(MODULES["attention"]).build(STRIP, 1, 0)
    single = network.to(torch.float32, "cpu")
    x = STRIP.interior.sample(0, 50, (0, 0, 0))
    rules = TaylorRules(close({(0, 0)}))
    got = single.forward(network.initial.float(), x.float(), rules)
    assert got.dtype == torch.float32
    assert relative_error(got, network.forward(network.initial, x, rules)) < 1e-4
    tape = single.record(network.initial.float(), x.float(), rules)
    (rows,) = single.pull_back(network.initial.float(), tape, got.unsqueeze(2), rules)
    assert rows.dtype == torch.float32
    assert network.initial.dtype == torch.float64
    assert next(network.module.parameters()).dtype == torch.float64


# ---------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------

SMALL = {"max_steps": 5, "evaluate_points": 100, "device": "cpu", "memory_gb": 0.5}


class Records:
    def __init__(self):
        self.losses = []

    def step(self, record):
        self.losses.append(record["loss"])

    def start(self, info):
        self.info = info

    def saved(self, path, step):
        pass

    def end(self, result):
        pass


def _losses(ranks=1, **fields):
    run = RunConfig(heat(61, 13, 18), **{**SMALL, **fields})

    def work(own):
        records = Records()
        trained = train(run, own, CPU, hooks=[records])
        return records, trained

    everyone = thread_ranks.on_ranks(ranks, work) if ranks > 1 else [work(LocalRanks())]
    for _, other in everyone[1:]:
        assert torch.equal(other.theta, everyone[0][1].theta)
    return everyone[0]


def test_both_paths_have_the_same_parameters():
    one, other = (Module(dense, path=path).build(STRIP, 2, 5) for path in ("factored", "general"))
    assert isinstance(one, Network)
    assert isinstance(other, GeneralNetwork)
    assert torch.equal(one.initial, other.initial)
    x = STRIP.interior.sample(0, 5, (0, 0, 0))
    assert relative_error(other(other.initial, x), one(one.initial, x)) < 1e-14


@pytest.mark.parametrize(
    "optimizer",
    [
        SNGD(rank=24, test_matrix="gaussian"),
        ENGD(globalization="trust_region"),
        ENGDW(globalization="trust_region"),
        Adam(),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_both_paths_take_the_same_steps(optimizer, ranks):
    factored, one = _losses(optimizer=optimizer, network=Module(dense))
    general, other = _losses(ranks, optimizer=optimizer, network=Module(dense, path="general"))
    assert factored.info["network"] == "Network(2-8-7-1, tanh, P=95)"
    assert general.info["network"] == "Sequential(general path, P=95)"
    np.testing.assert_allclose(general.losses, factored.losses, rtol=1e-9)
    assert general.losses[-1] < general.losses[0]
    assert relative_error(other.theta, one.theta) < 1e-6


OTHERS = {
    "khatri_rao": (SNGD(rank=16), "float64"),
    "mixed": (SNGD(rank=16), "mixed"),
    "float32": (SNGD(rank=16), "float32"),
    "landmarks": (SNGD(rank=16, subspace="landmarks"), "float64"),
    "sharded": (SNGD(rank=16, basis="sharded"), "float64"),
    "spring": (SPRING(globalization="trust_region"), "float64"),
    "lbfgs": (LBFGS(), "float64"),
    "ssbroyden": (SSBroyden(), "float64"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_optimizer_and_precision_trains_a_module(name):
    optimizer, precision = OTHERS[name]
    run = {"optimizer": optimizer, "precision": precision, "network": Module(Normed), "max_steps": 2}
    alone, trained = _losses(**run)
    assert isinstance(trained.network, GeneralNetwork)
    assert alone.losses[-1] < 0.95 * alone.losses[0]
    if name in ("landmarks", "sharded"):
        np.testing.assert_allclose(_losses(2, **run)[0].losses, alone.losses, rtol=1e-7)


def test_ranks_that_make_different_modules_are_refused():
    def work(own, apart):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(apart * own.rank)
            module = dense(2, 1)
        run = RunConfig(heat(61, 13, 18), module, **SMALL)
        return train(run, own, CPU).result["stop_reason"]

    with pytest.raises(ValueError, match=r"Network\(2-8-7-1.*starts from other parameters on every rank"):
        thread_ranks.on_ranks(2, lambda own: work(own, 1))


def test_a_bounded_plan_takes_the_steps_of_a_free_one():
    case = _case("nonlinear", "normed")
    losses = []
    for plan in (Plan("factors", None, 0), Plan("nothing", 9, 0)):
        objective = Objective(case.collocation(), LocalRanks(), plan)
        state = objective.evaluate(parameters(objective.collocation))
        stepper = SNGD(rank=12).start(objective, state, 0, objective.collocation.row_count)
        stepper.step(objective, 1)
        losses.append(stepper.state.loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-8)


def test_a_module_beside_another_network_and_unknown_coefficients():
    networks = {"n": Module(Normed), "k": MLP((4,), "sin")}
    case = dataclasses.replace(CASES["inverse"](), network=networks)
    collocation = case.collocation()
    kinds = [type(part).__name__ for part in collocation.network.parts]
    assert kinds == ["GeneralNetwork", "Network", "Constants"]
    theta = parameters(collocation)
    j = FactoredJacobian(collocation, theta, collocation.scale)
    want = reference.jacobian(collocation, case.naive, theta)
    assert relative_error(j.dense(), want) < 1e-10
    own = LocalRanks()
    kernel = form_kernel(j, Layout(collocation.batches, own, CPU), own)
    assert relative_error(kernel, want @ want.T) < 1e-10
    v = torch.randn(j.shape[1], 3, dtype=torch.float64)
    assert relative_error(j.matmul(v), want @ v) < 1e-9
    assert relative_error(j.rmatmul(want @ v), want.T @ (want @ v)) < 1e-9
