"""What is refused of a user's module; derivatives of torch's that are tried before a run trusts them."""

import math
from unittest.mock import patch

import pytest
import torch
from torch import nn

from sngd import Box, Module
from sngd.forward_mode import elementary
from sngd.taylor import TaylorRules, close
from tests.modules import SQUARE, Attention, Normed, Of
from tests.reference import relative_error

# ---------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------


class Written(nn.Module):
    """A linear layer around a forward() of the test's."""

    def __init__(self, forward):
        super().__init__()
        self.layer, self.run = nn.Linear(2, 1), forward

    def forward(self, x):
        return self.run(self.layer, x)


def _filled(layer, x):
    z = torch.zeros(len(x), 1, dtype=x.dtype)
    z[:, 0] = layer(x)[:, 0]
    return z


def _complex():
    module = nn.Linear(2, 1)
    module.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    return module


BAD = [
    (lambda: nn.Dropout(0.5), "has no parameters with requires_grad"),
    (lambda: nn.Linear(2, 1).requires_grad_(False), "has no parameters with requires_grad"),
    (
        lambda: nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.25), nn.Linear(4, 1)),
        "its Dropout '1' drops values",
    ),
    (lambda: nn.TransformerEncoderLayer(2, 1, 4), "drops values at random, p=0.1"),
    (
        lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),
        "its BatchNorm1d '1' takes stat",
    ),
    (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 1)), "changes its buffers"),
    (_complex, "complex parameters"),
    (lambda: nn.LazyLinear(1), "lazy parameters"),
    (lambda: nn.Linear(3, 1), "fails on points of shape (3, 2)"),
    (lambda: nn.Linear(2, 2), "returns torch.float64 (3, 2)"),
    (
        lambda: Written(lambda layer, x: layer(x).squeeze(1)),
        "must take a tensor (n, 2) and return one (n, 1)",
    ),
    (lambda: Written(lambda layer, x: (layer(x),)), "returns tuple"),
    (lambda: Written(lambda layer, x: layer(x).float()), "returns torch.float32 (3, 1)"),
    (lambda: Written(lambda layer, x: layer(x) @ torch.ones(1, 1)), "fails on points of shape (3, 2)"),
    (lambda: Written(lambda layer, x: layer(x) + torch.rand(1, 1)), "must not be random"),
    (lambda: Written(lambda layer, x: layer(x) * math.nan), "returns NaN or infinite values"),
    (lambda: Written(lambda layer, x: layer(x) / 0.0), "returns NaN or infinite values"),
    (lambda: Written(lambda layer, x: layer(x) - layer(x).mean()), "mixes points"),
    (lambda: Written(_filled), "cannot be differentiated by torch.func"),
    (lambda: Written(lambda layer, x: layer(x) * layer(x).sum().item()), "mixes points"),
    (
        lambda: Written(lambda layer, x: layer(x) * float(x[0, 0] * 0 + 1)),
        "cannot be differentiated by torch.func",
    ),
]


@pytest.mark.parametrize(("make", "said"), BAD)
def test_a_module_that_cannot_be_trained_is_refused(make, said):
    with pytest.raises(ValueError) as caught:
        Module(make()).build(SQUARE, 1, 0)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"module": 3}, "module=3 must be a torch.nn.Module or a function"),
        ({"module": Normed, "path": "fast"}, "path='fast' must be"),
        ({"module": Normed, "modes": 0}, "modes=0 must be"),
        ({"module": Normed, "mapped": 1}, "mapped=1 must be True or False"),
    ],
)
def test_bad_configurations_are_refused(arguments, said):
    with pytest.raises(ValueError) as caught:
        Module(**arguments)
    assert str(caught.value).startswith(said)


def test_a_function_that_returns_no_module_is_refused():
    with pytest.raises(ValueError, match=r"module\(2, 1\) must return a torch\.nn\.Module, got 'mlp'"):
        Module(lambda inputs, outputs: "mlp").build(SQUARE, 1, 0)


