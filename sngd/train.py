"""The loop: steps, errors, checkpoints, and when to stop. It knows hooks, not tools."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from sngd.accounts import Account, added_since, peak_bytes, total
from sngd.agreement import compare
from sngd.allocation import naming_out_of_memory
from sngd.assembly import build_objective
from sngd.certificate import certify
from sngd.checkpoint import Checkpoint
from sngd.config import RunConfig
from sngd.evaluate import Evaluation
from sngd.fields import coefficient_values
from sngd.findings import Findings
from sngd.networks import AnyNetwork
from sngd.objective import State
from sngd.optimizers import Optimizer, Report, Stepper
from sngd.records import run_info, run_result, step_record
from sngd.schedule import Schedule
from sngd.stages import Stage, first_stage, next_stage
from sngd.stopping import TOLD_TO_END, Stopping
from sngd.votes import agree
from sngd.watch import Watch

if TYPE_CHECKING:
    from sngd.collectives import Ranks

__all__ = ["Hook", "Trained", "train"]

# So many rejected steps in a row, each a thousandfold rise of the damping, and no step is left to try.
_STALLED_AFTER = 5


class Hook(Protocol):
    """Who wants to follow a run; called on rank 0."""

    def start(self, info: dict[str, Any]) -> None:
        """Before the first step."""

    def step(self, record: dict[str, Any]) -> None:
        """After every step, with the line of history.jsonl."""

    def saved(self, path: Path, step: int) -> None:
        """After a checkpoint."""

    def end(self, result: dict[str, Any]) -> None:
        """After the last step, with the content of result.json."""


@dataclass
class Trained:
    """What a run leaves behind.

    Args:
        result: content of result.json on rank 0; elsewhere its stop_reason alone.
        theta: (P,) final parameters.
        network: what they are parameters of.
        spectra: (step, σ (k,)) at steps 1, 2, 4, 8, … and the last.
    """

    result: dict[str, Any]
    theta: Tensor
    network: AnyNetwork
    spectra: list[tuple[int, Tensor]] = field(default_factory=list)


def train(
    run: RunConfig,
    ranks: Ranks,
    device: torch.device,
    *,
    hooks: Sequence[Hook] = (),
    folder: Path | None = None,
    earlier: Checkpoint | None = None,
    stopping: Stopping | None = None,
) -> Trained:
    """Train a network until a target or a budget is reached.

    Args:
        run: what to do.
        ranks: who computes together; the same run gives the same losses on any number of ranks.
        device: where.
        hooks: called on rank 0.
        folder: where checkpoints go; none are written when absent.
        earlier: go on from there, with the steps that the run would have taken if it had not stopped.
        stopping: what may ask the run to stop; signals alone when absent.

    Raises:
        NonFiniteResidualError: a residual is NaN or infinite, at the start or on points drawn anew.
        ResidualError: a residual raises an error, at the start or on points drawn anew.
        OutOfMemoryError: memory does not do, whatever is tried.
        ValueError: a mistake in the problem.
    """
    with naming_out_of_memory(lambda: _lacking(run, ranks)):
        if earlier is not None and earlier.step >= run.max_steps:
            raise ValueError(f"max_steps={run.max_steps} must exceed the {earlier.step} steps that are done")
        first = ranks.rank == 0
        with stopping or Stopping() as stops:
            stage: Stage | None = first_stage(run, device, earlier)
            told, own = hooks if first else (), folder if first else None
            assert stage is not None
            loop = _Loop(stage, ranks, device, told, own, stops, earlier)
            loop.begin()
            while stage := loop.run_through():
                before = loop.carried()
                del loop  # its memory
                loop = _Loop(stage, ranks, device, told, own, stops, None, before)
                loop.mark()
            return loop.finish()


def _lacking(run: RunConfig, ranks: Ranks) -> str:
    given = "half of what was free" if run.memory_gb is None else f"{run.memory_gb:g}"
    return (
        f"rank {ranks.rank} has no memory left for optimizer {type(run.optimizer).__name__} with "
        f"memory_gb={given}: set a lower memory_gb, take more ranks or a smaller network"
    )


@dataclass
class _Carried:
    """What goes on from one stage to the next."""

    info: dict[str, Any]
    spectra: list[tuple[int, Tensor]]
    account: Account
    findings: Findings


class _Loop:
    """The state of a running training, of one stage of a run.

    Steps are counted from the stage's first one; who looks from outside is told those of the run.
    """

    def __init__(
        self,
        stage: Stage,
        ranks: Ranks,
        device: torch.device,
        hooks: Sequence[Hook],
        folder: Path | None,
        stopping: Stopping,
        earlier: Checkpoint | None,
        before: _Carried | None = None,
    ) -> None:
        run, self.stage = stage.run, stage
        self.run, self.ranks, self.device, self.hooks, self.folder = run, ranks, device, hooks, folder
        self.dtype, self.stopping = run.dtype, stopping
        self.taken = 0 if earlier is None else earlier.step - stage.steps
        planned = earlier.budget if earlier is not None and earlier.world_size == ranks.size else None
        self.objective = build_objective(run, stage.network, ranks, device, max(self.taken, 1), planned)
        self.network = self.objective.collocation.network
        self.schedule = Schedule(run, self.objective, device)
        self.evaluation: Evaluation | None = None
        if ranks.rank == 0 and run.problem.solution is not None:
            reached = stage.reached()
            self.evaluation = Evaluation(stage.covered, reached, run.evaluate_points, self.dtype, device)
        self.judging = 0.0  # seconds spent on comparing with the known solution, which is no training
        before = before or _Carried({}, [], {}, Findings())
        self.info, self.spectra, self.findings = before.info, before.spectra, before.findings
        self.watch = Watch(run, self.objective, device, self.findings)
        self.account = before.account  # traffic of earlier starts
        self.rejected, self.seconds = 0, stage.seconds
        if earlier is None:
            state = self.schedule.begin(stage.start)
            self.stepper = self._start(run.warmup if run.warmup_steps else run.optimizer, state)
        else:
            self._restore(earlier)
        self.began = self.saved = clock(device)  # an optimizer may have loaded a library for seconds
        self.began -= self.seconds
        self.reason = ""
        self.record = dict[str, Any]()
        self.traffic = dict(ranks.traffic)  # up to the step that runs

    def _restore(self, earlier: Checkpoint) -> None:
        """Stand where an earlier start stood after its last step."""
        run, device = self.run, self.device
        self.rejected, self.seconds, self.spectra = earlier.rejected, earlier.seconds, list(earlier.spectra)
        self.account = dict(earlier.traffic)
        self.schedule.load(earlier.schedule, self.taken)
        self.objective.reweigh(earlier.weights.to(dtype=self.dtype, device=device))
        state = self.objective.evaluate_new_points(self.stage.start)
        # balanced losses were scaled, not summed anew: as they were, to the last digit
        losses = earlier.losses.to(device)
        state = replace(state, losses=losses, loss=float(losses.sum()))
        warm = bool(run.warmup_steps) and self.taken <= run.warmup_steps
        self.stepper = self._start(run.warmup if warm else run.optimizer, state)
        self.stepper.load(earlier.optimizer)

    def begin(self) -> None:
        """Tell the hooks."""
        if self.ranks.rank == 0:
            folder = None if self.folder is None else str(self.folder)
            self.info = run_info(self.stage, self.objective, self.stage.steps + self.taken, folder)
        for hook in self.hooks:
            hook.start(self.info)

    def run_through(self) -> Stage | None:
        """Take the steps of the stage; the next stage, None where the run has come to its end."""
        for number in range(self.taken + 1, self.run.max_steps + 1):
            self.step(number)
            if self.reason:
                break
        theta, taken = self.stepper.state.theta, self.stage.steps + self.taken
        return next_stage(self.stage, self.reason or "max_steps", theta, taken, self.seconds)

    def carried(self) -> _Carried:
        """What the next stage goes on with."""
        return _Carried(self.info, self.spectra, self.account, self.findings)

    def mark(self) -> None:
        """A checkpoint at the beginning of a stage."""
        if self.ranks.rank == 0:
            self._save()

    def _start(self, optimizer: Optimizer, state: State) -> Stepper:
        """An optimizer at a state."""
        return optimizer.start(self.objective, state, self.run.seed, self.run.problem.rows)

    def step(self, number: int) -> None:
        """Step `number`, its record, and whether it was the last."""
        run = self.run
        state = self.schedule.before(number, self.stepper.state)
        if state is not self.stepper.state and self.rejected >= _STALLED_AFTER:
            # what the refusals have done to the optimizer says nothing of the new points or equation
            self.stepper = self._start(run.warmup if number <= run.warmup_steps else run.optimizer, state)
        self.stepper.state = state
        if run.warmup_steps and number == run.warmup_steps + 1:
            state = self.objective.evaluate(self.stepper.state.theta)  # as a start from a checkpoint has it
            self.stepper, self.rejected = self._start(run.optimizer, state), 0
        report = self.stepper.step(self.objective, number)
        if report.accepted:
            self.stepper.state = self.schedule.after(self.stepper.state)
        self.rejected = 0 if report.accepted else self.rejected + 1
        error = None
        due = number % run.evaluate_every == 0 or number == run.max_steps
        if self.evaluation is not None and due and self.schedule.settled(number):
            before = clock(self.device)
            error = self.evaluation.relative_l2(self.stage.until(self.stepper.state.theta))
            self.judging += clock(self.device) - before
        seconds = clock(self.device) - self.began - self.judging
        self.taken = number
        theta, step = self.stepper.state.theta, self.stage.steps + number
        if number % run.check_every == 0:
            compare(self.ranks, theta, step)
        reason = self._stop(number, seconds, error)
        self.reason, _ = agree(self.ranks, self.device, reason, False)
        settled, last = self.schedule.settled(number), bool(self.reason)
        self.watch.after(number, step, self.stepper.state, report, settled, last)
        if report.sigma is not None and (self.reason or number & (number - 1) == 0):
            self.spectra.append((self.stage.steps + number, report.sigma.cpu()))
        if self.ranks.rank == 0:
            self.record = self._record(number, seconds, error, report)
            if self.reason == "superseded":
                return
            for hook in self.hooks:
                hook.step(self.record)
            # the last step's is written by finish
            if not self.reason and time.perf_counter() - self.saved > run.checkpoint_seconds:
                self._save()

    def finish(self) -> Trained:
        """The result, after a last checkpoint; where another start has taken over, nothing is written."""
        peak = torch.tensor(peak_bytes(self.device), dtype=torch.int64, device=self.device)
        memory = int(self.ranks.gather(peak, "control").max())
        theta = self.stepper.state.theta
        network = self.stage.joined().to(self.dtype, self.device)
        trained = Trained({"stop_reason": self.reason}, self.stage.all(theta), network, self.spectra)
        if self.ranks.rank == 0:
            account = self._whole_account()
            trained.result = run_result(self.info, self.record, memory, account, self.reason)
            if self.evaluation is not None and self.schedule.settled(self.taken):
                trained.result["errors"] = self.evaluation.errors(self.stage.until(theta))
                trained.result["relative_l2"] = trained.result["errors"]["relative_l2"]
            trained.result["coefficients"] = coefficient_values(self.run.problem, trained.theta) or None
            trained.result["certificate"] = self._certificate(network, trained.theta)
            trained.result |= self.watch.result()
            trained.result["warnings"] = self.findings.plain()
            trained.result["fallbacks"] = dict(self.findings.fallbacks)
            if self.reason != "superseded":
                self._save()
                for hook in self.hooks:
                    hook.end(trained.result)
        return trained

    def _certificate(self, network: AnyNetwork, theta: Tensor) -> dict[str, Any] | None:
        """None where a run was told to end and has no time for it, or has left its folder to another."""
        if self.reason in (*TOLD_TO_END, "superseded"):
            return None
        return certify(self.stage.whole.problem, network, theta)

    def _stop(self, number: int, seconds: float, error: float | None) -> str:
        run = self.run
        if run.target_error is not None and error is not None and error <= run.target_error:
            return "target_error"
        if self.stepper.state.loss <= self.stage.tolerance and self.stage.tolerance:
            return "tolerance"
        if self.rejected >= _STALLED_AFTER + self.schedule.ahead(number):
            return "stalled"
        if number >= run.max_steps:
            return "max_steps"
        if run.max_seconds is not None and seconds >= run.max_seconds:
            return "max_seconds"
        return self.stopping.reason(seconds - self.seconds)

    def _record(self, number: int, seconds: float, error: float | None, report: Report) -> dict[str, Any]:
        before, self.traffic = self.traffic, dict(self.ranks.traffic)
        began, self.seconds = self.seconds, seconds
        return {
            "step": self.stage.steps + number,
            "seconds": round(seconds, 4),
            "step_seconds": round(seconds - began, 6),
            **step_record(self.stage, self.objective, self.stepper.state, report, error),
            "bytes_moved": self.ranks.bytes_moved + sum(int(t["bytes"]) for t in self.account.values()),
            "traffic": added_since(before, self.traffic),
            **self.schedule.record(),
            **self.watch.record(),
            "warnings": self.findings.untold() or None,
        }

    def _whole_account(self) -> Account:
        """Traffic of all starts."""
        return total(self.account, added_since({}, self.ranks.traffic))

    def _save(self) -> None:
        self.saved = time.perf_counter()
        if self.folder is None:
            return
        state = self.stepper.state
        path = Checkpoint(
            step=self.stage.steps + self.taken,
            seconds=self.seconds,
            rejected=self.rejected,
            theta=self.stage.all(state.theta),
            weights=self.objective.collocation.weights,
            losses=state.losses,
            optimizer=self.stepper.save(),
            spectra=self.spectra,
            traffic=self._whole_account(),
            world_size=self.ranks.size,
            budget=self.objective.plan.budget,
            schedule=self.schedule.save(),
            slab=self.stage.number,
            slab_steps=self.stage.steps,
            slab_seconds=self.stage.seconds,
        ).save(self.folder)
        for hook in self.hooks:
            hook.saved(path, self.stage.steps + self.taken)


def clock(device: torch.device) -> float:
    """Seconds, read once the device is done with what it was given: a GPU works on after a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
