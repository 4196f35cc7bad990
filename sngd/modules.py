"""Any torch module as the network of a run: what it is given, what is asked of it, which path it takes.

The module takes features of the coordinates, (n, features), and returns the outputs, (n, outputs), point by
point. A stack of linear layers with one activation becomes the dense network that it is (`networks`), with
factors and Taylor channels in closed form; everything else takes the general path (`general`), which is
slower by a factor that benchmarks/NOTES.md gives, and the same in all else.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sngd.activations import NETWORK_ACTIVATIONS
from sngd.allocation import first_line
from sngd.checks import one_of, place_of, told, whole
from sngd.device_errors import is_machine_failure
from sngd.embedding import Embedding, embed
from sngd.forward_mode import elementary
from sngd.general import GeneralNetwork
from sngd.geometry.shape import Shape
from sngd.networks import Network, NetworkConfig

__all__ = ["AnyConfig", "Module", "Path", "given_as_instance", "wrapped"]

Path = Literal["auto", "general", "factored"]

# Points that a module is tried on when it is built.
_PROBES = 3
# A value at a point may change by rounding when it is computed among others.
_ROUNDING = 1e-9
# Arguments on which an activation is told by its values: far into its tails, at no round numbers.
_ARGUMENTS = torch.linspace(-45.3, 44.9, 363, dtype=torch.float64).view(-1, 3)


@dataclass(frozen=True)
class Module:
    """A torch module as the network, e.g. Module(lambda inputs, outputs: MyTransformer(inputs, outputs)).

    The module's `inputs` are one per free axis, mapped to [−1, 1] over the domain's bounds, then cosines and
    sines of the harmonics of periodic ones, then cosines of even ones. Buffers and parameters without
    requires_grad stay as they are, tied parameters count once. All is computed in the run's
    precision, whatever the module's own.

    Args:
        module: a function (inputs, outputs) → torch.nn.Module, called under a generator with the run's seed;
            or a torch.nn.Module, whose own parameters are the start whatever the seed: the config file must
            make the same one every time, on several ranks and where a run goes on. It is left unchanged.
        path: "factored", the fast path of stacks of linear layers (`nn.Sequential` of `nn.Linear` with biases
            and one pointwise activation between them: tanh, sin, exact GELU, SiLU, softplus); "general", that
            of any module; "auto", the first where it applies.
        modes: harmonics of every periodic axis.
        mapped: False hands free axes over as they are.

    Raises:
        ValueError: an argument is out of range.
    """

    module: nn.Module | Callable[[int, int], nn.Module]
    path: Path = "auto"
    modes: int = 1
    mapped: bool = True

    def __post_init__(self) -> None:
        if not callable(self.module):
            raise ValueError(
                f"module={told(self.module)} must be a torch.nn.Module or a function (inputs, outputs) that "
                "returns one"
            )
        if not one_of(self.path, get_args(Path)):
            raise ValueError(f'path={told(self.path)} must be "auto", "general" or "factored"')
        if not whole(self.modes, 1):
            raise ValueError(f"modes={told(self.modes)} must be a whole number ≥ 1")
        if not isinstance(self.mapped, bool):
            raise ValueError(f"mapped={told(self.mapped)} must be True or False")

    def build(self, domain: Shape, fields: int, seed: int) -> Network | GeneralNetwork:
        """The network for a domain and a number of fields.

        Raises:
            ValueError: the module is none that can be trained on collocation points; says why.
        """
        embedding = embed(domain, self.modes, 0, 1.0, seed)
        if not self.mapped:
            embedding = _unmapped(embedding)
        module = self._make(embedding.features, fields, seed)
        _check_state(module)
        low, high = torch.tensor(domain.bounds, dtype=torch.float64).T
        steps = torch.linspace(0.23, 0.71, _PROBES, dtype=torch.float64).unsqueeze(1)
        points = low + (high - low) * steps
        _check_values(module, embedding.values(points), fields)
        log = logging.getLogger(__name__)
        if self.path != "general":
            found = _dense_layers(module)
            if not isinstance(found, str):
                log.info("network %s: a dense network, factored path", type(module).__name__)
                return _dense_network(embedding, *found)
            if self.path == "factored":
                raise ValueError(
                    "path='factored' needs nn.Sequential of nn.Linear with biases and one activation of "
                    f"{', '.join(NETWORK_ACTIVATIONS)} between them, but {found}: take path='auto'"
                )
            log.info("network %s: general path, since %s", type(module).__name__, found)
        network = GeneralNetwork(embedding, module, fields)
        network.embed(points, ((), (0,)))  # tries a first derivative and its gradient
        return network

    def _make(self, inputs: int, outputs: int, seed: int) -> nn.Module:
        """A copy of the module, or a new one, in float64."""
        if isinstance(self.module, nn.Module):
            made: Any = self.module
        else:
            with elementary(), torch.random.fork_rng(devices=[]):  # one thread at a time
                torch.default_generator.manual_seed(seed)
                made = self._call(inputs, outputs)
            if not isinstance(made, nn.Module):
                raise ValueError(
                    f"module({inputs}, {outputs}) must return a torch.nn.Module, got {told(made)}"
                )
        if any(nn.parameter.is_lazy(t) for t in _tensors(made)):
            raise ValueError(f"module={_name(made)} has lazy parameters: call it once on ({inputs},) inputs")
        if any(t.is_complex() for t in _tensors(made)):
            raise ValueError(f"module={_name(made)} has complex parameters or buffers: they must be real")
        try:
            return copy.deepcopy(made).to(device="cpu", dtype=torch.float64)
        except RuntimeError as error:
            raise ValueError(
                f"module={_name(made)} cannot be copied ({error}); weights that are computed belong into "
                "torch.nn.utils.parametrizations"
            ) from error

    def _call(self, inputs: int, outputs: int) -> Any:
        """What the function returns."""
        try:
            return self.module(inputs, outputs)
        except Exception as error:
            if is_machine_failure(error):
                raise
            raise ValueError(
                f"module({inputs}, {outputs}) failed{place_of(error)}: {type(error).__name__}: "
                f"{first_line(error)}; it must be a function (inputs, outputs) that returns a torch.nn.Module"
            ) from error


# What a run takes as its network: the config of one, or several by the outputs that they give.
AnyConfig = NetworkConfig | Module | nn.Module | Mapping[str, Any]


def wrapped(config: Any) -> Any:
    """A config with torch modules in it made configs; the rest as it is."""
    if isinstance(config, nn.Module):
        return Module(config)
    if isinstance(config, Mapping):
        return {names: wrapped(one) for names, one in config.items()}
    return config


def given_as_instance(config: Any) -> bool:
    """Whether parameters of a network start where a config file has made them, and not from the seed."""
    if isinstance(config, Mapping):
        return any(given_as_instance(one) for one in config.values())
    return isinstance(config, Module) and isinstance(config.module, nn.Module)


def _unmapped(embedding: Embedding) -> Embedding:
    scale = (embedding.scale != 0).to(embedding.scale.dtype)
    still = torch.zeros_like(embedding.offset)
    return Embedding(scale, still, embedding.waves, embedding.even, embedding.middle)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _name(module: nn.Module) -> str:
    return type(module).__name__


# ---------------------------------------------------------------------------------------------
# What is asked of a module
# ---------------------------------------------------------------------------------------------


def _check_state(module: nn.Module) -> None:
    """Refuse what makes a value depend on chance or on other points.

    Raises:
        ValueError: there are no parameters to train, or a layer is in a mode of training that cannot be.
    """
    if not any(p.requires_grad and p.numel() for p in module.parameters()):
        raise ValueError(f"module={_name(module)} has no parameters with requires_grad, nothing to train")
    for path, part in module.named_modules():
        where = f"module={_name(module)}: its {_name(part)} {path!r}"
        p = getattr(part, "p", 0.0) if isinstance(part, nn.modules.dropout._DropoutNd) else 0.0
        if isinstance(part, nn.MultiheadAttention):
            p = part.dropout
        if part.training and p > 0:
            raise ValueError(
                f"{where} drops values at random, p={p:g}: a residual must be the same whenever it is "
                "evaluated; take p=0 or call .eval() on it"
            )
        norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
        if norm and (part.training or part.running_mean is None):
            raise ValueError(
                f"{where} takes statistics over the points of a batch, which then depend on one another; "
                "call .eval() on it, so that it takes its running statistics, or take LayerNorm"
            )


def _check_values(module: nn.Module, features: Tensor, outputs: int) -> None:
    """Try a module on a few points.

    Args:
        module: in float64.
        features: (n, inputs).
        outputs: number of fields.

    Raises:
        ValueError: it fails, returns another shape or what is not finite, is random, changes its buffers, or
            mixes points.
    """
    name, inputs = _name(module), features.shape[1]
    wanted = f"it must take a tensor (n, {inputs}) and return one (n, {outputs}), one row per point"
    before = [buffer.clone() for buffer in module.buffers()]

    def call(x: Tensor) -> Tensor:
        try:
            with torch.no_grad(), elementary():
                z = module(x)
        except Exception as error:
            first = str(error).strip().split("\n")[0]
            raise ValueError(
                f"module={name} fails on points of shape {tuple(x.shape)} and dtype float64: "
                f"{type(error).__name__}: {first}; {wanted}"
            ) from error
        if not isinstance(z, Tensor) or z.shape != (len(x), outputs) or z.dtype != x.dtype:
            what = f"{z.dtype} {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(
                f"module={name} returns {what} for points of {x.dtype} {tuple(x.shape)}: {wanted}, in the "
                "dtype of its inputs"
            )
        return z

    together = call(features)
    if not torch.isfinite(together).all():
        raise ValueError(f"module={name} returns NaN or infinite values at points of the domain")
    again = call(features)
    if not torch.allclose(together, again, rtol=_ROUNDING, atol=0.0):
        raise ValueError(f"module={name} returns other values when it is called again: it must not be random")
    if any(not torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True)):
        raise ValueError(f"module={name} changes its buffers when it is called; call .eval() on it")
    alone = torch.cat([call(x) for x in features.split(1)])
    size = float(together.abs().max())
    if not torch.allclose(together, alone, rtol=_ROUNDING, atol=_ROUNDING * size):
        raise ValueError(
            f"module={name} mixes points: its value at a point changes with the other points of the batch; "
            f"{wanted}"
        )


# ---------------------------------------------------------------------------------------------
# Dense networks in disguise
# ---------------------------------------------------------------------------------------------


def _dense_layers(module: nn.Module) -> tuple[list[nn.Linear], str] | str:
    """Linear layers and the activation between them; otherwise what stands in the way."""
    parts = list(_flattened(module))
    layers = parts[::2]
    seen: set[int] = set()
    for layer in layers:
        if type(layer) is not nn.Linear:
            return f"{_name(layer)} stands where nn.Linear is expected"
        if layer.bias is None:
            return "a linear layer has no bias"
        if not (layer.weight.requires_grad and layer.bias.requires_grad):
            return "a linear layer is fixed"
        if {id(layer.weight), id(layer.bias)} & seen:
            return "linear layers share parameters"
        seen |= {id(layer.weight), id(layer.bias)}
    if len(parts) % 2 == 0 or len(parts) < 3:
        return f"{_name(module)} is no alternation of linear layers and activations"
    if any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()):
        return "it has hooks"
    names = {_activation(part) for part in parts[1::2]}
    if len(names) > 1:
        return "its activations differ"
    (name,) = names
    if name is None:
        return f"its activation {_name(parts[1])} is none of {', '.join(NETWORK_ACTIVATIONS)}"
    return [layer for layer in layers if isinstance(layer, nn.Linear)], name


def _flattened(module: nn.Module) -> Iterator[nn.Module]:
    """The parts of a nested nn.Sequential, without nn.Identity."""
    if type(module) is nn.Sequential:
        for part in module:
            yield from _flattened(part)
    elif type(module) is not nn.Identity:
        yield module


def _activation(part: nn.Module) -> str | None:
    """The name of a pointwise function without parameters, told by its values."""
    if any(True for _ in _tensors(part)):
        return None
    try:
        with torch.no_grad():
            values = part(_ARGUMENTS)
    except Exception:  # whatever a module does that is none
        return None
    for name, derivatives in NETWORK_ACTIVATIONS.items():
        known = derivatives(_ARGUMENTS, 0)[0]
        alike = isinstance(values, Tensor) and values.shape == known.shape
        if alike and torch.allclose(values, known, rtol=_ROUNDING, atol=_ROUNDING):
            return name
    return None


def _dense_network(embedding: Embedding, layers: list[nn.Linear], activation: str) -> Network:
    tensors = [layer.weight for layer in layers] + [layer.bias for layer in layers]
    widths = (embedding.features, *(layer.out_features for layer in layers))
    return Network(embedding, widths, activation, torch.cat([t.detach().flatten() for t in tensors]))
