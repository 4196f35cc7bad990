"""One run: problem, network, optimizer and budget, checked when it is built."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import torch
import tyro
from torch import nn

from sngd.adaptive import R3, RAD
from sngd.causal import Causal
from sngd.changes import check_changes
from sngd.checks import one_of, positive, require, whole, within
from sngd.curriculum import Curriculum
from sngd.marching import Marching
from sngd.modules import AnyConfig, Module, wrapped
from sngd.networks import MLP, NetworkConfig
from sngd.optimizers import OPTIMIZERS, SNGD, Adam, AnyOptimizer, named
from sngd.problem import Problem
from sngd.tracking.config import Tracking

__all__ = ["RunConfig", "describe", "flags_of", "parse_overrides"]

# Beyond it a memory is no number of bytes, and a time none that torch waits for.
_GREATEST = 1e9


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on. A config file assigns one to the name `run`.

    Args:
        problem: the equation with its conditions.
        network: its architecture; of several {"u, v": MLP(...), "k": MLP(...)}, by their outputs. A
            torch.nn.Module stands for Module(it).
        optimizer: how it is trained; a name of `sngd.optimizers.OPTIMIZERS` takes that one's defaults.
        warmup: what takes the first steps, before the optimizer goes on from where they lead.
        warmup_steps: steps of `warmup`; 0 for none.
        seed: of initial parameters, collocation points and test matrices.
        balance: shift weight towards conditions that lag behind, once a step.
        resample_every: draw new collocation points every so many steps; 0 keeps the first set.
        adaptive_points: move points to where the residual is large, RAD(...) or R3(...).
        causal: Causal(...), weights in time.
        curriculum: Curriculum(...), a known coefficient that goes from an easy value to the problem's.
        marching: Marching(...), one network after another, each for a slab of time.
        max_steps: stop after so many steps.
        max_seconds: stop after so many seconds of training, comparisons with the known solution left out.
        target_error: stop at this relative L2 error.
        evaluate_every: compare with the known solution every so many steps.
        evaluate_points: at so many points of the interior.
        device: "auto" takes CUDA where there is one.
        precision: "float64"; "float32"; or "mixed": rows and sketch in float32 until its rounding holds the
            damping up, then in float64 like all else. The k×k core is float64 always.
        memory_gb: memory of a rank in GB, which a step is arranged to stay within; half of what is free when
            absent.
        checkpoint_seconds: time between checkpoints; one is always written at the end.
        keep_checkpoints: how many of the last ones are kept, beside the best.
        check_every: compare θ over ranks every so many steps; a difference ends the run.
        holdout_every: look at the loss on fresh points every so many steps, to warn of overfitting; 0 never
            does.
        holdout_points: fresh points of a condition over all ranks, at most; no more than it trains on, but
            for 100.
        timeout_seconds: a rank that the others have waited for so long is given up, and the run with it.
        pictures: draw the result and write report.html when the run ends; `sngd plot` and `sngd report` do so
            at any time.
        tracking: who is told of the run beside console and run folder, e.g. Weights & Biases.
        run_dir: folder for results, which must not exist yet unless a run goes on in it; runs/NAME-TIME when
            absent, runs/NAME-jobNUMBER in a Slurm job.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    problem: Problem
    network: AnyConfig = MLP()
    optimizer: tyro.conf.AvoidSubcommands[AnyOptimizer] = SNGD()
    warmup: Adam = Adam()
    warmup_steps: int = 0
    seed: int = 0
    balance: bool = False
    resample_every: int = 0
    adaptive_points: tyro.conf.AvoidSubcommands[RAD | R3 | None] = None
    causal: tyro.conf.AvoidSubcommands[Causal | None] = None
    curriculum: tyro.conf.AvoidSubcommands[Curriculum | None] = None
    marching: tyro.conf.AvoidSubcommands[Marching | None] = None
    max_steps: int = 1000
    max_seconds: float | None = None
    target_error: float | None = None
    evaluate_every: int = 1
    evaluate_points: int = 10_000
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float64", "float32", "mixed"] = "float64"
    memory_gb: float | None = None
    checkpoint_seconds: float = 300.0
    keep_checkpoints: int = 2
    check_every: int = 10
    holdout_every: int = 20
    holdout_points: int = 1000
    timeout_seconds: float = 600.0
    pictures: bool = True
    tracking: Tracking = Tracking()
    run_dir: Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, str):
            object.__setattr__(self, "optimizer", named(self.optimizer))
        object.__setattr__(self, "network", wrapped(self.network))
        require(self, [*self._checks_of_parts(), *self._checks_of_budget()])
        if self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} must be below max_steps={self.max_steps}, of which they "
                "are the first"
            )
        if self.warmup != Adam() and not self.warmup_steps:
            raise ValueError(f"warmup={self.warmup!r} needs warmup_steps ≥ 1, the number of its steps")
        check_changes(
            self.problem,
            self.max_steps,
            self.warmup_steps,
            self.resample_every,
            self.adaptive_points,
            self.causal,
            self.curriculum,
            self.marching,
        )
        if self.target_error is not None and self.problem.solution is None:
            raise ValueError(
                f"target_error={self.target_error} needs a known solution, and problem "
                f"{self.problem.name!r} has none: give Problem(..., solution=...) or leave it out"
            )

    def _checks_of_parts(self) -> list[tuple[str, bool, str]]:
        """Of what a run is composed of: (field, whether it is right, what it must be)."""
        optimizers = tuple(OPTIMIZERS.values())
        return [
            ("problem", isinstance(self.problem, Problem), "a Problem"),
            (
                "network",
                isinstance(self.network, _kinds()) or _several(self.network),
                "an architecture, e.g. MLP(...), a torch.nn.Module, or a dict of one for each output",
            ),
            (
                "optimizer",
                isinstance(self.optimizer, optimizers),
                "an optimizer, e.g. SNGD(...)",
            ),
            ("warmup", isinstance(self.warmup, Adam), "Adam(...)"),
            ("warmup_steps", whole(self.warmup_steps, 0), "a whole number ≥ 0"),
            ("seed", whole(self.seed, 0) and self.seed < 2**31, "a whole number between 0 and 2**31 − 1"),
            ("balance", isinstance(self.balance, bool), "True or False"),
            ("resample_every", whole(self.resample_every, 0), "a whole number ≥ 0"),
            (
                "adaptive_points",
                self.adaptive_points is None or isinstance(self.adaptive_points, (RAD, R3)),
                "RAD(...), R3(...) or None",
            ),
            ("causal", self.causal is None or isinstance(self.causal, Causal), "Causal(...) or None"),
            (
                "curriculum",
                self.curriculum is None or isinstance(self.curriculum, Curriculum),
                "Curriculum(...) or None",
            ),
            (
                "marching",
                self.marching is None or isinstance(self.marching, Marching),
                "Marching(...) or None",
            ),
            ("tracking", isinstance(self.tracking, Tracking), "Tracking(...)"),
        ]

    def _checks_of_budget(self) -> list[tuple[str, bool, str]]:
        """Of how long it goes, where, and what it keeps."""
        return [
            ("max_steps", whole(self.max_steps, 1), "a whole number ≥ 1"),
            ("max_seconds", self.max_seconds is None or positive(self.max_seconds), "> 0"),
            ("target_error", self.target_error is None or positive(self.target_error), "> 0"),
            ("evaluate_every", whole(self.evaluate_every, 1), "a whole number ≥ 1"),
            ("evaluate_points", whole(self.evaluate_points, 1), "a whole number ≥ 1"),
            ("device", one_of(self.device, ("auto", "cpu", "cuda")), '"auto", "cpu" or "cuda"'),
            (
                "precision",
                one_of(self.precision, ("float64", "float32", "mixed")),
                '"float64", "float32" or "mixed"',
            ),
            (
                "memory_gb",
                self.memory_gb is None or within(self.memory_gb, 0, _GREATEST),
                f"> 0, below {_GREATEST:g}",
            ),
            ("checkpoint_seconds", positive(self.checkpoint_seconds), "> 0"),
            ("keep_checkpoints", whole(self.keep_checkpoints, 1), "a whole number ≥ 1"),
            ("check_every", whole(self.check_every, 1), "a whole number ≥ 1"),
            ("holdout_every", whole(self.holdout_every, 0), "a whole number ≥ 0"),
            ("holdout_points", whole(self.holdout_points, 1), "a whole number ≥ 1"),
            ("timeout_seconds", within(self.timeout_seconds, 0, _GREATEST), f"> 0, below {_GREATEST:g}"),
            ("pictures", isinstance(self.pictures, bool), "True or False"),
            ("run_dir", self.run_dir is None or _path(self.run_dir), "a pathlib.Path"),
        ]

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and residuals."""
        return torch.float32 if self.precision == "float32" else torch.float64

    @property
    def sketch_dtype(self) -> torch.dtype:
        """Of factors and sketch, to begin with; landmarks need that of θ."""
        if isinstance(self.optimizer, SNGD) and self.optimizer.placement == "landmarks":
            return self.dtype
        return torch.float64 if self.precision == "float64" else torch.float32


