"""Modules of the user's: which path they take, what is refused, and how a run tells of them."""

import copy
import dataclasses
import json
import math

import pytest
import torch
from torch import nn

from sngd import MLP, Box, Module, RunConfig
from sngd.config import describe, parse_overrides
from sngd.config_files import load_source
from sngd.general import GeneralNetwork
from sngd.networks import Network
from sngd.problems import heat
from sngd.taylor import TaylorRules, close
from tests.modules import SQUARE, STRIP, Normed, Of, Sine, dense, stack
from tests.reference import relative_error

# ---------------------------------------------------------------------------------------------
# Which path
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (nn.Tanh(), "tanh"),
        (nn.SiLU(), "silu"),
        (nn.GELU(), "gelu"),
        (nn.Softplus(), "softplus"),
        (Sine(), "sin"),
    ],
)
def test_stacks_of_linear_layers_take_the_factored_path(activation, name):
    module = stack(activation, copy.deepcopy(activation))
    network = Module(module).build(SQUARE, 3, 0)
    assert isinstance(network, Network)
    assert network.activation == name
    assert network.widths == (2, 3, 3, 3)
    x = SQUARE.interior.sample(0, 6, (0, 0, 0))
    scaled = (2 * x / torch.tensor([1.0, 3.0]) - 1).float()
    want = module(scaled).detach()
    assert relative_error(network(network.initial, x), want) < 1e-5


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (stack(nn.ReLU()), "its activation ReLU is none of"),
        (stack(nn.GELU(approximate="tanh")), "its activation GELU is none of"),
        (stack(nn.Softplus(beta=2)), "its activation Softplus is none of"),
        (stack(nn.Tanh(), nn.SiLU()), "its activations differ"),
        (stack(nn.Tanh(), bias=False), "a linear layer has no bias"),
        (stack(nn.PReLU()), "its activation PReLU is none of"),
        (stack(nn.LayerNorm(3)), "its activation LayerNorm is none of"),
        (nn.Sequential(nn.Linear(2, 3)), "no alternation"),
        (nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.LayerNorm(3)), "LayerNorm stands where nn.Linear"),
        (nn.utils.parametrizations.weight_norm(stack(nn.Tanh())[0]), "stands where nn.Linear"),
        (Of(torch.tanh, outputs=3), "Of stands where nn.Linear is expected"),
    ],
)
def test_everything_else_takes_the_general_path_or_says_why(module, reason, caplog):
    with caplog.at_level("INFO", logger="sngd.modules"):
        network = Module(module).build(SQUARE, 3, 0)
    assert isinstance(network, GeneralNetwork)
    assert "general path" in repr(network)
    assert reason in caplog.text
    with pytest.raises(ValueError, match=r"path='factored' needs nn\.Sequential") as caught:
        Module(module, path="factored").build(SQUARE, 3, 0)
    assert reason in str(caught.value)


def test_layers_that_are_shared_fixed_or_watched_are_no_dense_network():
    shared, fixed, watched = (stack(nn.Tanh(), nn.Tanh()) for _ in range(3))
    shared[4] = shared[2]
    fixed[2].weight.requires_grad_(False)
    watched[2].register_forward_hook(lambda module, inputs, output: 2 * output)
    for module, parameters in ((shared, 9 + 12), (fixed, 9 + 3 + 12), (watched, 9 + 12 + 12)):
        network = Module(module).build(SQUARE, 3, 0)
        assert isinstance(network, GeneralNetwork)
        assert network.parameters == parameters


def test_parameters_that_are_fixed_or_tied():
    module = Normed(2, 1)
    module.norm.requires_grad_(False)
    module.extra = nn.Linear(6, 6)
    module.extra.weight = module.inner.weight
    network = Module(module).build(SQUARE, 1, 0)
    assert network.parameters == 74 - 12 + 6  # LayerNorm's stay; of the tied layer its bias is new
    x = torch.rand(4, 2, dtype=torch.float64)
    before = network(network.initial, x)
    for p in module.parameters():
        p.data.zero_()  # the network has a copy
    assert torch.equal(network(network.initial, x), before)
    theta = network.initial * 0
    theta[-7:] = 1.0  # six biases of the last layer … and its own: whatever they are, the values are finite
    assert bool(network(theta, x).isfinite().all())


# ---------------------------------------------------------------------------------------------
# What it is given
# ---------------------------------------------------------------------------------------------


def test_a_function_is_called_with_the_seed_and_leaves_the_generator_alone():
    asked = []

    def make(inputs, outputs):
        asked.append((inputs, outputs))
        return Normed(inputs, outputs)

    torch.manual_seed(11)
    before = torch.get_rng_state()
    one, same, other = (Module(make, modes=3).build(STRIP, 2, seed) for seed in (1, 1, 2))
    assert asked == [(7, 2)] * 3
    assert torch.equal(one.initial, same.initial)
    assert not torch.equal(one.initial, other.initial)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_starts_at_its_own_parameters_whatever_the_seed():
    module = Normed(2, 1)
    one, other = (Module(module).build(SQUARE, 1, seed) for seed in (1, 2))
    assert torch.equal(one.initial, other.initial)
    matrices = [module.first.weight, module.inner.weight, module.last.weight]
    others = [module.gate, module.first.bias, module.norm.weight, module.norm.bias, module.last.bias]
    want = torch.cat([p.detach().flatten().double() for p in (*matrices, *others)])
    assert torch.equal(one.initial, want)


