"""Ranks that are killed, stopped or fail: the others end and say so, the run goes on from its checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sngd.collectives import host_rendezvous
from sngd.exit_codes import LOST_RANK, USER_ERROR
from tests.faults.kills import check_end, command
from tests.faults.looks import EQUAL, at_step, files, go_on
from tests.faults.starts import CONFIG, Forks, Start, fresh, wait_until

pytestmark = pytest.mark.launch


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank(forks, folder, reference, table, tmp_path, victim):
    with fresh(command(folder), tmp_path / "said") as start:
        wait_until(start.ranks, "ranks are there")
        at_step(folder, 4)
        os.kill(start.ranks()[victim], signal.SIGKILL)
        code, said = start.wait()
    assert code == 128 + signal.SIGKILL
    assert f"error: rank {victim} ended with signal 9; the other ranks were stopped" in said
    go_on(forks, folder, reference)
    if victim:
        table.row("SIGKILL of a rank under `sngd --ranks`", _last(said), code, EQUAL)


def _last(said: str) -> str:
    """The launcher's line; whether a rank has told before it was stopped is chance."""
    return said.strip().splitlines()[-1]


def by_hand(forks: Forks, folder: Path, port: int, agent: bool, *flags: str) -> list[Start]:
    """Two ranks that nobody looks after."""
    arguments = ["train", CONFIG, "--quiet", "--resume", "--run-dir", str(folder), *flags]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if agent:
        shared["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    return [forks.start(arguments, RANK=str(rank), **shared) for rank in range(2)]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_without_a_launcher_is_named_by_the_other(forks, folder, reference, table, victim):
    store = host_rendezvous()
    ranks = by_hand(forks, folder, store.port, True)
    at_step(folder, 4)
    os.kill(ranks[victim].pid, signal.SIGKILL)
    assert ranks[victim].wait()[0] == -signal.SIGKILL
    code, said = ranks[1 - victim].wait()
    assert code == LOST_RANK
    assert f"error: rank {victim} on " in said
    assert "does not answer (killed, stopped or cut off)" in said
    go_on(forks, folder, reference)
    if victim:
        table.row("SIGKILL of a rank elsewhere, a signal to rank 1", _first_words(said), code, EQUAL)


def _first_words(said: str) -> str:
    """Of what a rank has noticed; in which collective is chance."""
    return "\n".join(line.partition("; rank ")[0] for line in said.splitlines())


@pytest.mark.parametrize("victim", [0, 1])
def test_a_stopped_rank(forks, folder, reference, table, victim):
    store = host_rendezvous()
    ranks = by_hand(forks, folder, store.port, True, "--timeout-seconds", "2")
    at_step(folder, 4)
    os.kill(ranks[victim].pid, signal.SIGSTOP)
    code, said = ranks[1 - victim].wait()
    assert code == LOST_RANK
    assert f"error: rank {victim} on " in said
    go_on(forks, folder, reference)
    left = files(folder)
    os.kill(ranks[victim].pid, signal.SIGCONT)
    again, said_late = ranks[victim].wait()
    assert again == LOST_RANK, said_late
    assert files(folder) == left
    if victim:
        after = f"{EQUAL}; the stopped rank, continued later, ends by code 69 and writes nothing"
        table.row("SIGSTOP of a rank (`--timeout-seconds 2`)", _first_words(said), code, after)


def test_a_stopped_rank_is_ended_by_its_launcher(forks, folder, reference):
    start = forks.start([*command(folder), "--timeout-seconds", "2"])
    wait_until(start.ranks, "ranks are there")
    at_step(folder, 4)
    os.kill(start.ranks()[1], signal.SIGSTOP)
    code, said = start.wait()
    assert code == LOST_RANK
    assert "error: rank 1 on " in said
    go_on(forks, folder, reference)


def test_a_killed_launcher(forks, folder, reference, table):
    start = forks.start(command(folder))
    wait_until(start.ranks, "ranks are there")
    at_step(folder, 4)
    os.kill(start.pid, signal.SIGKILL)
    code, said = start.wait()
    assert code == -signal.SIGKILL
    go_on(forks, folder, reference)
    after = f"the ranks finish their step, write a checkpoint and end; {EQUAL}"
    table.row("SIGKILL of `sngd --ranks` itself", said, 137, after)


def test_a_lost_rendezvous(forks, folder, reference, table):
    """The store ends, the ranks live."""
    code = "from sngd.collectives import host_rendezvous as h; s = h(); print(s.port, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as store:
        ranks = by_hand(forks, folder, int(store.stdout.readline()), True)
        at_step(folder, 4)
        store.kill()
    ended = [rank.wait() for rank in ranks]
    assert [code for code, _ in ended] == [0, 0], ended
    check_end(folder, reference)
    after = "the run ends as if nothing had happened; a rank lost after that is told of, but not by number"
    table.row("the rendezvous is killed, the ranks live", "".join(said for _, said in ended), 0, after)


def test_a_rank_that_raises(forks, folder, reference, table, tmp_path):
    trigger = tmp_path / "trigger"
    start = forks.start(command(folder), FAULT_IN_RESIDUAL=f"1:raise:{trigger}")
    at_step(folder, 4)
    trigger.touch()
    code, said = start.wait()
    assert code in (1, USER_ERROR)
    assert "rank 1 on " in said
    assert "ZeroDivisionError: on purpose" in said
    go_on(forks, folder, reference)
    table.row("an error in the residual of one rank, at some step", _first_words(said), code, EQUAL)
