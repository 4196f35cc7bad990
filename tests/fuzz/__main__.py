"""Fuzz at length and write down what came of it: benchmarks/results/DEVICE/fuzz.json.

Every kind of input counts its examples by what became of them; kinds that were tried before and are not named
now stay. Examples are the same in every run.

Run: python -m tests.fuzz [--examples 10000] [--kinds configs problems ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hypothesis
import torch

from benchmarks.results import RESULTS, write
from sngd.bench.machine import device_slug
from sngd.version import commit
from tests.fuzz.judging import KINDS_OF_VIOLATION, Tally
from tests.fuzz.properties import PROPERTIES, workplace
from tests.fuzz.test_fuzz import run_property

_COUNTED = ("examples", "accepted", "refused", *KINDS_OF_VIOLATION)


def main() -> int:
    """0 where nothing was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", allow_abbrev=False)
    parser.add_argument("--examples", type=int, default=10_000, help="of all kinds together (default 10000)")
    parser.add_argument("--kinds", nargs="+", choices=list(PROPERTIES), default=list(PROPERTIES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    hypothesis.settings.register_profile("long", deadline=None, derandomize=True, database=None)
    hypothesis.settings.load_profile("long")
    kinds, revision = _stored(), commit()
    with tempfile.TemporaryDirectory(prefix="sngd-fuzz-") as folder, workplace(Path(folder)):
        for kind in options.kinds:
            began = time.monotonic()
            tally = run_property(kind, Tally(strict=False), options.examples)
            counts = {name: tally.counts[name] for name in _COUNTED}
            kinds = _stored() | {
                kind: {**counts, "found": tally.found[:20], "seconds": round(time.monotonic() - began, 1)}
            }
            print(kind, counts, *tally.found[:20], sep="\n  ", flush=True)
            write("fuzz", _content(kinds, revision))
    return int(any(one[name] for one in kinds.values() for name in KINDS_OF_VIOLATION))


def _stored() -> dict[str, Any]:
    path = RESULTS / device_slug("cpu") / "fuzz.json"
    return json.loads(path.read_text())["kinds"] if path.is_file() else {}


def _content(kinds: dict[str, Any], revision: str | None) -> dict[str, Any]:
    ordered = {kind: kinds[kind] for kind in PROPERTIES if kind in kinds}
    total = {name: sum(one[name] for one in ordered.values()) for name in _COUNTED}
    versions = {"hypothesis": hypothesis.__version__}
    return {"commit": revision, "versions": versions, "total": total, "kinds": ordered}


if __name__ == "__main__":
    sys.exit(main())
