"""What has come of a run, in words and in rows of tables."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from sngd.checks import finite
from sngd.planning import human
from sngd.report.facts import Facts, inner, listed
from sngd.stopping import RESUMABLE
from sngd.tracking.panel import clock, number

__all__ = [
    "about",
    "coefficients",
    "estimate",
    "figures",
    "machine_rows",
    "next_steps",
    "residuals",
    "traffic",
    "verdict",
    "warnings",
]

_ENDS = {
    "target_error": "It stopped at its target, a relative L2 error of {target}",
    "tolerance": "It stopped at the loss that its config names",
    "max_steps": "It took all the {max_steps} steps that it was given",
    "max_seconds": "It used up the {max_seconds} that it was given",
    "stalled": "It stopped because no step lowered the loss any more",
    "interrupted": "It was interrupted (Ctrl-C) and can go on",
    "terminated": "It was told to end (SIGTERM) and can go on",
    "time_limit": "It stopped ahead of the batch system's time limit and can go on",
}
_NORMS = {"max": "at any point", "l1": "in L1", "l2": "in L2"}


def about(facts: Facts) -> str:
    """The first line of the config file's docstring; empty where there is none."""
    try:
        told = ast.get_docstring(ast.parse(str(inner(facts.config, "source").get("text") or "")))
    except (SyntaxError, ValueError, RecursionError):
        return ""
    return (told or "").split("\n")[0]


def verdict(facts: Facts) -> list[str]:
    """Sentences: the error, why the run ended, what it says of its own answer."""
    result, error, loss = facts.result, facts.latest("relative_l2"), facts.latest("loss")
    steps, seconds = facts.latest("steps") or facts.latest("step"), facts.latest("seconds")
    when = f"after {steps:.0f} steps and {clock(seconds)}" if steps and seconds is not None else "so far"
    told = []
    if error is not None:
        told.append(f"The relative L2 error is {number(error)} {when}, the loss {number(loss)}.")
    else:
        told.append(f"The loss is {number(loss)} {when}; no error is known.")
    if not result:
        return [*told, f"There is {facts.standing}."]
    reason = str(result.get("stop_reason"))
    limits = {key: facts.fields.get(key) for key in ("max_steps", "max_seconds", "target_error")}
    words = _ENDS.get(reason, f"It ended with {reason!r}").format(
        target=_short(limits["target_error"]),
        max_steps=_short(limits["max_steps"]),
        max_seconds=clock(limits["max_seconds"]) if finite(limits["max_seconds"]) else "seconds",
    )
    target = limits["target_error"]
    if finite(target) and reason != "target_error":
        reached = error is not None and error <= target
        words += f"; the target, {_short(target)}, was {'' if reached else 'not '}reached"
    return [*told, f"{words}.", *_believed(facts)]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _believed(facts: Facts) -> list[str]:
    """What the certificate and the loss on fresh points say."""
    result, told = facts.result, []
    if found := estimate(facts):
        value, source = found
        told.append(
            f"From its residuals on fresh points the error is at most about {value} ({source}), for which no "
            "solution need be known."
        )
    elif inner(result, "certificate"):
        told.append("For this problem no theorem turns residuals into an estimate of the error.")
    ratio = result.get("generalization_ratio")
    if finite(ratio):
        told.append(f"On points that it did not train on, its loss is {_times(ratio)}.")
    return told


def estimate(facts: Facts) -> tuple[str, str] | None:
    """The estimate of the error with its norm, and the theorem that it is from; None where there is none."""
    found = inner(inner(facts.result, "certificate"), "error_estimate")
    value = found.get("value")
    if not finite(value):
        return None
    return f"{value:.1e} {_NORMS.get(str(found.get('norm')), '')}".rstrip(), str(found.get("source"))


def _times(ratio: float) -> str:
    if 0.5 < ratio < 2:
        return "about the same"
    return f"{ratio:.2g} times as large" if 0.01 < ratio < 100 else f"{ratio:.1e} times as large"


def warnings(facts: Facts) -> list[str]:
    """What the run warned of, and what of its folder cannot be read."""
    told = []
    for one in listed(facts.result, "warnings"):
        if isinstance(one, Mapping):
            told.append(f"Step {one.get('step')}: {one.get('text')}")
    if not facts.result:  # not summed up yet
        for record in facts.history:
            told += [f"Step {record.get('step')}: {text}" for text in listed(record, "warnings")]
    for name, count in inner(facts.result, "fallbacks").items():
        told.append(f"{name}: another way had to be taken {count} times")
    told += [f"{note}." for note in listed(inner(facts.result, "certificate"), "notes")]
    return [*told, *(f"Of this run's folder {line}." for line in facts.lacking)]


