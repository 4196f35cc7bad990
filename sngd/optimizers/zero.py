"""Adam with gradients, moments and parameters split over ranks: DeepSpeed's ZeRO, stages 0 to 3.

Source: Rajbhandari, Rasley, Ruwase and He 2020 (arXiv 1910.02054). DeepSpeed owns parameters as modules and
needs a loss that autograd can differentiate once: the network is written here as a module that carries Taylor
channels, so that no derivative of the field is taken by autograd.

Letters
    C, n     Taylor channels and points of a batch
    P        parameters, one flat vector θ; R ranks
    s, r     row scale and residual, L = Σ (s r)² over all rows of all ranks
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sngd.channels import Pointwise
from sngd.networks import Network
from sngd.objective import Objective, State
from sngd.optimizers.base import Report
from sngd.optimizers.moments import Held, restore_moments, save_moments
from sngd.taylor import TaylorRules

__all__ = ["TaylorNetwork", "ZeroStepper"]


class _Layer(nn.Module):
    """z = h Wᵀ on every channel, with the bias on the value channel."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())

    def forward(self, h: Tensor) -> Tensor:
        """(C, n, in) → (C, n, out)."""
        z = nn.functional.linear(h, self.weight)
        return torch.cat([z[:1] + self.bias, z[1:]])


class TaylorNetwork(nn.Module):
    """A `Network` as a module: it owns its parameters, and autograd can differentiate its outputs once.

    Args:
        network: shapes and activation.
        theta: (P,) initial parameters.
    """

    def __init__(self, network: Network, theta: Tensor) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList(
            _Layer(weight, bias) for weight, bias in zip(*network.split(theta.detach()), strict=True)
        )

    def forward(self, inputs: Sequence[tuple[Tensor, TaylorRules]]) -> list[Tensor]:
        """Output channels (C, n, fields) of every batch of embedded points (C, n, in)."""
        outputs = []
        for h, rules in inputs:
            for number, layer in enumerate(self.layers):
                if number:
                    h = Pointwise.apply(h, rules, self.network.activation_derivatives)
                h = layer(h)
            outputs.append(h)
        return outputs

    def ordered(self) -> list[nn.Parameter]:
        """Parameters in the order of θ = [W_1 … W_L, b_1 … b_L]."""
        layers: Any = list(self.layers)
        return [layer.weight for layer in layers] + [layer.bias for layer in layers]

    def flat(self) -> Tensor:
        """θ (P,), a copy; parameters must be present on this rank."""
        return torch.cat([part.detach().flatten() for part in self.ordered()])