def _path(value: object) -> bool:
    """A path that a file may have."""
    return isinstance(value, Path) and "\0" not in str(value)


def _kinds() -> tuple[type, ...]:
    """Of configs of one network."""
    return (*get_args(NetworkConfig), Module)


def _several(network: object) -> bool:
    """Whether these are networks by their outputs."""
    return (
        isinstance(network, Mapping)
        and bool(network)
        and all(isinstance(name, str) and isinstance(one, _kinds()) for name, one in network.items())
    )


def parse_overrides(run: RunConfig, arguments: list[str], program: str) -> RunConfig:
    """The run with fields replaced by flags, e.g. ["--optimizer.rank", "128"].

    Raises:
        ValueError: a value is out of range.
        SystemExit: with code 2, for an unknown flag or a value of the wrong type, after saying so.
    """
    run, arguments = _choose_optimizer(run, arguments)
    about = (
        "Fields of this config with their values; `sngd train --help` tells of --ranks, --quiet, --resume."
    )
    given: Any = tyro.cli(flags_of(run), args=arguments, prog=program, description=about)
    return dataclasses.replace(run, **{f.name: getattr(given, f.name) for f in dataclasses.fields(given)})


def flags_of(run: RunConfig) -> type:
    """A dataclass of the fields that flags can replace, its defaults those of a run."""
    hints = get_type_hints(RunConfig, include_extras=True)
    hints["network"] = Annotated[NetworkConfig, tyro.conf.AvoidSubcommands]  # modules have no flags
    left_out = {"problem"} | ({"network"} if isinstance(run.network, (Mapping, Module)) else set())
    names = [f.name for f in dataclasses.fields(run) if f.name not in left_out]
    flags = dataclasses.make_dataclass(
        "Flags", [(name, hints[name], dataclasses.field(default=getattr(run, name))) for name in names]
    )
    flags.__doc__ = RunConfig.__doc__
    return flags


