"""What torch.func needs to differentiate modules as often as an equation asks for.

Fused kernels of torch have no forward mode (attention, gated linear units), or one that is wrong from the
second derivative on without a word (layer and instance normalisation in torch 2.13; in reverse mode from the
third on). Modules are therefore evaluated with such functions written out in elementary ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

__all__ = ["elementary"]

# torch.func keeps the depth of nested forward mode, and torch its generator, in globals of the process:
# threads take turns.
_LOCK = threading.RLock()


@contextmanager
def elementary() -> Iterator[None]:
    """Modules are evaluated in elementary functions of torch; one thread at a time."""
    with _LOCK, sdpa_kernel(SDPBackend.MATH), _WrittenOut():
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


def _normalized(x: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    """(x − mean) / √(variance + eps)."""
    centred = x - x.mean(tuple(axes), keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(tuple(axes), keepdim=True) + eps)


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    result = _normalized(input, range(-len(normalized_shape), 0), eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    column = (-1,) + (1,) * (input.ndim - 2)  # (n, channels, …)
    if use_input_stats:
        result = _normalized(input, range(2, input.ndim), eps)
    else:
        assert running_mean is not None
        assert running_var is not None
        centred = input - running_mean.view(column)
        result = centred * torch.rsqrt(running_var.view(column) + eps)
    result = result if weight is None else result * weight.view(column)
    return result if bias is None else result + bias.view(column)


def _glu(input: Tensor, dim: int = -1) -> Tensor:
    left, right = input.chunk(2, dim)
    return left * torch.sigmoid(right)


_IN_ELEMENTARY_FUNCTIONS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    functional.instance_norm: _instance_norm,
    torch.instance_norm: _instance_norm,
    functional.glu: _glu,
}


class _WrittenOut(TorchFunctionMode):
    """Calls of fused functions become those of elementary ones."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _IN_ELEMENTARY_FUNCTIONS.get(func, func)(*args, **(kwargs or {}))
