"""`sngd eval`: errors and residuals of a finished run, and whether they are those that it has recorded."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.console
import rich.table
import torch
from torch import Tensor

from sngd.certificate import agreement, certify
from sngd.checks import whole
from sngd.coefficient import Coefficient
from sngd.commands.common import restore, result_parser
from sngd.conservation import MOST_AXES, conservation
from sngd.devices import pick_device
from sngd.domain import Box
from sngd.evaluate import Evaluation, time_axis
from sngd.fields import coefficient_values
from sngd.flags import Parser
from sngd.launcher import Launch
from sngd.networks import AnyNetwork
from sngd.norms import sobolev_errors
from sngd.problem import Problem
from sngd.standing import RESULT
from sngd.tracking.base import plain

__all__ = ["eval_parser", "evaluate"]

# Of the evaluation where none are asked for.
_POINTS = 100_000
# Points that carry derivatives: so many of them take as long as all others.
_POINTS_WITH_SLOPES = 10_000


def eval_parser() -> Parser:
    """The parser of `sngd eval`."""
    parser = result_parser(
        "eval",
        "Errors of a finished run against the known solution, if there is one, and residuals of every "
        "condition on points that no run trains on, beside those that the run has recorded: tables on a "
        "terminal, JSON elsewhere.",
        {
            "eval runs/heat-20261124-101500": "tables",
            "eval runs/heat-20261124-101500 --json > errors.json": "the same for a script",
            "eval runs/heat-20261124-101500 --checkpoint best": "of the parameters of least error, or loss",
        },
    )
    parser.add_argument(
        "--points",
        type=int,
        metavar="N",
        help="evaluation points (default 100000), and those of residuals (default: as many as were recorded)",
    )
    parser.add_argument(
        "--dtype", choices=["float64", "float32"], default="float64", help="of residuals (default float64)"
    )
    parser.add_argument(
        "--device",
        default="auto",
        choices=["auto", "cpu", "cuda"],
        help='"auto" (default): a GPU if there is one',
    )
    parser.add_argument("--json", action="store_true", help="JSON on a terminal too")
    return parser


def evaluate(given: list[str]) -> int:
    """The command `sngd eval`."""
    options = eval_parser().parse_args(given)
    if options.points is not None and not whole(options.points, 1):
        raise ValueError(f"--points={options.points} must be a whole number ≥ 1, below 2**63")
    points = options.points or _POINTS
    run, network, theta = restore(options.run, options.checkpoint)
    device = pick_device(options.device, Launch("alone"))
    network, theta = network.to(theta.dtype, device), theta.to(device)
    evaluation = Evaluation(run.problem, network, points, theta.dtype, device)
    report: dict[str, Any] = {"problem": run.problem.name, "points": points}
    report |= evaluation.errors(theta)
    report["over_time"] = evaluation.over_time(theta)
    found = coefficient_values(run.problem, theta)
    report["coefficients"] = {name: _beside(c, found[name]) for name, c in run.problem.unknowns.items()}
    few = min(points, _POINTS_WITH_SLOPES)
    report["h1"] = _errors_with_slopes(run.problem, network, theta, evaluation.points[:few])
    report["conserved"] = _drifts(run.problem, network, theta)
    report |= _certificates(run.problem, network, theta, options)
    if options.json or not sys.stdout.isatty():
        print(json.dumps(plain(report), indent=2))
    else:
        # markup would take a name's brackets for a style
        console = rich.console.Console(highlight=False, emoji=False, markup=False)
        _show(report, options.run, run.problem, console)
    return 0


def _certificates(
    problem: Problem, network: AnyNetwork, theta: Tensor, options: argparse.Namespace
) -> dict[str, Any]:
    """The certificate anew, the one that the run has recorded, and whether they agree.

    Raises:
        ValueError: residuals cannot be evaluated.
    """
    recorded, why = _recorded(options.run)
    points = options.points or (recorded or {}).get("points")
    now = certify(problem, network, theta, points, getattr(torch, options.dtype))
    if not now["conditions"]:
        raise ValueError("; ".join(now["notes"]))
    if options.checkpoint != "last":
        why = f"--checkpoint={options.checkpoint}, the run has recorded that of its last step"
    found = {"agrees": None, "why": why, "conditions": {}} if why else agreement(recorded or {}, now)
    norms = {name: {key: c[key] for key in ("points", "rms", "max")} for name, c in now["conditions"].items()}
    if found["agrees"] is False:
        print(f"warning: the certificate is not that of {RESULT}: {found['why']}", file=sys.stderr)
    return {"residuals": norms, "certificate": now, "recorded": recorded, "agreement": found}


def _recorded(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The certificate of result.json; None and the reason where it holds none."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, f"{RESULT} is missing or damaged"
    found = result.get("certificate") if isinstance(result, dict) else None
    if isinstance(found, dict) and found.get("conditions") and whole(found.get("points"), 1):
        return found, ""
    return None, f"{RESULT} holds no certificate: the run was told to end, or is of an older version"


def _errors_with_slopes(problem: Problem, network: AnyNetwork, theta: Tensor, x: Tensor) -> dict[str, Any]:
    """Relative errors in H¹ by field; why there are none, where that is so."""
    if problem.solution is None:
        return {}
    found = sobolev_errors(problem, network, theta, x)
    return {name: dataclasses.asdict(error) for name, error in found.items()}


def _drifts(problem: Problem, network: AnyNetwork, theta: Tensor) -> dict[str, Any]:
    """How far integrals drift that should not change, by their names."""
    axis = time_axis(problem.domain.names)
    if axis is None or not problem.conserved or not isinstance(problem.domain, Box):
        return {}
    space = problem.domain.dim - 1
    if not 1 <= space <= MOST_AXES:
        why = f"their integrals are taken over one to {MOST_AXES} axes of space, this domain has {space}"
        print(f"note: conserved quantities are left out: {why}", file=sys.stderr)
        return {}
    found = conservation(problem, network, theta, problem.conserved, axis)
    return {name: dataclasses.asdict(drift) for name, drift in found.items()}


def _beside(coefficient: Coefficient, value: float) -> dict[str, float | None]:
    """A coefficient that was found, beside what it should be where that is known."""
    exact = coefficient.exact
    return {"value": value, "exact": exact, "error": None if exact is None else abs(value - exact)}


def _show(report: dict[str, Any], folder: Path, problem: Problem, console: rich.console.Console) -> None:
    """The report as tables."""
    console.print(f"{folder}: {problem.name}, {report['points']:,} points")
    if problem.solution is None:
        console.print("no known solution to compare with")
    else:
        rows = [
            (n, report["fields"][n], report["h1"][n]["norm"], report["fields_max_error"][n])
            for n in problem.fields
        ]
        if len(rows) > 1:
            rows.append(("all", report["relative_l2"], None, report["max_error"]))
        console.print(_table(("field", "relative L2 error", "relative H1 error", "largest error"), rows))
    if report["coefficients"]:
        heads = ("coefficient", "value", "exact", "error")
        rows = [(name, *(c[head] for head in heads[1:])) for name, c in report["coefficients"].items()]
        console.print(_table(heads, rows, ".8g"))
    if (over := report["over_time"]) is not None:
        names = list(over["fields"])
        columns = [over["fields"][name] for name in names]
        heads = (over["axis"], *(f"relative L2 error of {name}" for name in names))
        every = max(1, (len(over["times"]) - 1) // 10)
        moments = [f"{moment:.4g}" for moment in over["times"]]
        console.print(_table(heads, list(zip(moments, *columns, strict=True))[::every]))
    if report["conserved"]:
        about = ("conserved", "relative drift", "of which quadrature")
        drifts = [(name, drift["drift"], drift["quadrature"]) for name, drift in report["conserved"].items()]
        console.print(_table(about, drifts))
    _show_certificate(report, console)


def _show_certificate(report: dict[str, Any], console: rich.console.Console) -> None:
    """Residuals beside those that the run has recorded, and what follows from them."""
    now, old, found = (report[name] for name in ("certificate", "recorded", "agreement"))
    heads = ["residual of", "root mean square", "largest"]
    rows: list[list[Any]] = [[name, c["rms"], c["max"]] for name, c in now["conditions"].items()]
    if found["conditions"]:
        heads += ["recorded", "apart by", "recorded", "apart by"]
        for row in rows:
            before, apart = old["conditions"][row[0]], found["conditions"][row[0]]
            row += [before["rms"], apart["rms"], before["max"], apart["max"]]
    console.print(_table(heads, rows))
    console.print(f"{now['summary']} [{now['dtype']} on {now['device']}, {now['points']:,} points]")
    for note in now["notes"]:
        console.print(note)
    if found["agrees"] is None:
        console.print(f"not compared with the run's own: {found['why']}")
    elif found["agrees"]:
        console.print(f"agrees with what the run recorded ({old['dtype']} on {old['device']})")
    else:
        console.print(f"DOES NOT AGREE with what the run recorded: {found['why']}")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]], form: str = ".2e") -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for name, *values in rows:
        table.add_row(name, *(_said(value, form) for value in values))
    return table


def _said(value: float | str | None, form: str) -> str:
    if isinstance(value, str):
        return value
    return "—" if value is None or math.isnan(value) else format(value, form)
