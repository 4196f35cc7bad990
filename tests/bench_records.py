"""Records of benchmark runs that nobody made: a curve is given, the rest follows as for a real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sngd.bench.definition import Entry, Job
from sngd.bench.store import Outcome, record_of

ENTRIES = {
    "sngd": Entry("sngd", form="sketched"),
    "engd-w": Entry("engd-w", form="kernel"),
    "engd": Entry("engd", form="exact"),
    "adam": Entry("adam"),
    "auto": Entry("auto"),
}
MACHINE = {"cpu": "Abacus", "cores": 2, "gpu": None, "torch": "2.13.0", "python": "3.11.7"}
ABOUT = {"machine": MACHINE, "commit": "abc123", "date": "2026-11-24"}


def record(
    label: str,
    curve: Sequence[tuple[float, float]],
    *,
    seed: int = 0,
    task: str = "heat",
    points: int = 2000,
    parameters: int = 500,
    target: float = 1e-6,
    failure: str = "",
    ranks: int = 1,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The record of a run whose errors were `curve`, pairs of seconds and error, one a step."""
    entry = ENTRIES[label]
    run = {"max_seconds": 30.0, "target_error": target}
    spec = {"problem": "heat", "optimizer": entry.optimizer, "run": run}
    outcome = Outcome(
        start={"parameters": parameters, "points": points, "device": "cpu", "dtype": "float64"},
        rows=[[t, step, error, error**2] for step, (t, error) in enumerate(curve, start=1)],
        failure=failure,
        message="it broke" if failure else "",
    )
    outcome.notes.update(notes)
    if not failure:
        outcome.end = {
            **{"relative_l2": curve[-1][1], "loss": curve[-1][1] ** 2, "steps": len(curve)},
            **{"seconds": curve[-1][0], "peak_memory_bytes": 300e6, "stop_reason": "max_seconds"},
        }
    job = Job(task, label, seed, entry.form, ranks, 1, spec, {})
    return record_of(job, outcome, ABOUT)


def reaching(label: str, seconds: float, error: float = 1e-7, **more: Any) -> dict[str, Any]:
    """A run that is at 0.5 after half of so many seconds, and at `error` at their end."""
    return record(label, [(seconds / 2, 0.5), (seconds, error)], **more)


def content(suite: str, kind: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a results file holds."""
    return {"suite": suite, "about": f"About {suite}.", "kind": kind, "runs": list(records)}
