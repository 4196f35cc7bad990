"""The network as a module for DeepSpeed; the runs themselves are in tests/launch."""

import importlib.util

import pytest
import torch
import torch.distributed as dist

from sngd import Adam
from sngd.collectives import LocalRanks
from sngd.memory import Plan
from sngd.objective import Objective
from sngd.optimizers.zero import TaylorNetwork
from sngd.residual import Collocation
from tests import reference
from tests.problems import CASES, heat, inverse, parameters


def _objective(case, dtype=torch.float64):
    old = case.collocation()
    points, network = [p.to(dtype) for p in old.points], old.network.to(dtype, "cpu")
    collocation = Collocation(old.problem, network, points, old.weights.to(dtype))
    return Objective(collocation, LocalRanks(), Plan("nothing", None, 0)), parameters(old).to(dtype)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"inverse"}))  # which has two networks
def test_the_module_has_the_outputs_and_the_gradient_of_the_network(name):
    objective, theta = _objective(CASES[name]())
    collocation = objective.collocation
    module = TaylorNetwork(collocation.network, theta)
    assert torch.equal(module.flat(), theta)
    inputs = [(collocation.embed(b, 0, len(b.points)), b.rules) for b in collocation.batches]
    outputs = module(inputs)
    parts = []
    for (h, rules), z, batch in zip(inputs, outputs, collocation.batches, strict=True):
        want = collocation.network.forward(theta, h, rules)
        assert reference.relative_error(z.detach(), want) < 1e-12
        parts.append(collocation.apply(batch, z, 0).flatten())
    (objective.scale * torch.cat(parts)).square().sum().backward()
    state, gradient = objective.gradient(theta)
    layers = list(module.layers)
    found = [layer.weight.grad.flatten() for layer in layers] + [layer.bias.grad for layer in layers]
    assert reference.relative_error(torch.cat(found), gradient) < 1e-10
    assert objective.state(theta, torch.cat(parts).detach()).loss == pytest.approx(state.loss, rel=1e-12)


def test_the_modules_parameters_are_its_own():
    objective, theta = _objective(heat())
    module = TaylorNetwork(objective.collocation.network, theta)
    before = theta.clone()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert torch.equal(theta, before)
    torch.testing.assert_close(module.flat(), theta + 1)


def _start(dtype, case=None):
    objective, theta = _objective(case or heat(), dtype)
    return Adam(zero_stage=2).start(objective, objective.evaluate(theta), 0, 0)


def test_several_networks_are_refused():
    with pytest.raises(ValueError, match=r"zero_stage=2 needs one dense network .* got Composite\(Network"):
        _start(torch.float32, inverse())


def test_float64_is_refused():
    with pytest.raises(ValueError, match=r"optimizer\.zero_stage=2 needs precision='float32', got 'float64'"):
        _start(torch.float64)


def test_without_deepspeed_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'sngd\[deepspeed\]'"):
        _start(torch.float32)


def test_a_process_alone_opens_a_group_for_a_library_and_leaves_it():
    ranks = LocalRanks()
    ranks.close()
    ranks.open_group(torch.device("cpu"))
    try:
        assert dist.get_world_size() == 1
        ranks.open_group(torch.device("cpu"))
    finally:
        ranks.close()
    assert not dist.is_initialized()
