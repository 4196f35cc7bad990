"""Random kills: every one is survived. `python -m benchmarks.kills --count 100` has more of them."""

from __future__ import annotations

import json

import pytest

from sngd.checkpoint import Checkpoint
from tests.faults.kills import campaign, command

pytestmark = pytest.mark.launch

COUNT = 8
FEW = 4  # steps


def test_random_kills(forks, tmp_path, reference):
    found = campaign(COUNT, 7, tmp_path, forks, reference)
    assert found["kills"] == COUNT
    assert found["runs"] >= 1


@pytest.fixture(scope="module")
def operations(forks, tmp_path_factory) -> list[str]:
    """File operations of rank 0 in a run of a few steps, one of each kind and place."""
    folder = tmp_path_factory.mktemp("operations") / "run"
    log = folder.with_name("log")
    faults = {"folder": str(folder), "rank": 0, "log": str(log)}
    assert forks.start([*command(folder), "--max-steps", str(FEW)], faults=faults).wait() == (0, "")
    return log.read_text().splitlines()


def kind(operation: str) -> str:
    """Of a file operation: what is done to which file, less numbers."""
    return "".join("0" if letter.isdigit() else letter for letter in operation.partition(" ")[2])


def test_a_kill_at_every_kind_of_file_operation(forks, folder, reference, operations, tmp_path):
    """The first of each kind; before it is done."""
    numbers = {kind(operation): number for number, operation in reversed(list(enumerate(operations, 1)))}
    places = [
        f"{name}" for name in ("config.json", "owner.json", "history.jsonl", "checkpoints", "result.json")
    ]
    assert all(any(place in name for name in numbers) for place in places)
    starts = []
    for number in sorted(numbers.values()):
        one = tmp_path / f"run{number}"
        faults = {"folder": str(one), "rank": 0, "kill_at": number}
        starts.append((one, forks.start([*command(one), "--max-steps", str(FEW)], faults=faults)))
        starts[-1][1].wait()
    for one, _ in starts:
        code, said = forks.start([*command(one), "--max-steps", str(FEW)]).wait()
        assert (code, said) == (0, ""), operations
        assert json.loads((one / "result.json").read_text())["stop_reason"] == "max_steps"
        assert Checkpoint.load(one).step == FEW
        assert not [path for path in one.rglob(".*") if not path.name.startswith(".step")]
