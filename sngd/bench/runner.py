"""Jobs one after the other, each in a fresh process that is killed when it takes too long."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sngd.bench.definition import LINKS, LOOPBACK, Job
from sngd.bench.netns import Hosts
from sngd.bench.store import Outcome
from sngd.launcher import unlaunched

__all__ = ["run_job"]

_PACKAGE = Path(__file__).parents[2]
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_MESSAGE = 500  # characters of a failure that are kept


def run_job(job: Job) -> Outcome:
    """Run a job in a process of its own; what goes wrong there is part of the outcome.

    Raises:
        KeyboardInterrupt: as it came; the process is gone by then.
        OSError: the job's link cannot be made.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sngd-bench-"))
        asked, lines, said = (Path(folder) / name for name in ("job.json", "lines.jsonl", "stderr"))
        content = {"spec": job.spec, "ranks": job.ranks}
        if job.link != LOOPBACK:
            # held by this process: it outlives a worker that has to be killed, and cleans up
            hosts = stack.enter_context(Hosts(job.ranks, LINKS[job.link]))
            content |= dataclasses.asdict(hosts.placement())
        asked.write_text(json.dumps(content))
        began = time.monotonic()
        code = _start_and_wait(job, [str(asked), str(lines)], said)
        seconds = time.monotonic() - began
        outcome = _read(lines)
        _explain(outcome, job, code, said.read_text(errors="replace"))
    outcome.wall_seconds = seconds
    return outcome


def _start_and_wait(job: Job, arguments: list[str], said: Path) -> int | None:
    """The worker's exit code; None when it was killed for taking too long."""
    with said.open("wb") as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "sngd.bench.worker", *arguments],
            env=_environment(job.threads),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for this process, which then ends the worker and its ranks
        )
    try:
        return worker.wait(job.limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def _environment(threads: int) -> Mapping[str, str]:
    environment = unlaunched(os.environ)
    environment.update(dict.fromkeys(_THREADS, str(threads)))
    paths = [str(_PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}


def _read(path: Path) -> Outcome:
    outcome = Outcome()
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line: dict[str, Any] = json.loads(text)
        except ValueError:  # cut off when the worker was killed
            break
        if "row" in line:
            outcome.rows.append(line["row"])
        elif "note" in line:
            outcome.notes[line["note"]] += 1
        elif "start" in line:
            outcome.start = line["start"]
        elif "pace" in line:
            outcome.pace = line["pace"]
        elif "end" in line:
            outcome.end = line["end"]
        elif not outcome.failure or len(line["message"]) > len(outcome.message):  # one rank has the text
            outcome.failure, outcome.message = line["failure"], line["message"][:_MESSAGE]
    return outcome


def _explain(outcome: Outcome, job: Job, code: int | None, said: str) -> None:
    """Name the failure of a worker that could not do so itself."""
    if code == 0 or outcome.failure:
        return
    if code is None:
        outcome.failure, outcome.message = "time-out", f"killed after {job.limit:.0f} s"
    elif code == -signal.SIGKILL:
        outcome.failure, outcome.message = "out of memory", "killed by the system"
    else:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        last = said.strip().splitlines()[-1:] or [""]
        outcome.failure, outcome.message = "error", f"ended with {how}: {last[0]}"[:_MESSAGE]
