"""The loop: points, steps, errors, and when to stop. It knows hooks, not tools.

Letters
    N_c      points of condition c over all ranks; rank ϱ of R owns indices ⌊N_c ϱ/R⌋ … ⌊N_c (ϱ+1)/R⌋ − 1
"""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from sngd import checkpoint
from sngd.allocation import naming_out_of_memory
from sngd.config import RunConfig, describe
from sngd.domain import share
from sngd.evaluate import Evaluation
from sngd.memory import Plan, Sizes, available_bytes, make_plan
from sngd.networks import Network
from sngd.objective import Objective, State
from sngd.optimizers import Optimizer, Report, Stepper
from sngd.planning import Forecast
from sngd.residual import Collocation

if TYPE_CHECKING:
    from sngd.collectives import Ranks, Traffic

__all__ = ["Hook", "Trained", "train"]

# So many rejected steps in a row, each a thousandfold rise of the damping, and no step is left to try.
_STALLED_AFTER = 5
_MEMORY_SHARE = 0.5
_REASONS = ("interrupted", "target_error", "stalled", "max_steps", "max_seconds")


class Hook(Protocol):
    """Who wants to follow a run; called on rank 0."""

    def start(self, info: dict[str, Any]) -> None:
        """Before the first step."""

    def step(self, record: dict[str, Any]) -> None:
        """After every step, with the line of history.jsonl."""

    def end(self, result: dict[str, Any]) -> None:
        """After the last step, with the content of result.json."""


@dataclass
class Trained:
    """What a run leaves behind.

    Args:
        result: content of result.json.
        theta: (P,) final parameters.
        network: what they are parameters of.
        spectra: (step, σ (k,)) at steps 1, 2, 4, 8, … and the last.
    """

    result: dict[str, Any]
    theta: Tensor
    network: Network
    spectra: list[tuple[int, Tensor]] = field(default_factory=list)


