"""The state of a running training: a step, its record, what is kept, when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sngd.accounts import Account, added_since, peak_bytes, total
from sngd.agreement import compare
from sngd.assembly import build_objective
from sngd.certificate import certify
from sngd.checkpoint import Checkpoint
from sngd.decompositions import NonFiniteMatrixError
from sngd.evaluate import Evaluation
from sngd.fields import coefficient_values
from sngd.findings import Findings
from sngd.hooks import Hook, Trained
from sngd.keeping import Keeper, random_states, restore_random_state
from sngd.objective import State
from sngd.optimizers import Optimizer, Report, Stepper
from sngd.records import run_info, run_result, step_record
from sngd.residual import ResidualError
from sngd.schedule import Schedule
from sngd.stages import Stage, next_stage
from sngd.stopping import TOLD_TO_END, Stopping
from sngd.votes import agree
from sngd.watch import Watch

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["Carried", "Loop", "clock"]

# So many rejected steps in a row, each a thousandfold rise of the damping, and no step is left to try.
STALLED_AFTER = 5


@dataclass
class Carried:
    """What goes on from one stage to the next."""

    ranks: Ranks
    hooks: Sequence[Hook]
    keeper: Keeper
    stopping: Stopping
    findings: Findings
    about: Callable[[], dict[str, Any]]
    info: dict[str, Any] = field(default_factory=dict)
    spectra: list[tuple[int, Tensor]] = field(default_factory=list)
    account: Account = field(default_factory=dict)  # traffic of earlier starts


class Loop:
    """The state of a running training, of one stage of a run.

    Steps are counted from the stage's first one; who looks from outside is told those of the run.
    """

    def __init__(
        self, stage: Stage, device: torch.device, carried: Carried, earlier: Checkpoint | None = None
    ) -> None:
        run, self.stage, self.carried = stage.run, stage, carried
        self.run, self.device, self.dtype = run, device, run.dtype
        self.ranks, self.hooks, self.keeper = carried.ranks, carried.hooks, carried.keeper
        self.findings, self.stopping = carried.findings, carried.stopping
        ranks = self.ranks
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
        self.watch = Watch(run, self.objective, device, self.findings)
        self.rejected, self.seconds = 0, stage.seconds
        if earlier is None:
            state = self.schedule.begin(stage.start)
            self.stepper = self._start(run.warmup if run.warmup_steps else run.optimizer, state)
        else:
            self._restore(earlier)
        self.began = clock(device) - self.seconds  # now: an optimizer may have loaded a library for seconds
        self.reason = self.ended = ""
        steps, loss = stage.steps + self.taken, self.stepper.state.loss
        self.record: dict[str, Any] = {"step": steps, "seconds": self.seconds, "loss": loss}
        self.score: float | None = None  # what checkpoints are compared by: the error, or the loss
        self.traffic = dict(ranks.traffic)  # up to the step that runs

    def _restore(self, earlier: Checkpoint) -> None:
        """Stand where an earlier start stood after its last step."""
        run, device = self.run, self.device
        self.rejected, self.seconds = earlier.rejected, earlier.seconds
        self.carried.spectra, self.carried.account = list(earlier.spectra), dict(earlier.traffic)
        before = earlier.precision or run.precision
        self.schedule.load(earlier.schedule, self.taken)
        self.objective.reweigh(earlier.weights.to(dtype=self.dtype, device=device))
        state = self.objective.evaluate_new_points(self.stage.start)
        if before == run.precision:
            # balanced losses were scaled, not summed anew: as they were, to the last digit
            losses = earlier.losses.to(device)
            state = replace(state, losses=losses, loss=float(losses.sum()))
        else:
            self.findings.add("precision", earlier.step, _changed(before, run.precision, earlier, state))
        warm = bool(run.warmup_steps) and self.taken <= run.warmup_steps
        self.stepper = self._start(run.warmup if warm else run.optimizer, state)
        self.stepper.load(earlier.optimizer)
        if before != run.precision:
            # another object: gradients that belong to this state are taken anew
            self.stepper.state = replace(self.stepper.state, theta=self.stepper.state.theta.clone())
        self.watch.load(earlier.watch)
        restore_random_state(earlier.random, self.ranks.rank, device)

    def begin(self, earlier: Path | None) -> None:
        """Tell the hooks, which make the run folder.

        Args:
            earlier: checkpoint that the run goes on from.
        """
        folder, resumed = self.keeper.folder, self.stage.steps + self.taken
        if self.ranks.rank == 0:
            told = None if folder is None else str(folder)
            self.carried.info = run_info(self.stage, self.objective, resumed, told)
        for hook in self.hooks:
            hook.start(self.carried.info)
        self.keeper.started(resumed, earlier)

    def run_through(self) -> Stage | None:
        """Take the steps of the stage; the next stage, None where the run has come to its end."""
        while not self.reason and self.taken < self.run.max_steps:
            try:
                self.step(self.taken + 1)
            except (ResidualError, NonFiniteMatrixError) as error:  # on every rank
                if self.taken:  # the last good state
                    self.keep()
                    self._tell_of_checkpoints(wait=True)
                if isinstance(error, ResidualError):
                    raise
                why = self.objective.explain(self.stepper.state.theta)
                raise NonFiniteMatrixError(f"{error}; {why}" if why else str(error)) from error
        theta, taken = self.stepper.state.theta, self.stage.steps + self.taken
        return next_stage(self.stage, self.reason or "max_steps", theta, taken, self.seconds)

    def _start(self, optimizer: Optimizer, state: State) -> Stepper:
        """An optimizer at a state."""
        return optimizer.start(self.objective, state, self.run.seed, self.run.problem.rows)

    def step(self, number: int) -> None:
        """Step `number`, its record, and whether it was the last."""
        run = self.run
        state = self.schedule.before(number, self.stepper.state)
        if state is not self.stepper.state and self.rejected >= STALLED_AFTER:
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
        reason = self._stop(number, seconds, error)
        self.reason, due = agree(self.ranks, self.device, reason, self.keeper.due())
        if self.reason or number % run.check_every == 0:
            compare(self.ranks, theta, step, self.stage.network)
        if self.reason == "stalled" and (why := self.objective.explain_lost()):
            self.findings.add("non_finite", step, f"stalled: no step could be taken, {why}")
        settled, last = self.schedule.settled(number), bool(self.reason)
        self.watch.after(number, step, self.stepper.state, report, settled, last)
        if report.sigma is not None and (self.reason or number & (number - 1) == 0):
            self.carried.spectra.append((step, report.sigma.cpu()))
        self.score = self._score(number, error)
        if self.ranks.rank == 0:
            self.record = self._record(number, seconds, error, report)
            if self.reason == "superseded":
                return
            for hook in self.hooks:
                hook.step(self.record)
        self._tell_of_checkpoints()
        if due and not self.reason:  # the last step's is written by finish
            self.keep()

    def _score(self, number: int, error: float | None) -> float | None:
        """What checkpoints are compared by; None where the state is one on the way to the problem itself."""
        if self.stage.number + 1 < len(self.stage.networks) or not self.schedule.settled(number):
            return None
        return error if self.run.problem.solution is not None else self.stepper.state.loss

    def finish(self) -> Trained:
        """The result, after a last checkpoint; where another start has taken over, nothing is written.

        Raises:
            CheckpointError: it could not be written.
        """
        peak = torch.tensor(peak_bytes(self.device), dtype=torch.int64, device=self.device)
        memory = int(self.ranks.gather(peak, "control").max())
        theta, account = self.stage.all(self.stepper.state.theta), self._whole_account()
        if self.reason not in ("superseded", self.ended):
            self.keep()
        network = self.stage.joined().to(self.dtype, self.device)
        trained = Trained({"stop_reason": self.reason}, theta, network, self.carried.spectra)
        if self.ranks.rank == 0:
            trained.result = run_result(self.carried.info, self.record, memory, account, self.reason)
            self._judge(trained)
        self._tell_of_checkpoints(wait=True)
        if self.ranks.rank == 0 and self.stopping.reason() == "superseded":  # by now: certificates take time
            self.reason = trained.result["stop_reason"] = "superseded"
        if self.reason == "superseded":  # whoever has taken over has removed what was half written
            return trained
        if self.ranks.rank == 0:
            trained.result["warnings"] = self.findings.plain()
            for hook in self.hooks:
                hook.end(trained.result)
        self.keeper.check()
        return trained

    def _judge(self, trained: Trained) -> None:
        """What can be said of the answer; of a run that was told to end, nothing that takes time."""
        result = trained.result
        if self.evaluation is not None and self.schedule.settled(self.taken):
            result["errors"] = self.evaluation.errors(self.stage.until(self.stepper.state.theta))
            result["relative_l2"] = result["errors"]["relative_l2"]
        result["coefficients"] = coefficient_values(self.run.problem, trained.theta) or None
        hasty = self.reason in (*TOLD_TO_END, "superseded")
        problem = self.stage.whole.problem
        result["certificate"] = None if hasty else certify(problem, trained.network, trained.theta)
        result["fallbacks"] = dict(self.findings.fallbacks)
        result |= self.watch.result()

    def _stop(self, number: int, seconds: float, error: float | None) -> str:
        run, heard = self.run, self.stopping.reason(seconds - self.seconds)
        if heard == "superseded":  # what else holds is no longer this process's to write down
            return heard
        if run.target_error is not None and error is not None and error <= run.target_error:
            return "target_error"
        if self.stepper.state.loss <= self.stage.tolerance and self.stage.tolerance:
            return "tolerance"
        if self.rejected >= STALLED_AFTER + self.schedule.ahead(number):
            return "stalled"
        if number >= run.max_steps:
            return "max_steps"
        if run.max_seconds is not None and seconds >= run.max_seconds:
            return "max_seconds"
        return heard

    def _record(self, number: int, seconds: float, error: float | None, report: Report) -> dict[str, Any]:
        before, self.traffic = self.traffic, dict(self.ranks.traffic)
        began, self.seconds = self.seconds, seconds
        return {
            "step": self.stage.steps + number,
            "seconds": round(seconds, 4),
            "step_seconds": round(seconds - began, 6),
            **step_record(self.stage, self.objective, self.stepper.state, report, error),
            "bytes_moved": self.ranks.bytes_moved
            + sum(int(t["bytes"]) for t in self.carried.account.values()),
            "traffic": added_since(before, self.traffic),
            **self.schedule.record(),
            **self.watch.record(),
            "fallbacks": self.findings.fell_back(self.objective.fallbacks, self.stage.steps + number),
            "warnings": self.findings.untold() or None,
        }

    def _whole_account(self) -> Account:
        """Traffic of all starts."""
        return total(self.carried.account, added_since({}, self.ranks.traffic))

    def keep(self) -> None:
        """A checkpoint of the state; it is written while training goes on. Every rank calls this."""
        self._tell_of_checkpoints(wait=True)
        state, step, ranks = self.stepper.state, self.stage.steps + self.taken, self.ranks
        if self.keeper.folder is None:
            return
        compare(ranks, state.theta, step, self.stage.network)
        checkpoint = Checkpoint(
            step=step,
            seconds=self.seconds,
            rejected=self.rejected,
            theta=self.stage.all(state.theta),
            weights=self.objective.collocation.weights,
            losses=state.losses,
            optimizer=self.stepper.save(),
            spectra=self.carried.spectra,
            traffic=self._whole_account(),
            world_size=ranks.size,
            budget=self.objective.plan.budget,
            schedule=self.schedule.save(),
            slab=self.stage.number,
            slab_steps=self.stage.steps,
            slab_seconds=self.stage.seconds,
            findings=self.findings.save(),
            watch=self.watch.save(),
            precision=self.run.precision,
            random=random_states(ranks, self.device),
            about=self.carried.about(),
            reason=self.reason,
        )
        self.keeper.keep(checkpoint, self.score)

    def _tell_of_checkpoints(self, wait: bool = False) -> None:
        for path, step in self.keeper.finished(wait):
            for hook in self.hooks:
                hook.saved(path, step)


def _changed(before: str, now: str, earlier: Checkpoint, state: State) -> str:
    losses = f"loss {float(earlier.losses.sum()):.3g} there, {state.loss:.3g} here"
    return f"precision was {before} up to step {earlier.step} and is {now} from there on: {losses}"


def clock(device: torch.device) -> float:
    """Seconds, read once the device is done with what it was given: a GPU works on after a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