def _choose_optimizer(run: RunConfig, arguments: list[str]) -> tuple[RunConfig, list[str]]:
    """The run with the optimizer that `--optimizer NAME` names, and the other arguments."""
    rest: list[str] = []
    names = iter(arguments)
    for argument in names:
        flag, equals, value = argument.partition("=")
        if flag != "--optimizer":
            rest.append(argument)
            continue
        chosen = named(value if equals else next(names, ""))
        if type(chosen) is not type(run.optimizer):  # the config's own settings of it stay
            run = dataclasses.replace(run, optimizer=chosen)
    return run, rest


def describe(run: RunConfig) -> dict[str, Any]:
    """The run's fields as plain values; the problem by what it consists of."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            inner = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"type": type(value).__name__, **inner}
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, Mapping):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, nn.Module):
            return repr(value)
        if callable(value):
            return getattr(value, "__qualname__", type(value).__name__)
        return list(value) if isinstance(value, tuple) else value

    fields = {f.name: plain(getattr(run, f.name)) for f in dataclasses.fields(run) if f.name != "problem"}
    problem = {
        "name": run.problem.name,
        "domain": repr(run.problem.domain),
        "fields": list(run.problem.fields),
        "coefficients": {name: plain(c) for name, c in run.problem.coefficients.items()},
        "conditions": [
            {"name": c.name, "points": c.points, "weight": c.weight, "sampling": c.sampling}
            for c in run.problem.conditions
        ],
    }
    return {"problem": problem, **fields}


def digest(text: str) -> str:
    """SHA-256 of a config file's text, to tell whether a file has changed since a run."""
    return hashlib.sha256(text.encode()).hexdigest()