def draw_points(
    run: RunConfig, step: int, ranks: Ranks, device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """This rank's collocation points of every condition for the step that begins, (n_c, d) each."""
    epoch = (step - 1) // run.resample_every if run.resample_every else 0
    points = []
    for number, condition in enumerate(run.problem.conditions):
        start, stop = share(condition.points, ranks.rank, ranks.size)
        drawn = condition.region.sample(start, stop, (run.seed, epoch, number), condition.sampling, device)
        points.append(drawn.to(dtype))
    return points


def build_objective(run: RunConfig, network: Network, ranks: Ranks, device: torch.device) -> Objective:
    """The loss of a run on this rank's points, with a memory plan made for it."""
    conditions = run.problem.conditions
    weights = torch.tensor([c.weight for c in conditions], dtype=run.dtype, device=device)
    points = draw_points(run, 1, ranks, device, run.dtype)
    collocation = Collocation(run.problem, network.to(run.dtype, device), points, weights)
    budget = own_budget(run, ranks.size, device)
    if run.memory_gb is None:  # the rank that has least decides, so that all make the same plan
        budget = int(ranks.gather(torch.tensor(budget, device=device), "control").min())
    plan = plan_memory(run, network, ranks.size, device, budget)
    return Objective(collocation, ranks, plan, run.sketch_dtype)


def plan_memory(run: RunConfig, network: Network, size: int, device: torch.device, budget: int) -> Plan:
    """The memory plan of a run on so many ranks, each with a budget in bytes.

    Raises:
        ValueError: it does not fit.
    """
    return make_plan(Sizes.of(run.problem, network, size, run.dtype, run.sketch_dtype, device), budget)


def own_budget(run: RunConfig, size: int, device: torch.device) -> int:
    """Bytes that one of so many ranks on this machine may take."""
    if run.memory_gb is not None:
        return int(run.memory_gb * 1e9)
    return int(_MEMORY_SHARE * available_bytes(device, size))


def train(
    run: RunConfig,
    ranks: Ranks,
    device: torch.device,
    *,
    hooks: Sequence[Hook] = (),
    folder: Path | None = None,
) -> Trained:
    """Train a network until a target or a budget is reached.

    Args:
        run: what to do.
        ranks: who computes together; the same run gives the same losses on any number of ranks.
        device: where.
        hooks: called on rank 0.
        folder: where checkpoints go; none are written when absent.

    Raises:
        NonFiniteResidualError: a residual is NaN or infinite, at the start or on points drawn anew.
        ResidualError: a residual raises an error, at the start or on points drawn anew.
        OutOfMemoryError: memory does not do, whatever is tried.
        ValueError: a mistake in the problem.
    """
    with naming_out_of_memory(lambda: _lacking(run, ranks)):
        return _train(run, ranks, device, hooks, folder)


def _train(
    run: RunConfig, ranks: Ranks, device: torch.device, hooks: Sequence[Hook], folder: Path | None
) -> Trained:
    loop = _Loop(run, ranks, device, hooks if ranks.rank == 0 else (), folder if ranks.rank == 0 else None)
    with _interruptible() as interrupts:
        for number in range(1, run.max_steps + 1):
            loop.step(number, interrupts)
            if loop.reason:
                break
    return loop.finish()


def _lacking(run: RunConfig, ranks: Ranks) -> str:
    given = "half of what was free" if run.memory_gb is None else f"{run.memory_gb:g}"
    return (
        f"rank {ranks.rank} has no memory left for optimizer {type(run.optimizer).__name__} with "
        f"memory_gb={given}: set a lower memory_gb, take more ranks or a smaller network"
    )


class _Loop:
    """The state of a running training."""

    def __init__(
        self, run: RunConfig, ranks: Ranks, device: torch.device, hooks: Sequence[Hook], folder: Path | None
    ) -> None:
        self.run, self.ranks, self.device, self.hooks, self.folder = run, ranks, device, hooks, folder
        self.dtype = run.dtype
        network = run.network.build(run.problem.domain, len(run.problem.fields), run.seed)
        self.objective = build_objective(run, network, ranks, device)
        self.network = self.objective.collocation.network
        self.evaluation: Evaluation | None = None
        if ranks.rank == 0 and run.problem.solution is not None:
            self.evaluation = Evaluation(run.problem, self.network, run.evaluate_points, self.dtype, device)
        self.judging = 0.0  # seconds spent on comparing with the known solution, which is no training
        state = self.objective.evaluate_new_points(network.initial.to(dtype=self.dtype, device=device))
        self.stepper = self._start(run.warmup if run.warmup_steps else run.optimizer, state)
        self.began = self.saved = clock(device)  # an optimizer may have loaded a library for seconds
        self.rejected = 0
        self.reason = ""
        self.record: dict[str, Any] = {}
        self.spectra: list[tuple[int, Tensor]] = []
        self.seconds, self.traffic = 0.0, dict(ranks.traffic)  # up to the step that runs
        for hook in hooks:
            hook.start(self._info())

    def _start(self, optimizer: Optimizer, state: State) -> Stepper:
        """An optimizer at a state."""
        return optimizer.start(self.objective, state, self.run.seed, self.run.problem.rows)

    def step(self, number: int, interrupts: list[int]) -> None:
        """Step `number`, its record, and whether it was the last; interrupts may fill while it runs."""
        run = self.run
        if run.resample_every and number > 1 and (number - 1) % run.resample_every == 0:
            self.objective.replace_points(draw_points(run, number, self.ranks, self.device, self.dtype))
            self.stepper.state = self.objective.evaluate_new_points(self.stepper.state.theta)
        if run.warmup_steps and number == run.warmup_steps + 1:
            self.stepper, self.rejected = self._start(run.optimizer, self.stepper.state), 0
        report = self.stepper.step(self.objective, number)
        if run.balance and report.accepted:
            self.stepper.state = self.objective.balance(self.stepper.state)
        self.rejected = 0 if report.accepted else self.rejected + 1
        error = None
        if self.evaluation is not None and (number % run.evaluate_every == 0 or number == run.max_steps):
            before = clock(self.device)
            error = self.evaluation.relative_l2(self.stepper.state.theta)
            self.judging += clock(self.device) - before
        seconds = clock(self.device) - self.began - self.judging
        self.reason = self._agree(self._stop(number, seconds, error, bool(interrupts)))
        if report.sigma is not None and (self.reason or number & (number - 1) == 0):
            self.spectra.append((number, report.sigma.cpu()))
        if self.ranks.rank == 0:
            self.record = self._record(number, seconds, error, report)
            for hook in self.hooks:
                hook.step(self.record)
            if time.perf_counter() - self.saved > run.checkpoint_seconds:
                self._save(number)

    def finish(self) -> Trained:
        """The result, after a last checkpoint."""
        peak = torch.tensor(_peak_bytes(self.device), dtype=torch.int64, device=self.device)
        memory = int(self.ranks.gather(peak, "control").max())
        trained = Trained({}, self.stepper.state.theta, self.network, self.spectra)
        if self.ranks.rank == 0:
            trained.result = self._result(memory)
            if self.evaluation is not None:
                trained.result["errors"] = self.evaluation.errors(trained.theta)
                trained.result["relative_l2"] = trained.result["errors"]["relative_l2"]
            self._save(trained.result["steps"])
            for hook in self.hooks:
                hook.end(trained.result)
        return trained

    def _stop(self, number: int, seconds: float, error: float | None, interrupted: bool) -> str:
        run = self.run
        if run.target_error is not None and error is not None and error <= run.target_error:
            return "target_error"
        if self.rejected >= _STALLED_AFTER:
            return "stalled"
        if number >= run.max_steps:
            return "max_steps"
        if run.max_seconds is not None and seconds >= run.max_seconds:
            return "max_seconds"
        return "interrupted" if interrupted else ""

    def _agree(self, reason: str) -> str:
        """Clocks and errors differ between ranks: rank 0 decides, but an interrupt anywhere counts."""
        heard = reason if self.ranks.rank == 0 or reason == "interrupted" else ""
        votes = torch.zeros(len(_REASONS), device=self.device)
        if heard:
            votes[_REASONS.index(heard)] = 1
        counted = self.ranks.sum(votes, "control").tolist()
        return next((name for name, count in zip(_REASONS, counted, strict=True) if count), "")

    def _record(self, number: int, seconds: float, error: float | None, report: Report) -> dict[str, Any]:
        state, sigma = self.stepper.state, report.sigma
        before, self.traffic = self.traffic, dict(self.ranks.traffic)
        began, self.seconds = self.seconds, seconds
        names = [c.name for c in self.run.problem.conditions]
        weights = self.objective.collocation.weights.tolist()
        return {
            "step": number,
            "seconds": round(seconds, 4),
            "step_seconds": round(seconds - began, 6),
            "loss": state.loss,
            "relative_l2": error,
            "damping": report.damping,
            "rank": report.rank,
            "reduction_ratio": report.reduction_ratio,
            "corrections": report.corrections,
            "accepted": report.accepted,
            "bytes_moved": self.ranks.bytes_moved,
            "traffic": _account(self.traffic, before),
            "evaluations": report.evaluations,
            "losses": dict(zip(names, state.losses.tolist(), strict=True)),
            "weights": dict(zip(names, weights, strict=True)),
            "sigma_1": None if sigma is None else float(sigma[0]),
            "sigma_k": None if sigma is None else float(sigma[-1]),
            "effective_dimension": report.effective_dimension,
            "note": report.note or None,
        }

    def _info(self) -> dict[str, Any]:
        run = self.run
        return {
            "name": run.problem.name,
            "network": repr(self.network),
            "parameters": self.network.parameters,
            "points": run.problem.points,
            "world_size": self.ranks.size,
            "device": str(self.device),
            "dtype": run.precision,
            "optimizer": type(run.optimizer).__name__,
            "seed": run.seed,
            "max_steps": run.max_steps,
            "max_seconds": run.max_seconds,
            "target_error": run.target_error,
            "run_dir": None if self.folder is None else str(self.folder),
            "fields": describe(run),
            "plan": Forecast(run, self.network, self.objective.plan, self.device).lines(),
        }

    def _result(self, memory: int) -> dict[str, Any]:
        info = self._info()
        return {
            "relative_l2": None,
            "loss": self.record["loss"],
            "steps": self.record["step"],
            "seconds": self.record["seconds"],
            **{key: info[key] for key in ("parameters", "points", "world_size")},
            "peak_memory_bytes": memory,
            "traffic": _account(self.ranks.traffic, {}),
            **{key: info[key] for key in ("seed", "device", "dtype", "name")},
            "stop_reason": self.reason,
        }

    def _save(self, number: int) -> None:
        self.saved = time.perf_counter()
        if self.folder is not None:
            state = {
                "step": number,
                "theta": self.stepper.state.theta.cpu(),
                "weights": self.objective.collocation.weights.cpu(),
                "optimizer": self.stepper.save(),
            }
            checkpoint.save(self.folder / "checkpoint", state)


def clock(device: torch.device) -> float:
    """Seconds, read once the device is done with what it was given: a GPU works on after a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _account(traffic: dict[str, Traffic], before: dict[str, Traffic]) -> dict[str, dict[str, float]]:
    """What was added to an earlier account, by label: calls, bytes, seconds; as this rank saw it."""
    added = {what: total.since(before.get(what)) for what, total in traffic.items()}
    return {
        what: {"calls": t.calls, "bytes": t.bytes, "seconds": round(t.seconds, 6)}
        for what, t in added.items()
        if t != type(t)()
    }


def _peak_bytes(device: torch.device) -> int:
    """Most memory this process held: on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the process that started this one held
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Ctrl-C once: the list fills and the step is finished. Twice: as usual."""
    heard: list[int] = []

    def note(signum: int, frame: Any) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(signum)

    try:
        previous = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: leave signals alone
        yield heard
        return
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, previous)
