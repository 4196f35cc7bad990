"""Random kills of runs on two ranks: every one must be survived (tests/faults/kills.py says how).

Run: python -m benchmarks.kills [--count 100] [--seed 0]   (2 s a kill on two idle cores)
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.results import write
from sngd.version import commit
from tests.faults.kills import campaign, undisturbed
from tests.faults.starts import Forks


def main() -> None:
    """Kill, go on, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    revision = commit()
    with tempfile.TemporaryDirectory() as folder, Forks(hurry=0.2) as forks:
        above = Path(folder)
        reference = undisturbed(forks, above / "undisturbed")
        found = campaign(options.count, options.seed, above, forks, reference)
    print(f"written to {write('kills', {'commit': revision, **found})}")


if __name__ == "__main__":
    main()
