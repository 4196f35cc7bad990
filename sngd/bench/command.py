"""`sngd bench SUITE` and `sngd bench report`."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rich.console

from sngd.bench import suites
from sngd.bench.definition import START_SECONDS, Job, Suite, jobs_of
from sngd.bench.figures import draw_suite
from sngd.bench.links import possible, probe_links
from sngd.bench.machine import device_slug
from sngd.bench.projection import project_all
from sngd.bench.report import write_report
from sngd.bench.runner import run_job
from sngd.bench.scaling import model_of
from sngd.bench.scaling_report import points_table, projection_table
from sngd.bench.store import Store, record_of
from sngd.bench.table import by_task, console_table, seconds
from sngd.checks import within
from sngd.devices import pick_device
from sngd.exit_codes import INTERRUPTED, USER_ERROR
from sngd.flags import Parser
from sngd.launcher import Launch
from sngd.machine import machine
from sngd.version import commit

__all__ = ["bench", "bench_parser"]

_WIDE = 130  # columns that a table takes where nobody has set a width


def bench_parser() -> Parser:
    """The parser of `sngd bench`."""
    lines = [f"  {name:10s} {suite.about}" for name, suite in suites.SUITES.items()]
    parser = Parser(
        prog="sngd bench",
        description="Run a suite of optimizers × problems × seeds in a checkout of the project, and write "
        "tables and pictures. What is stored already is not run again.",
        epilog="suites:\n"
        + "\n".join(lines)
        + "\n  report     write README.md and pictures from what is stored",
        examples={
            "bench quick": "a look at everything in five minutes",
            "bench rivals --only heat --dry-run": "what would be run, and for how long",
        },
    )
    add = parser.add_argument
    add("suite", metavar="SUITE", help="a name from below, or report")
    add("--seeds", type=int, metavar="N", help="seeds 0 … N−1 instead of the suite's number")
    add("--only", nargs="+", default=[], metavar="TASK", help="only these tasks of the suite")
    add("--optimizers", nargs="+", default=[], metavar="LABEL", help="only these entries of the suite")
    add("--threads", type=int, default=1, metavar="N", help="threads of a process (default 1)")
    add("--seconds-scale", type=float, default=1.0, metavar="X", help="budgets times X")
    add(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help='"auto" (default): a GPU if there is one',
    )
    add(
        "--folder",
        type=Path,
        default=Path("benchmarks"),
        metavar="PATH",
        help="holds results/ and README.md (default benchmarks)",
    )
    add("--fresh", action="store_true", help="forget what is stored of these runs")
    add("--retry", action="store_true", help="forget those of them that failed")
    add("--dry-run", action="store_true", help="list the runs and the longest time they may take")
    return parser


def bench(given: Sequence[str]) -> int:
    """The command; 0, or 130 when it was interrupted.

    Raises:
        ValueError: a mistake of the user's.
    """
    parser = bench_parser()
    if not given:
        parser.print_help()
        return USER_ERROR
    options = parser.parse_args(given)
    console = rich.console.Console(highlight=False, emoji=False, width=None if _terminal() else _WIDE)
    if options.suite == "report":
        console.print(f"written to {write_report(_folder(options.folder), draw=True)}", markup=False)
        return 0
    if options.suite not in suites.SUITES:
        raise ValueError(f"suite {options.suite!r} must be one of {', '.join(suites.SUITES)}, or report")
    for flag, value in (("--seeds", options.seeds), ("--threads", options.threads)):
        if value is not None and value < 1:
            raise ValueError(f"{flag}={value} must be ≥ 1")
    if not within(options.seconds_scale, 0, math.inf):
        raise ValueError(f"--seconds-scale={options.seconds_scale} must be finite and > 0")
    return _run_suite(options, suites.SUITES[options.suite], console)


def _terminal() -> bool:
    return os.isatty(1)


def _folder(folder: Path) -> Path:
    """The folder of results and report, which must be there.

    Raises:
        ValueError: it is not, or it cannot be written to.
    """
    if not folder.is_dir():
        raise ValueError(
            f"folder {str(folder)!r} does not exist: results are kept in the benchmarks/ of a checkout; run "
            "there, or name another with --folder"
        )
    if not os.access(folder, os.W_OK):
        raise ValueError(f"folder {str(folder)!r} cannot be written to")
    return folder


def _run_suite(options: argparse.Namespace, suite: Suite, console: rich.console.Console) -> int:
    device = pick_device(options.device, Launch("alone")).type
    jobs = list(
        jobs_of(
            suite,
            seeds=options.seeds,
            tasks=options.only,
            labels=options.optimizers,
            device=device,
            threads=options.threads,
            scale=options.seconds_scale,
        )
    )
    jobs, why = possible(jobs)
    if why:
        console.print(f"left out are runs over limited links: {why}", markup=False, soft_wrap=True)
    folder = _folder(options.folder)
    store = Store(folder / "results" / device_slug(device) / f"{options.suite}.json", options.suite, suite)
    again = [job for job in jobs if options.fresh or (options.retry and _failed(store, job))]
    missing = [job for job in jobs if job in again or store.done(job) is None]
    if options.dry_run:
        _list(jobs, missing, console)
        return 0
    if not options.fresh:
        _refuse_to_shorten(store, missing, options.seconds_scale)
    store.drop(again)
    store.write()
    if suite.kind == "scaling":
        _probe(jobs, store, options.fresh, console)
    try:
        _run(missing, store, device, console)
    except KeyboardInterrupt:
        console.print(
            f"interrupted; {store.path} holds what was finished, the same call goes on", markup=False
        )
        return INTERRUPTED
    if suite.kind == "scaling":
        _fit(suite, device, store, console)
    content = store.content()
    for task, records in by_task(content["runs"]).items() if suite.kind != "scaling" else ():
        console.print(console_table(task, records))
    draw_suite(content, store.path.with_suffix(""))
    console.print(f"written to {store.path} and {write_report(folder)}", markup=False, soft_wrap=True)
    return 0


def _probe(jobs: Sequence[Job], store: Store, fresh: bool, console: rich.console.Console) -> None:
    """Measure the links that jobs need and nobody has measured yet."""
    known = [] if fresh else store.extra.get("probes", [])
    there = {(p["link"], p["ranks"]) for p in known}
    due = [job for job in jobs if (job.link, job.ranks) not in there]
    if any(job.ranks > 1 for job in due):
        console.print("measuring collectives by themselves", markup=False)
        store.extra["probes"] = known + probe_links(due)
        store.write()


def _fit(suite: Suite, device: str, store: Store, console: rich.console.Console) -> None:
    """The model of what is stored, beside it."""
    specs = {job.task: job.spec for job in jobs_of(suite, seeds=1, device=device)}
    model = model_of(list(store.records.values()), specs, store.extra.get("probes", []))
    if model is None:
        console.print("too little was measured for a model: it needs two runs on one rank and the loopback")
        return
    store.extra["model"] = {**model, "projection": project_all()}
    store.write()
    for table in (points_table(model["points"]), projection_table(store.extra["model"]["projection"])):
        console.print(table, markup=False, soft_wrap=True)


def _failed(store: Store, job: Job) -> bool:
    record = store.records.get(job.key)
    return record is not None and bool(record["failure"])


def _refuse_to_shorten(store: Store, missing: Sequence[Job], scale: float) -> None:
    """A quick look with scaled budgets must not take the place of what took long."""
    losers = [job for job in missing if job.key in store.records and scale != 1]
    longer = [job for job in losers if store.records[job.key]["budget"] > job.seconds]
    if longer:
        raise ValueError(
            f"--seconds-scale={scale:g} would replace {len(longer)} stored runs of larger budgets in "
            f"{str(store.path)!r}; keep the new ones elsewhere with --folder, or say --fresh"
        )


def _list(jobs: Sequence[Job], missing: Sequence[Job], console: rich.console.Console) -> None:
    due = {job.key for job in missing}
    for job in jobs:
        state = f"{job.seconds:g} s" if job.key in due else "stored"
        console.print(f"{job.task}, {job.label}, seed {job.seed}: {state}", markup=False, soft_wrap=True)
    budgets = sum(job.seconds + START_SECONDS for job in missing)
    limits = sum(job.limit for job in missing)
    console.print(
        f"{len(missing)} of {len(jobs)} runs to do: {_clock(budgets)} at most with starts; "
        f"{_clock(limits)} if every one had to be killed",
        markup=False,
        soft_wrap=True,
    )


def _clock(duration: float) -> str:
    minutes = math.ceil(duration / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _run(jobs: Sequence[Job], store: Store, device: str, console: rich.console.Console) -> None:
    where, revision = machine(device), commit()
    for number, job in enumerate(jobs, start=1):
        outcome = run_job(job)
        about = {"machine": where, "commit": revision, "date": datetime.now(UTC).strftime("%Y-%m-%d")}
        record = record_of(job, outcome, about)
        store.add(record)
        console.print(_said(record, number, len(jobs)), markup=False, soft_wrap=True)


def _said(record: dict[str, Any], number: int, of: int) -> str:
    """One line of progress."""
    error, time = record["relative_l2"], record["seconds"]
    if record["failure"]:
        how = f"{record['failure']}: {record['message']}"
    else:
        how = f"{seconds(time)} s, {record['steps']} steps, {record['stop_reason']}"
    shown = "no error" if error is None else f"error {error:.1e}"
    return f"[{number}/{of}] {record['task']}, {record['label']}, seed {record['seed']}: {shown}, {how}"
