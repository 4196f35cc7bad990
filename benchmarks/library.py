"""What the configs of the library reach: each for several seeds, every run in a process of its own.

Every run is a line of results/DEVICE/library.json; median and range over the seeds go to
sngd/problems/best.json, where `sngd problems` reads them. Both are rewritten after every config; what they
hold of others stays. A run counts by the error it ended with, not by its least; a failed one as infinite.

Run: python -m benchmarks.library wave helmholtz --seeds 3 --ranks 2
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS, write
from sngd.bench.machine import device_slug
from sngd.bench.store import MILESTONES, milestone_name
from sngd.machine import machine
from sngd.tracking import read_history, write_whole
from sngd.version import commit

ROOT = Path(__file__).parents[1]
BEST = ROOT / "sngd" / "problems" / "best.json"
_MESSAGE = 500  # characters of a failure that are kept
_KEPT = (
    "relative_l2",
    "coefficients",
    "loss",
    "steps",
    "seconds",
    "parameters",
    "points",
    "world_size",
    "stop_reason",
)


def run_once(name: str, seed: int, ranks: int, threads: int) -> dict[str, Any]:
    """One run of configs/NAME.py: how it ended, and seconds to each power of ten of the error."""
    asked = {"config": name, "seed": seed, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="sngd-library-") as folder:
        path = Path(folder) / "run"
        command = [sys.executable, "-m", "sngd.cli", "train", f"configs/{name}.py"]
        command += ["--seed", str(seed), "--run-dir", str(path)]
        if ranks > 1:
            command += ["--ranks", str(ranks)]
        search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": search}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if ended.returncode:
            return {**asked, "failure": ended.stderr.strip()[-_MESSAGE:] or f"exit code {ended.returncode}"}
        result = json.loads((path / "result.json").read_text())
        history = read_history(path / "history.jsonl")
    return {**asked, **{key: result.get(key) for key in _KEPT}, "reached": reached(history)}


def reached(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds after which the error first fell to each milestone that it fell to."""
    found = {}
    for goal in MILESTONES:
        hit = next((r for r in history if r["relative_l2"] is not None and r["relative_l2"] <= goal), None)
        if hit is not None:
            found[milestone_name(goal)] = hit["seconds"]
    return found


def summarize(runs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Median and range of the errors over seeds, median of the seconds; None where the median run failed."""
    errors = [run.get("relative_l2") for run in runs]
    numbers = [math.inf if e is None or not math.isfinite(e) else e for e in errors]
    median = statistics.median(numbers)
    if not math.isfinite(median):
        return None
    seconds = statistics.median(run["seconds"] for run in runs if "seconds" in run)
    largest = max(numbers)
    spread = [min(numbers), largest] if math.isfinite(largest) else None  # JSON has no infinity
    return {"median": median, "spread": spread, "seeds": len(runs), "seconds": seconds}


def replace_runs(path: Path, name: str, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs in a file, those of one config exchanged for others."""
    old = json.loads(path.read_text())["runs"] if path.exists() else []
    return [run for run in old if run["config"] != name] + list(runs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", help="configs, without folder and .py")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 … SEEDS − 1")
    parser.add_argument("--ranks", type=int, default=1, help="local ranks of a run")
    parser.add_argument("--threads", type=int, default=1, help="threads of a rank")
    options = parser.parse_args(arguments)
    missing = [name for name in options.names if not (ROOT / "configs" / f"{name}.py").is_file()]
    if missing or min(options.seeds, options.ranks, options.threads) < 1:
        parser.error(f"no configs for {missing}" if missing else "seeds, ranks and threads must be ≥ 1")
    about = machine("cpu")
    where = f"{about['cpu']}, {options.ranks * options.threads} of {os.cpu_count()} cores"
    revision = commit()  # before best.json changes
    for name in options.names:
        runs = []
        for seed in range(options.seeds):
            run = run_once(name, seed, options.ranks, options.threads)
            runs.append({**run, "torch": about["torch"], "machine": where, "commit": revision})
            shown = run.get("failure") or f"{run['relative_l2']:.2e} after {run['seconds']:.1f} s"
            print(f"{name}, seed {seed}: {shown}", flush=True)
        path = RESULTS / device_slug("cpu") / "library.json"
        write("library", {"runs": replace_runs(path, name, runs)})
        summary = summarize(runs)
        if summary is not None:
            best = json.loads(BEST.read_text()) if BEST.exists() else {}
            best[name] = {**summary, "machine": where, "commit": revision}
            write_whole(BEST, json.dumps(dict(sorted(best.items())), indent=1) + "\n")
            print(f"{name}: median {summary['median']:.2e} in {summary['seconds']:.1f} s", flush=True)


if __name__ == "__main__":
    main()