@pytest.mark.parametrize("module", [Normed, dense])
def test_periodic_to_the_third_order(module):
    network = Module(module).build(STRIP, 1, 0)
    low = torch.tensor([[-1.0, 0.3], [-1.0, 1.7]], dtype=torch.float64)
    high = low + torch.tensor([2.0, 0.0], dtype=torch.float64)
    rules = TaylorRules(close({(0, 0, 0), (0, 1)}))
    a, b = (network.forward(network.initial, network.embed(x, rules.channels), rules) for x in (low, high))
    assert relative_error(a, b) < 1e-12


@pytest.mark.parametrize("mapped", [True, False])
def test_even_about_the_middle_to_the_third_order(mapped):
    domain = Box(x=(0, 3), t=(1, 2), even="x")
    network = Module(Normed, mapped=mapped).build(domain, 1, 0)
    left, right = (torch.tensor([[1.5 + s, 1.2]], dtype=torch.float64) for s in (-0.4, 0.4))
    rules = TaylorRules(close({(0, 0, 0), (0, 1)}))
    a, b = (network.forward(network.initial, network.embed(x, rules.channels), rules) for x in (left, right))
    signs = torch.tensor([(-1.0) ** channel.count(0) for channel in rules.channels], dtype=torch.float64)
    assert relative_error(signs.view(-1, 1, 1) * a, b) < 1e-12


def test_coordinates_are_mapped_unless_they_are_to_be_left():
    module = nn.Sequential(nn.Linear(2, 1), nn.SiLU(), nn.Linear(1, 1))
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
        module[0].weight[0, 1] = 1.0
        module[2].weight[0, 0] = 1.0
    x = torch.tensor([[0.5, 3.0]], dtype=torch.float64)
    for path in ("general", "factored"):
        mapped, raw = (Module(module, path=path, mapped=m).build(SQUARE, 1, 0) for m in (True, False))
        assert float(mapped(mapped.initial, x)) == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-12)
        assert float(raw(raw.initial, x)) == pytest.approx(3 / (1 + math.exp(-3)), rel=1e-12)


# ---------------------------------------------------------------------------------------------
# In a run
# ---------------------------------------------------------------------------------------------


def test_a_run_takes_a_module_as_it_is_and_tells_of_it():
    module = nn.Linear(2, 1)
    whole = RunConfig(heat(10, 4, 4), module)
    assert whole.network == Module(module)
    told = json.loads(json.dumps(describe(whole)))["network"]
    assert told == {
        "type": "Module",
        "module": "Linear(in_features=2, out_features=1, bias=True)",
        "path": "auto",
        "modes": 1,
        "mapped": True,
    }
    assert describe(RunConfig(heat(10, 4, 4), Module(Normed)))["network"]["module"] == "Normed"
    several = RunConfig(heat(10, 4, 4), {"u": module})
    assert several.network == {"u": Module(module)}
    for run in (whole, several):
        changed = parse_overrides(run, ["--seed", "3"], "sngd")
        assert changed == dataclasses.replace(run, seed=3)
    assert parse_overrides(RunConfig(heat(10, 4, 4)), ["--network.hidden", "5"], "sngd").network == MLP((5,))
    with pytest.raises(ValueError, match="network=<class"):
        RunConfig(heat(10, 4, 4), Normed)


def test_a_module_in_a_config_file_is_planned_trained_and_evaluated(tmp_path, capsys):
    from sngd.cli import main

    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n"
        "from sngd import Module, RunConfig\n"
        "from sngd.problems import heat\n"
        "def make(inputs, outputs):\n"
        "    return nn.Sequential(nn.Linear(inputs, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, outputs))\n"
        "run = RunConfig(heat(40, 10, 10), Module(make), max_steps=2, evaluate_points=50, device='cpu')\n"
    )
    assert load_source(path)[0].network.module.__name__ == "make"
    assert main(["plan", str(path)]) in (0, None)
    assert "Sequential(general path, P=37)" in capsys.readouterr().out
    folder = tmp_path / "run"
    assert main(["train", str(path), "--run-dir", str(folder)]) in (0, None)
    assert "general path" in capsys.readouterr().out
    assert main(["train", str(path), "--run-dir", str(folder), "--resume", "--max-steps", "3"]) in (0, None)
    assert len((folder / "history.jsonl").read_text().splitlines()) == 3
    assert main(["eval", str(folder)]) in (0, None)
    assert json.loads((folder / "config.json").read_text())["fields"]["network"]["module"] == "make"