def test_a_function_that_fails_is_told_with_its_place():
    with pytest.raises(
        ValueError, match=r"module\(2, 1\) failed at test_module_checks\.py:\d+: TypeError: .*wid"
    ):
        Module(lambda inputs, outputs: nn.Linear(inputs, outputs, width=3)).build(SQUARE, 1, 0)
    with pytest.raises(ValueError, match=r"failed: TypeError: .*; it must be a function \(inputs, outputs\)"):
        Module(lambda inputs: nn.Linear(inputs, 1)).build(SQUARE, 1, 0)


def test_modes_of_evaluation_are_taken():
    module = nn.Sequential(
        nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1)
    ).eval()
    module[1].running_mean.normal_()
    network = Module(module).build(SQUARE, 1, 0)
    x = SQUARE.interior.sample(0, 4, (0, 0, 0))
    scaled = 2 * x / torch.tensor([1.0, 3.0]) - 1
    assert relative_error(network(network.initial, x), module(scaled.float()).detach()) < 1e-5


# ---------------------------------------------------------------------------------------------
# Derivatives that torch has wrong, or not
# ---------------------------------------------------------------------------------------------

SECOND = close({(0, 0)})


def _determinant(z):
    matrix = torch.eye(2, dtype=z.dtype) + z.unflatten(1, (2, 2)).square()
    return torch.linalg.det(matrix).unsqueeze(1) + z


def test_a_wrong_second_derivative_of_torch_is_found():
    """torch.func differentiates linalg.det wrongly the second time, along whatever it is."""
    with pytest.raises(ValueError, match=r"is off by a part 0\.[0-9]+ from what differences give"):
        Module(Of(_determinant)).build(SQUARE, 1, 0)
    x = SQUARE.interior.sample(0, 4, (0, 0, 0))
    with patch("sngd.general.GeneralNetwork.embed", lambda self, x, channels: x):
        network = Module(Of(_determinant)).build(SQUARE, 1, 0)
    with pytest.raises(ValueError, match="derivative of order 2 that torch"):
        network.embed(x, SECOND)


def test_a_wrong_gradient_is_found():
    class Doubled(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return 1.0 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, gradient):
            return 2.0 * gradient

        @staticmethod
        def jvp(ctx, tangent):
            return 1.0 * tangent

    with pytest.raises(ValueError, match="gradient with respect to the parameters that torch"):
        Module(Of(Doubled.apply)).build(SQUARE, 1, 0)


FUSED = {
    "layer_norm": lambda z: nn.functional.layer_norm(z, (4,), torch.arange(4.0).to(z), torch.ones(4).to(z)),
    "layer_norm over two": lambda z: nn.functional.layer_norm(z.unflatten(1, (2, 2)), (2, 2)).flatten(1),
    "instance_norm": lambda z: nn.functional.instance_norm(z.unflatten(1, (2, 2))).flatten(1),
    "running instance_norm": lambda z: nn.functional.instance_norm(
        z.unflatten(1, (2, 2)), torch.ones(2).to(z), 2 * torch.ones(2).to(z), use_input_stats=False
    ).flatten(1),
    "glu": lambda z: nn.functional.glu(torch.cat([z, z * z], 1)),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_functions_written_out_have_the_same_values_and_right_derivatives(name):
    f = FUSED[name]
    z = torch.randn(5, 4, dtype=torch.float64)
    with elementary():
        written = f(z)
    assert relative_error(written, f(z)) < 1e-12
    network = Module(Of(lambda z: f(torch.tanh(z)))).build(SQUARE, 1, 0)
    network.embed(SQUARE.interior.sample(0, 4, (0, 0, 0)), close({(0, 0, 0)}))  # compares with differences


def test_attention_is_not_fused_and_its_switches_are_put_back():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, activation=torch.tanh)
    for mode in (True, False):
        whole = nn.Sequential(
            nn.Linear(2, 8), nn.Unflatten(1, (2, 4)), layer.train(mode), nn.Flatten(), nn.Linear(8, 1)
        )
        network = Module(whole).build(SQUARE, 1, 0)
        network.embed(SQUARE.interior.sample(0, 4, (0, 0, 0)), SECOND)
    assert torch.backends.mha.get_fastpath_enabled()


def test_attention_on_a_line_of_one_coordinate():
    network = Module(Attention).build(Box(x=(0, 2)), 2, 0)
    z = network.forward(network.initial, torch.rand(3, 1, dtype=torch.float64), TaylorRules(SECOND))
    assert z.shape == (3, 3, 2)
