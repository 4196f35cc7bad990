"""Training from the first step to the result, stage by stage. It knows hooks, not tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sngd.allocation import naming_out_of_memory
from sngd.checkpoint import Checkpoint
from sngd.config import RunConfig
from sngd.findings import Findings
from sngd.hooks import Hook, Trained
from sngd.keeping import Keeper
from sngd.loop import Carried, Loop
from sngd.stages import Stage, first_stage
from sngd.stopping import Stopping

if TYPE_CHECKING:
    from sngd.ranks import Ranks

__all__ = ["Hook", "Trained", "train"]


def train(
    run: RunConfig,
    ranks: Ranks,
    device: torch.device,
    *,
    hooks: Sequence[Hook] = (),
    folder: Path | None = None,
    earlier: Checkpoint | None = None,
    stopping: Stopping | None = None,
    about: Callable[[], dict[str, Any]] = dict,
    ended: str = "",
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
        about: what checkpoints say of the run, in plain values.
        ended: why the earlier start had ended when it was lost, before it could say so: the result is written
            and no step taken. Empty where there are steps to take.

    Raises:
        CheckpointError: the last checkpoint could not be written.
        DivergedRanksError: the ranks no longer hold the same parameters.
        NonFiniteMatrixError: derivatives of a residual overflow.
        NonFiniteResidualError: a residual is NaN or infinite, at the start or on points drawn anew.
        ResidualError: a residual raises an error, at the start or on points drawn anew.
        OutOfMemoryError: memory does not do, whatever is tried.
        ValueError: a mistake in the problem.
    """
    with naming_out_of_memory(lambda: _lacking(run, ranks)):
        if earlier is not None and earlier.step >= run.max_steps and not ended:
            raise ValueError(f"max_steps={run.max_steps} must exceed the {earlier.step} steps that are done")
        findings = _earlier_findings(earlier)
        with stopping or Stopping() as stops:
            keeper = Keeper(run, ranks, folder, findings, stops.superseded)
            stage: Stage | None = first_stage(run, device, earlier)
            assert stage is not None
            told = hooks if ranks.rank == 0 else ()
            try:
                loop = Loop(stage, device, Carried(ranks, told, keeper, stops, findings, about), earlier)
                loop.begin(None if earlier is None else earlier.path)
                loop.reason = loop.ended = ended
                while stage := loop.run_through():
                    carried = loop.carried
                    del loop  # its memory
                    loop = Loop(stage, device, carried)
                    loop.keep()  # a checkpoint at the beginning of a stage
                return loop.finish()
            finally:
                keeper.close()


def _earlier_findings(earlier: Checkpoint | None) -> Findings:
    """What was found before, and what has become of newer checkpoints."""
    findings = Findings()
    if earlier is not None:
        findings.load(earlier.findings)
        for text in earlier.skipped:
            findings.add("checkpoint", earlier.step, f"{text}; the run goes on from step {earlier.step}")
    return findings


def _lacking(run: RunConfig, ranks: Ranks) -> str:
    given = "half of what was free" if run.memory_gb is None else f"{run.memory_gb:g}"
    return (
        f"rank {ranks.rank} has no memory left for optimizer {type(run.optimizer).__name__} with "
        f"memory_gb={given}: set a lower memory_gb, take more ranks or a smaller network"
    )
