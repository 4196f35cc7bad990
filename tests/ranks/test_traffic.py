"""What travels between ranks in a step, label by label and byte by byte."""

import numpy as np
import pytest

from tests.ranks.runs import Followed, blocks_of, followed, runs

NAMES = [
    "heat",
    "burgers",
    "transport",
    "gaussian",
    "line_search",
    "sharded",
    "sharded_blocks",
    "replicated_blocks",
    "recomputed",
    "chunks",
]
FLOAT64 = 8
VOTES = 10 * 4  # one float32 for each reason to stop, one for a checkpoint


def _given(followed_run: Followed, step: int) -> int:
    """Columns of Q that are not drawn: the last displacement, once there is one."""
    return int(any(record["accepted"] for record in followed_run.records[: step - 1]))


def _expected(name: str, record: dict, seen: Followed, size: int) -> dict[str, tuple[int, int]]:
    """The table of METHOD §9, for one step: calls and numbers by label."""
    run, step = runs()[name], record["step"]
    k, conditions = record["rank"], len(run.problem.conditions)
    drawn = k - _given(seen, step) * run.optimizer.recycle
    sharded = run.optimizer.basis == "sharded"
    resampled = bool(run.resample_every) and step > 1
    trials, projections = record["evaluations"], seen.projections[step - 1]
    evaluations = trials + resampled
    # of JΩ, of [A | r], and of a basis that is spread over ranks
    triangles = [drawn, k + 1, *([k] if sharded else [])]
    widths = [block.width for block in blocks_of(name, k, size)]
    padded = sum(-(-width // size) * size for width in widths) if sharded else sum(widths)
    table = {
        "losses": (evaluations, evaluations * conditions),
        "sketch": (len(widths), padded * drawn),
        "basis": (len(widths), padded * k) if sharded else (0, 0),
        "triangles": (len(triangles), size * sum(width**2 for width in triangles)),
        "projections": (projections, projections * k),
        "displacement": (trials, trials * padded) if sharded else (0, 0),
    }
    bytes_of = {what: (calls, numbers * FLOAT64) for what, (calls, numbers) in table.items() if calls}
    if record is seen.records[-1]:  # θ is compared at the end, and every check_every steps
        bytes_of["check"] = (1, size * FLOAT64)
    # the second is whether a residual failed on the new points
    return {**bytes_of, "control": (1 + resampled, VOTES + resampled * size * FLOAT64)}


def _start(name: str, size: int) -> int:
    """Bytes before the first step: losses, and whether a residual failed on a rank."""
    return (len(runs()[name].problem.conditions) + size) * FLOAT64


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_what_travels_in_a_step_is_what_the_table_says(name, size):
    seen = followed(name, size)[0]
    parameters = seen.result["parameters"]
    for record, projections in zip(seen.records, seen.projections, strict=True):
        traffic = {what: (t["calls"], t["bytes"]) for what, t in record["traffic"].items()}
        assert traffic == _expected(name, record, seen, size), record
        widths = [block.width for block in blocks_of(name, record["rank"], size)]
        assert sum(widths) == parameters
        if name != "line_search":
            assert projections >= record["corrections"]
            assert record["evaluations"] >= 1 + record["corrections"]


@pytest.mark.parametrize("name", ["heat", "transport"])
def test_the_accounts_of_steps_and_run_add_up(name):
    for seen, size in ((followed(name, size)[0], size) for size in (2, 3)):
        moved = np.cumsum([sum(t["bytes"] for t in r["traffic"].values()) for r in seen.records])
        assert [r["bytes_moved"] for r in seen.records] == (_start(name, size) + moved).tolist()
        total = seen.result["traffic"]
        memory = size * 8  # gathered at the end, one int64 of each rank
        assert sum(t["bytes"] for t in total.values()) == seen.records[-1]["bytes_moved"] + memory
        for what, account in total.items():
            steps = [r["traffic"][what] for r in seen.records if what in r["traffic"]]
            assert account["seconds"] >= sum(t["seconds"] for t in steps) - 1e-5 > 0, what
            before = {"losses": 1, "control": 1 + 1}.get(what, 0)  # and the memory afterwards
            assert account["calls"] == sum(t["calls"] for t in steps) + before, what


def test_one_process_sends_nothing():
    for name in ("heat", "sharded_blocks"):
        seen = followed(name, 1)[0]
        assert {record["bytes_moved"] for record in seen.records} == {0}
        assert all(record["traffic"] == {} for record in seen.records)
        assert seen.result["traffic"] == {}


@pytest.mark.parametrize("name", ["heat", "transport", "2001", "sharded"])
def test_nothing_of_the_size_of_points_rows_or_the_gramian_travels(name):
    run, size = runs()[name], 4
    ranks = {record["rank"] for record in followed(name, size)[0].records}
    conditions = len(run.problem.conditions)
    rows = sum(c.points for c in run.problem.conditions)
    for seen_there in followed(name, size):
        parameters = seen_there.theta.numel()
        seen = {(what, numbers) for what, numbers, _ in seen_there.payloads[-1]}
        allowed = {("losses", conditions), ("control", VOTES // 4), ("control", size)}
        padded = -(-parameters // size) * size if name == "sharded" else parameters
        if name == "sharded":
            allowed.add(("displacement", padded))
            allowed |= {("basis", padded * k) for k in ranks}
        for k in ranks:
            allowed |= {("sketch", padded * k), ("sketch", padded * (k - 1)), ("projections", k)}
            allowed |= {("triangles", size * width**2) for width in (k - 1, k, k + 1)}
        assert seen <= allowed
        assert {what for what, _ in seen} == {what for what, _ in allowed}
        large = {rows, parameters**2, rows * parameters, *(rows * k for k in ranks)}
        assert not large & {numbers for _, numbers in seen}


@pytest.mark.parametrize("size", [2, 3])
def test_a_wide_network_moves_what_the_table_says_within_a_hundredth(size):
    """Of the published table, without padding and without the triangles that only keep digits."""
    seen = followed("wide", size)[0]
    p = seen.result["parameters"]
    for record, projections in zip(seen.records, seen.projections, strict=True):
        k, trials = record["rank"], record["evaluations"]
        wanted = 2 * p * k + size * (k + 1) ** 2 + projections * k + trials * (p + 3)
        padding = (-p % size) * (2 * k + trials)
        moved = sum(t["bytes"] for t in record["traffic"].values()) / FLOAT64 - padding
        assert wanted <= moved < 1.01 * wanted


def test_the_bytes_of_a_step_do_not_depend_on_the_number_of_points():
    """Ten times the points, and not one byte more for the same ranks, evaluations and corrections."""
    small, large = followed("heat", 4)[0], followed("2001", 4)[0]
    assert small.records[0]["rank"] == large.records[0]["rank"]
    for what in ("triangles", "control"):
        first, other = (f.records[0]["traffic"][what] for f in (small, large))
        assert (first["calls"], first["bytes"]) == (other["calls"], other["bytes"])
    for what, width in (("losses", 3), ("projections", small.records[0]["rank"])):
        for seen in (small, large):
            account = seen.records[0]["traffic"][what]
            assert account["bytes"] == account["calls"] * width * FLOAT64
