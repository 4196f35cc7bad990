"""What a run listens on, held against docs/security.md: the kernel is asked of each of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sngd.launcher import unlaunched
from tests.listeners import family_of, listening, variable

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SMALL = ["--device", "cpu", "--network.hidden", "8", "8", "--optimizer.rank", "12", "--quiet"]
ENDLESS = ["--max-steps", "1000000", "--max-seconds", "200", "--target-error", "1e-300"]
LOOPBACK, EVERYWHERE = "127.0.0.1", {"0.0.0.0", "::"}


@contextmanager
def running(
    tmp_path: Path, command: list[str], flags: Sequence[str] = (), **variables: str
) -> Iterator[list[int]]:
    """Processes of a run that is under way, the one that was started first."""
    environment = {k: v for k, v in unlaunched(os.environ).items() if "SOCKET_IFNAME" not in k}
    environment |= {"OMP_NUM_THREADS": "1", "RANKS": "2", "PYTHONPATH": str(ROOT), **variables}
    environment["PATH"] = os.pathsep.join([str(BIN), environment.get("PATH", "")])
    folder = tmp_path / "run"
    given = [*command, str(ROOT / "configs" / "heat.py"), *SMALL, *ENDLESS, *flags]
    given += ["--run-dir", str(folder)]
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(given, env=environment, cwd=tmp_path, stdout=said, stderr=said) as process,
    ):
        family = [process.pid]
        try:
            deadline = time.monotonic() + 90
            while not (folder / "history.jsonl").exists() or not (folder / "history.jsonl").read_text():
                assert process.poll() is None, (tmp_path / "said").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            family = family_of(process.pid)
            yield family
        finally:
            family = [*family, *family_of(process.pid)] if process.poll() is None else family
            for pid in reversed(dict.fromkeys(family)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def ranks_of(family: list[int]) -> dict[str, int]:
    """The processes that train, by rank: the last where launchers hand its variables down a line."""
    found = {}
    for pid in family:
        rank = variable(pid, "RANK") or variable(pid, "OMPI_COMM_WORLD_RANK")
        if rank is not None:
            found[rank] = pid
    return found


def addresses(pid: int) -> Counter[str]:
    return Counter(address for address, _ in listening(pid))


def test_ranks_that_sngd_starts_and_their_rendezvous_listen_on_loopback_alone(tmp_path: Path) -> None:
    with running(tmp_path, [sys.executable, "-m", "sngd.cli", "train", "--ranks", "2"]) as family:
        assert sorted(ranks_of(family)) == ["0", "1"]
        assert [addresses(pid) for pid in family] == [Counter([LOOPBACK])] * 3


def test_a_process_alone_listens_on_nothing_nor_do_its_trackers(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    command = [
        sys.executable,
        "-m",
        "sngd.cli",
        "train",
    ]
    flags = ["--tracking.wandb=offline", "--tracking.tensorboard"]
    with running(tmp_path, command, flags, HOME=str(tmp_path)) as family:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("run/wandb/offline-run-*/*.wandb")):  # its processes are up
            assert time.monotonic() < deadline
            time.sleep(0.1)
        family = family_of(family[0])
        assert len(family) > 2
        assert [listening(pid) for pid in family] == [[] for _ in family]


def test_under_torchrun_only_its_agent_listens_beyond_loopback(tmp_path: Path) -> None:
    with running(tmp_path, [str(ROOT / "launch" / "torchrun.sh")]) as family:
        ranks = ranks_of(family)
        found = {pid: addresses(pid) for pid in family}
    assert {rank: found[pid] for rank, pid in ranks.items()} == {r: Counter([LOOPBACK]) for r in "01"}
    assert {pid for pid in found if set(found[pid]) & EVERYWHERE} == {family[0]}


def test_ranks_of_torchrun_that_meet_apart_from_their_agents_listen_on_loopback_too(tmp_path: Path) -> None:
    apart = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with running(tmp_path, [str(ROOT / "launch" / "torchrun.sh")], **apart) as family:
        found = {rank: addresses(pid) for rank, pid in ranks_of(family).items()}
    assert {rank: set(where) & EVERYWHERE for rank, where in found.items()} == {"0": set(), "1": set()}
    assert found["0"].total() == 2, "the rendezvous and gloo"


def test_under_mpirun_without_its_own_tcp_ranks_listen_on_loopback_alone(tmp_path: Path) -> None:
    if not (BIN / "mpirun").exists():
        pytest.skip("mpirun is not installed")
    with running(tmp_path, [str(ROOT / "launch" / "mpirun.sh")], OMPI_MCA_btl="^tcp") as family:
        found = {rank: addresses(pid) for rank, pid in ranks_of(family).items()}
    assert found == {"0": Counter({LOOPBACK: 2}), "1": Counter([LOOPBACK])}