class ZeroStepper:
    """Adam under DeepSpeed: as `FirstOrderStepper`, one gradient per step, kept by DeepSpeed until the next.

    All of a rank's points go through the network at once, whatever the memory plan says. What DeepSpeed sends
    is not among the bytes that the ranks count.

    Args:
        stage: 0 splits nothing, 1 the moments, 2 the gradient too, 3 the parameters too.
        rate_at: rate of update 0, 1, ….
        betas: decays of the moments.
        objective: gives the network and the ranks.
        state: where it stands.

    Raises:
        ValueError: θ is not float32, or DeepSpeed is not installed.
    """

    def __init__(
        self,
        stage: int,
        rate_at: Callable[[int], float],
        betas: tuple[float, float],
        objective: Objective,
        state: State,
    ) -> None:
        if state.theta.dtype != torch.float32:
            dtype = str(state.theta.dtype).removeprefix("torch.")
            raise ValueError(
                f"optimizer.zero_stage={stage} needs precision='float32', got {dtype!r}: ZeRO would hold "
                "float32 copies of the parameters without a word"
            )
        self.state, self.rate_at, self.updates = state, rate_at, 0
        network = objective.collocation.network
        if not isinstance(network, Network):
            raise ValueError(
                f"optimizer.zero_stage={stage} needs one dense network (MLP or SIREN) and no unknown "
                f"coefficients, got {network!r}: leave zero_stage out"
            )
        self._deepspeed = _deepspeed(objective, state.theta.device)
        self.module = TaylorNetwork(network, state.theta)
        optimizer = torch.optim.Adam(self.module.ordered(), lr=rate_at(0), betas=betas)
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_clipping": 0.0,  # 1.0 by default
            "zero_optimization": {"stage": stage},
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
        }
        self.engine, *_ = self._deepspeed.initialize(model=self.module, optimizer=optimizer, config=settings)
        self.stage, self._objective = stage, objective
        self._pending: dict[str, Any] | None = None  # how the loss was weighed whose gradient DeepSpeed holds
        self._lost, self._note = False, ""  # the note is for the log of the next step

    def step(self, objective: Objective, number: int) -> Report:
        """Update θ with the last gradient and take the next one."""
        if self._lost:
            return Report(accepted=False, note="refused: the loss would not be finite")
        evaluations = 0
        if self._pending is None:
            self._backward(objective)
            evaluations = 1
        for group in self.engine.optimizer.param_groups:
            group["lr"] = self.rate_at(self.updates)
        self.engine.step()
        self.updates += 1
        state = self._backward(objective)
        evaluations += 1
        if not math.isfinite(state.loss):
            self._lost = True  # what the ranks held before this update is gone; the state still has it
            return Report(False, evaluations=evaluations, note="refused: the loss would not be finite")
        self.state = state
        note, self._note = self._note, ""
        return Report(accepted=True, evaluations=evaluations, note=note)

    def _backward(self, objective: Objective) -> State:
        """State at the ranks' θ; the gradient stays with DeepSpeed, which averages it over the ranks."""
        collocation = objective.collocation
        batches = collocation.batches
        inputs = [(collocation.embed(batch, 0, len(batch.points)), batch.rules) for batch in batches]
        outputs = self.engine(inputs)
        parts = [
            collocation.apply(batch, z, 0).flatten() if len(batch.points) else z.flatten()
            for batch, z in zip(batches, outputs, strict=True)
        ]
        raw = torch.cat(parts)
        self.engine.backward((objective.scale * raw).square().sum() * objective.ranks.size)
        emphasis = getattr(collocation.emphasis, "weights", None)
        self._pending = {"weights": collocation.weights, "emphasis": emphasis}
        return objective.state(self._theta(), raw.detach())

    def _theta(self) -> Tensor:
        with self._deepspeed.zero.GatheredParameters(list(self.module.parameters())):
            return self.module.flat()

    def _adam(self) -> torch.optim.Optimizer:
        """torch's, in DeepSpeed's wrapping."""
        wrapped: Any = self.engine.optimizer
        return getattr(wrapped, "optimizer", wrapped)

    def _held(self) -> list[Held]:
        """What Adam steps on, on this rank: stages 1 and 2 split θ as a whole, stage 3 each parameter."""
        wrapped: Any = self.engine.optimizer
        if self.stage == 0:
            return [Held(p, [(p.numel(), p.numel())], False) for p in self.module.ordered()]
        if self.stage < 3:
            (flat,) = wrapped.single_partition_of_fp32_groups
            return [Held(flat, [(flat.numel(), self.state.theta.numel())], True)]
        pairs = zip(wrapped.fp32_partitioned_groups_flat, wrapped.fp16_groups, strict=True)
        return [Held(flat, [(p.ds_tensor.numel(), p.ds_numel) for p in group], True) for flat, group in pairs]

    def save(self) -> dict[str, Any]:
        """Updates so far, this rank's part of the moments, and how the loss of the next update is weighed."""
        ranks, moments = self._objective.ranks, None
        if not self._lost:  # after which they hold an update that was refused
            moments = save_moments(self._adam(), self._held(), ranks.rank, ranks.size)
        return {"updates": self.updates, "moments": moments, "pending": self._pending}

    def load(self, saved: dict[str, Any]) -> None:
        """Take them, and take the gradient at θ again."""
        self.updates = saved["updates"]
        if saved["moments"] is None:
            self._note = "goes on without Adam's moments" if self.updates else ""
            return
        objective, before, pending = self._objective, self._objective.collocation, saved["pending"]
        restore_moments(self._adam(), self._held(), saved["moments"], objective.ranks.rank)
        weights, emphasis = before.weights, before.emphasis
        objective.reweigh(pending["weights"].to(weights))
        if emphasis is not None and pending["emphasis"] is not None:
            known: Any = emphasis
            objective.emphasize(replace(known, weights=pending["emphasis"].to(known.weights)))
        self._backward(objective)
        objective.reweigh(weights)
        if emphasis is not None:
            objective.emphasize(emphasis)


def _deepspeed(objective: Objective, device: torch.device) -> Any:
    """DeepSpeed on the ranks' process group.

    Raises:
        ValueError: it is not installed.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise ValueError(
            "optimizer.zero_stage needs DeepSpeed, which is not installed: pip install 'sngd[deepspeed]'"
        )
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", "0")
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # its calls to torch.distributed go by names that newer versions of torch replace, once a step and layer
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    # a kernel for shared memory on CPUs: compiled for over a minute at the first start, and not needed
    __compatible_ops__["deepspeed_shm_comm"] = False
    objective.ranks.open_group(device)
    deepspeed.init_distributed(dist_backend="nccl" if device.type == "cuda" else "gloo", verbose=False)
    return deepspeed
