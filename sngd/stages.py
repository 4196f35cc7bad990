"""A run as stages that are trained one after another: one for most runs, one for each slab of marching time.

Letters
    P        parameters of a stage's network; S stages
    θ        (S·P,) parameters of all: those of stages to come are what they would start from
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sngd.adaptive import R3, RAD
from sngd.causal import Causal
from sngd.checkpoint import Checkpoint
from sngd.composite import build_network
from sngd.config import RunConfig
from sngd.marching import Continued, restricted
from sngd.networks import AnyNetwork
from sngd.piecewise import Piecewise
from sngd.problem import Problem

__all__ = ["Stage", "first_stage", "next_stage", "trained_network"]

# How a slab ends so that the next one begins; any other end is that of the run.
_ONWARD = ("max_steps", "max_seconds", "stalled", "tolerance")


@dataclass(frozen=True)
class Stage:
    """A part of a run that is trained by itself.

    Args:
        whole: the run.
        run: this part of it: its problem, its budget.
        networks: of all stages.
        covered: the problem over the time that is reached by the end of this stage.
        number: of this stage.
        steps: that were taken before it.
        seconds: that had gone by before it.
        earlier: θ of the stages before, empty for the first.
        start: (P,) where this one starts.
    """

    whole: RunConfig
    run: RunConfig
    networks: list[AnyNetwork]
    covered: Problem
    number: int
    steps: int
    seconds: float
    earlier: Tensor
    start: Tensor

    @property
    def network(self) -> AnyNetwork:
        """The one that is trained."""
        return self.networks[self.number]

    @property
    def tolerance(self) -> float:
        """A loss at which it ends; 0 for none."""
        return self.whole.marching.tolerance if self.whole.marching is not None else 0.0

    def reached(self) -> AnyNetwork:
        """The network over the time that is reached by the end of this stage."""
        return _joined(self.whole, self.networks[: self.number + 1])

    def joined(self) -> AnyNetwork:
        """The network over all times."""
        return _joined(self.whole, self.networks)

    def until(self, theta: Tensor) -> Tensor:
        """Parameters of `reached` from this stage's own (P,), one after another."""
        return torch.cat([self.earlier, theta]) if len(self.earlier) else theta

    def all(self, theta: Tensor) -> Tensor:
        """Parameters of `joined` from this stage's own (P,), one after another."""
        rest = [_start(self.whole, network, theta) for network in self.networks[self.number + 1 :]]
        return torch.cat([self.until(theta), *rest]) if rest else self.until(theta)


def first_stage(run: RunConfig, device: torch.device, earlier: Checkpoint | None = None) -> Stage:
    """The stage that a run begins with, or the one that a checkpoint was written in."""
    nothing = torch.empty(0, dtype=run.dtype, device=device)
    if run.marching is None:
        network = build_network(run.problem, run.network, run.seed)
        start = (network.initial if earlier is None else earlier.theta).to(nothing)
        return Stage(run, run, [network], run.problem, 0, 0, 0.0, nothing, start)
    networks = _networks(run)
    if earlier is None:
        return _slab(run, networks, 0, 0, 0.0, nothing, networks[0].initial.to(nothing))
    theta, number = earlier.theta.to(nothing), earlier.slab
    before = sum(network.parameters for network in networks[:number])
    start = theta[before : before + networks[number].parameters]
    return _slab(run, networks, number, earlier.slab_steps, earlier.slab_seconds, theta[:before], start)


def next_stage(stage: Stage, reason: str, theta: Tensor, steps: int, seconds: float) -> Stage | None:
    """The stage after one that has ended; None where the run ends with it.

    Args:
        stage: that has ended.
        reason: why.
        theta: (P,) its parameters.
        steps: of the run so far.
        seconds: so far.
    """
    number = stage.number + 1
    if number == len(stage.networks) or reason not in _ONWARD:
        return None
    start = _start(stage.whole, stage.networks[number], theta)
    return _slab(stage.whole, stage.networks, number, steps, seconds, stage.until(theta), start)


def trained_network(run: RunConfig) -> AnyNetwork:
    """The network that the parameters of a finished run belong to."""
    if run.marching is None:
        return build_network(run.problem, run.network, run.seed)
    return _joined(run, _networks(run))


def _networks(run: RunConfig) -> list[AnyNetwork]:
    """Of every slab; all have the same shape, and the same initial parameters."""
    assert run.marching is not None
    axis, edges = run.marching.check(run.problem), run.marching.edges(run.problem)
    slabs = [restricted(run.problem, axis, low, high, None) for low, high in pairwise(edges)]
    return [build_network(slab, run.network, run.seed) for slab in slabs]


def _joined(run: RunConfig, networks: list[AnyNetwork]) -> AnyNetwork:
    if len(networks) == 1:
        return networks[0]
    assert run.marching is not None
    times = run.marching.edges(run.problem)[1 : len(networks)]
    return Piecewise(networks, run.marching.check(run.problem), times)


def _start(run: RunConfig, network: AnyNetwork, before: Tensor) -> Tensor:
    """Where the network after one with the parameters `before` starts."""
    warm = run.marching is not None and run.marching.network == "warm"
    return before.clone() if warm else network.initial.to(before)


def _present(config: Causal | RAD | R3 | None, slab: Problem) -> Any:
    """A config for those of its conditions that have points in a slab; None where it names none of them."""
    if config is None or not config.conditions:
        return config
    known = [condition.name for condition in slab.conditions]
    names = tuple(name for name in config.conditions if name in known)
    return replace(config, conditions=names) if names else None


def _slab(
    run: RunConfig,
    networks: list[AnyNetwork],
    number: int,
    steps: int,
    seconds: float,
    earlier: Tensor,
    start: Tensor,
) -> Stage:
    marching, problem = run.marching, run.problem
    assert marching is not None
    axis, edges = marching.check(problem), marching.edges(problem)
    before = None
    if number:
        slab = restricted(problem, axis, edges[number - 1], edges[number], None)
        network = networks[number - 1].to(earlier.dtype, earlier.device)
        before = Continued(slab, network, earlier[len(earlier) - network.parameters :], axis)
    left = marching.count - number
    shared = None if run.max_seconds is None else seconds + max(run.max_seconds - seconds, 1e-9) / left
    here = restricted(problem, axis, edges[number], edges[number + 1], before)
    own = replace(
        run,
        problem=here,
        causal=_present(run.causal, here),
        adaptive_points=_present(run.adaptive_points, here),
        marching=None,
        max_steps=max(1, (run.max_steps - steps) // left),
        max_seconds=shared,
        target_error=run.target_error if left == 1 else None,
    )
    covered = restricted(problem, axis, edges[0], edges[number + 1], None)
    return Stage(run, own, networks, covered, number, steps, seconds, earlier, start)