def figures(facts: Facts) -> list[tuple[str, str]]:
    """Labels and values."""
    result, errors, fields = facts.result, inner(facts.result, "errors"), facts.fields
    each = inner(errors, "fields")
    paces = [record["step_seconds"] for record in facts.history if finite(record.get("step_seconds"))]
    problem = inner(fields, "problem")
    points = sum(
        c.get("points", 0)
        for c in listed(problem, "conditions")
        if isinstance(c, Mapping) and finite(c.get("points"))
    )
    found = [
        ("Relative L2 error", _number(facts.latest("relative_l2"))),
        *((f"Relative L2 error of {name}", _number(value)) for name, value in each.items() if len(each) > 1),
        ("Largest error", _number(errors.get("max_error"))),
        ("Loss", _number(facts.latest("loss"))),
        ("Loss on fresh points", _number(result.get("holdout_loss"))),
        ("Steps", _whole(facts.latest("steps") or facts.latest("step"))),
        ("Time", clock(facts.latest("seconds") or 0.0)),
        ("A step takes, median", f"{median(paces):.3g} s" if paces else ""),
        ("Optimizer", str(inner(fields, "optimizer").get("type") or "")),
        ("Sketch rank at the end", _whole(facts.latest("rank"))),
        ("Effective dimension", f"{value:.1f}" if (value := facts.latest("effective_dimension")) else ""),
        ("Damping λ at the end", _number(facts.latest("damping"))),
        ("Parameters", _whole(result.get("parameters"))),
        ("Points", _whole(result.get("points") or points)),
        ("Precision", str(fields.get("precision") or "")),
        ("Ranks", _whole(result.get("world_size") or facts.config.get("world_size"))),
        ("Peak memory of a rank", human(v) if finite(v := result.get("peak_memory_bytes")) else ""),
    ]
    return [(label, value) for label, value in found if value]


def _number(value: Any) -> str:
    return number(value) if finite(value) else ""


def _whole(value: Any) -> str:
    return f"{value:,.0f}" if finite(value) else ""


def residuals(facts: Facts) -> list[dict[str, str]]:
    """By condition: what it is, points, root mean square, mean, largest and where, rounding."""
    found = []
    for name, one in inner(inner(facts.result, "certificate"), "conditions").items():
        if not isinstance(one, Mapping):
            continue
        at = ", ".join(f"{axis} = {value:.4g}" for axis, value in inner(one, "at").items() if finite(value))
        sizes = {key: _number(one.get(key)) or "not finite" for key in ("rms", "mean", "max")}
        kind = f"{one.get('kind')}{'' if one.get('fresh') else ', trained on'}"
        kind += ", not above rounding" if one.get("resolved") is False else ""
        points = _whole(one.get("points"))
        found.append({"name": name, "kind": kind, "points": points, **sizes, "at": at})
    return found


def coefficients(facts: Facts) -> list[dict[str, str]]:
    """Unknown coefficients: what was found, what they should be where that is known."""
    known, rows = inner(inner(facts.fields, "problem"), "coefficients"), []
    for name, value in (inner(facts.result, "coefficients") or inner(facts.last, "coefficients")).items():
        if finite(value):
            exact = inner(known, name).get("exact")
            error = f"{abs(value - exact):.2e}" if finite(exact) else ""
            row = {
                "name": name,
                "value": f"{value:.8g}",
                "exact": f"{exact:.8g}" if finite(exact) else "",
                "error": error,
            }
            rows.append(row)
    return rows


def traffic(facts: Facts) -> list[dict[str, str]]:
    """What travelled between ranks, by label: calls, bytes, seconds of rank 0."""
    rows = []
    for name, one in inner(facts.result, "traffic").items():
        if isinstance(one, Mapping) and all(finite(one.get(key)) for key in ("calls", "bytes", "seconds")):
            sizes = {
                "calls": _whole(one["calls"]),
                "bytes": human(one["bytes"]),
                "seconds": f"{one['seconds']:.2f} s",
            }
            rows.append({"name": name, **sizes})
    return rows


def machine_rows(facts: Facts) -> list[tuple[str, str]]:
    """Labels and values: machine, versions, how the run was started."""
    config, machine = facts.config, inner(facts.config, "machine")
    source = inner(config, "source")
    flags = [str(flag) for flag in listed(source, "flags")]
    command = shlex.join(["sngd", "train", str(source.get("path") or "CONFIG"), *flags])
    found = [
        ("Started by", command),
        ("As", str(config.get("launch") or "one process")),
        ("Host", str(machine.get("host") or "")),
        ("Processor", str(machine.get("cpu") or "")),
        ("Cores", str(machine.get("cores") or "")),
        ("GPU", str(machine.get("gpu") or "")),
        ("Device", str(facts.result.get("device") or "")),
        ("Versions", ", ".join(f"{name} {v}" for name, v in inner(config, "versions").items())),
        ("SHA-256 of the config file", str(source.get("sha256") or "")),
    ]
    return [(label, value) for label, value in found if value]


def next_steps(facts: Facts) -> list[tuple[str, str]]:
    """Commands, and what they do."""
    folder, reason = shlex.quote(str(facts.folder)), facts.result.get("stop_reason")
    steps = []
    if not facts.result or reason in RESUMABLE:
        steps.append((f"sngd resume {folder}", "go on from the last checkpoint"))
    elif reason in ("max_steps", "max_seconds"):
        flag = "--max-steps" if reason == "max_steps" else "--max-seconds"
        given = facts.fields.get(str(reason))
        more = 2 * given if finite(given) else 1000
        steps.append((f"sngd resume {folder} {flag} {more:g}", "go on with a larger budget"))
    again = shlex.quote(str(Path(facts.folder) / "config.json"))
    return [
        *steps,
        (f"sngd eval {folder}", "errors by field and over time, residuals on other points"),
        (f"sngd plot {folder} --format pdf", "the pictures for paper"),
        (f"sngd export {folder} --format vtk", "the fields on a grid"),
        (f"sngd train {again} --seed 1", "the same run from other initial parameters"),
    ]
