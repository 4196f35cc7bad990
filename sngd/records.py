"""What hooks are told of a run: what it is, each of its steps, what has come of it."""

from __future__ import annotations

from typing import Any

from sngd.accounts import Account
from sngd.config import describe
from sngd.fields import coefficient_values
from sngd.networks import AnyNetwork
from sngd.objective import Objective, State
from sngd.optimizers import Report
from sngd.planning import Forecast
from sngd.stages import Stage

__all__ = ["SPECTRUM", "run_info", "run_result", "some", "step_record"]

SPECTRUM = "spectrum"
_SHOWN = 32  # of its numbers


def run_info(stage: Stage, objective: Objective, resumed: int, folder: str | None) -> dict[str, Any]:
    """What a run is, told before its first step.

    Args:
        stage: that it begins with.
        objective: of that stage.
        resumed: steps that were taken by earlier starts.
        folder: where checkpoints go.
    """
    run, network, device = stage.whole, stage.joined(), objective.collocation.weights.device
    own: AnyNetwork = objective.collocation.network
    return {
        "name": run.problem.name,
        "network": repr(network),
        "parameters": network.parameters,
        "points": run.problem.points,
        "world_size": objective.ranks.size,
        "device": str(device),
        "dtype": run.precision,
        "optimizer": type(run.optimizer).__name__,
        "seed": run.seed,
        "max_steps": run.max_steps,
        "max_seconds": run.max_seconds,
        "target_error": run.target_error,
        "run_dir": folder,
        "resumed": resumed,
        "fields": describe(run),
        "plan": Forecast(stage.run, own, objective.plan, device).lines(),
    }


def step_record(
    stage: Stage, objective: Objective, state: State, report: Report, error: float | None
) -> dict[str, Any]:
    """What a step has done: the line of history.jsonl but for its number, clocks and traffic.

    Under SPECTRUM some of σ_1 … σ_k, which are shown and not kept.

    Args:
        stage: that it belongs to.
        objective: its weights are told.
        state: after the step.
        report: of the optimizer.
        error: relative L2, None where it was not taken.
    """
    names = [c.name for c in stage.run.problem.conditions]
    sigma = None if report.sigma is None else report.sigma.tolist()
    return {
        "loss": state.loss,
        "relative_l2": error,
        "damping": report.damping,
        "rank": report.rank,
        "reduction_ratio": report.reduction_ratio,
        "corrections": report.corrections,
        "accepted": report.accepted,
        "evaluations": report.evaluations,
        "losses": dict(zip(names, state.losses.tolist(), strict=True)),
        "weights": dict(zip(names, objective.collocation.weights.tolist(), strict=True)),
        "coefficients": coefficient_values(stage.run.problem, state.theta) or None,
        "sigma_1": None if sigma is None else sigma[0],
        "sigma_k": None if sigma is None else sigma[-1],
        SPECTRUM: None if sigma is None else some(sigma),
        "effective_dimension": report.effective_dimension,
        "note": report.note or None,
        **({"slab": stage.number} if stage.whole.marching else {}),
    }


def run_result(
    info: dict[str, Any], record: dict[str, Any], memory: int, traffic: Account, reason: str
) -> dict[str, Any]:
    """What has come of a run: the content of result.json but for its errors.

    Args:
        info: of the run.
        record: of its last step.
        memory: bytes of the rank that took most.
        traffic: of all starts.
        reason: why it has stopped.
    """
    return {
        "relative_l2": None,
        "loss": record["loss"],
        "steps": record["step"],
        "seconds": record["seconds"],
        **{key: info[key] for key in ("parameters", "points", "world_size")},
        "peak_memory_bytes": memory,
        "traffic": traffic,
        **{key: info[key] for key in ("seed", "device", "dtype", "name")},
        "stop_reason": reason,
    }


def some(values: list[float]) -> list[float]:
    """At most 32 of the values, the first and the last among them, at equal distances."""
    last = len(values) - 1
    return [values[round(i * last / (_SHOWN - 1))] for i in range(_SHOWN)] if last >= _SHOWN else values
