"""The same run by every launcher; a rank that dies ends all of them, with a message that names it.

They are started as users start them: by the scripts of launch/, by `sngd train --ranks`, or directly.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sngd.launcher import unlaunched
from tests.histories import losses

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TITLES = {"sngd": "sngd --ranks", "openmpi": "mpirun (Open MPI)", "mpich": "mpirun (MPICH)"}
LAUNCHERS = ("sngd", "torchrun", "openmpi", "mpich", "deepspeed")
SMALL = ["--device", "cpu", "--network.hidden", "12", "12", "--optimizer.rank", "24", "--no-pictures"]
SECONDS = 15.0

# A run of which one rank (WHO) fails after some steps, in a way (HOW) that the tests choose.
FAILING = """
import os
from pathlib import Path

import sngd.collectives
from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig, d
from sngd.launcher import detect

rank, how = detect(os.environ).rank, os.environ.get("HOW")
Path(os.environ["PIDS"], str(rank)).write_text(str(os.getpid()))
fails = rank == int(os.environ["WHO"])
calls = []

def due(text):
    calls.append(text)
    if fails and how == text and len(calls) > 400:
        raise RuntimeError("a wheel came off")

def equation(u, p):
    due("residual")
    return d(u, T) - d(d(u, X), X) - p[X]

original = sngd.collectives.TorchRanks.sum

def sum_(self, x, what):
    due("bug")
    return original(self, x, what)

sngd.collectives.TorchRanks.sum = sum_

domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes
problem = Problem(domain, [Condition("equation", equation, domain.interior, 60)])
run = RunConfig(problem, MLP((8, 8)), SNGD(rank=12), max_steps=10**6, max_seconds=100, device="cpu",
                timeout_seconds=4.0, pictures=False)
"""


def mpich() -> str | None:
    for found in (str(Path(sys.prefix) / "mpich" / "bin" / "mpirun"), "mpirun.mpich", "mpiexec.hydra"):
        if path := shutil.which(found):
            return path
    return None


def prepared(launcher: str, ranks: int = 2) -> tuple[list[str], dict[str, str]]:
    """Command, to be followed by config and flags, and environment."""
    environment = unlaunched(os.environ) | {"OMP_NUM_THREADS": "1", "RANKS": str(ranks)}
    path = [str(BIN), environment.get("PATH", "")]
    environment |= {"PYTHONPATH": str(ROOT), "PATH": os.pathsep.join(path)}
    if launcher == "alone":
        return [sys.executable, str(ROOT / "launch" / "train.py")], environment
    if launcher == "sngd":
        return [sys.executable, "-m", "sngd.cli", "train"], environment
    script = {"openmpi": "mpirun", "mpich": "mpirun"}.get(launcher, launcher)
    if launcher == "mpich":
        if mpich() is None:
            pytest.skip("MPICH is not installed: `make test-launch` does it")
        environment["MPIRUN"] = str(mpich())
    elif not (BIN / script).exists():
        pytest.skip(f"{script} is not installed beside {sys.executable}")
    return [str(ROOT / "launch" / f"{script}.sh")], environment


def train(launcher: str, folder: Path) -> tuple[list[float], str]:
    """Losses of a short run, and what it said."""
    command, environment = prepared(launcher)
    ranks = ["--ranks", "2"] if launcher == "sngd" else []
    config = str(ROOT / "configs" / "heat.py")
    given = [*command, config, *ranks, "--max-steps", "6", "--run-dir", str(folder), *SMALL]
    done = subprocess.run(
        given, env=environment, cwd=folder.parent, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    world = json.loads((folder / "config.json").read_text())["world_size"]
    assert world == (1 if launcher == "alone" else 2)
    return losses(folder), done.stdout


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> list[float]:
    found, said = train("alone", tmp_path_factory.mktemp("alone") / "run")
    assert len(found) == 6
    assert "launched by" not in said
    return found


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_gives_the_losses_of_one_process_and_is_recognised(launcher, alone, tmp_path):
    found, said = train(launcher, tmp_path / "run")
    assert found == pytest.approx(alone, rel=1e-10)
    lines = [line for line in said.splitlines() if line.startswith("launched by")]
    assert len(lines) == 1, said
    what = f"launched by {TITLES.get(launcher, launcher)}: 2 ranks on 1 node, gloo on cpu, time-out 600 s, "
    assert lines[0].startswith(what + "rendezvous "), said


# ---------------------------------------------------------------------------------------------
# ranks that end early
# ---------------------------------------------------------------------------------------------


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Run:
    """A run that does not end by itself, until its ranks are well under way."""

    def __init__(self, launcher: str, folder: Path, who: int, how: str = "") -> None:
        config = folder / "failing.py"
        config.write_text(FAILING)
        command, environment = prepared(launcher)
        ranks = ["--ranks", "2"] if launcher == "sngd" else []
        self.folder = folder
        self.process = subprocess.Popen(
            [*command, str(config), *ranks, "--quiet", "--run-dir", str(folder / "run")],
            env=environment | {"PIDS": str(folder), "WHO": str(who), "HOW": how},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for_steps(self) -> None:
        history, deadline = self.folder / "run" / "history.jsonl", time.monotonic() + 60
        while not history.exists() or history.read_text().count("\n") < 3:
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def pids(self) -> list[int]:
        return [int((self.folder / str(rank)).read_text()) for rank in range(2)]

    def end(self, seconds: float) -> str:
        """What was said; nobody is left running."""
        try:
            said, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds:g} s")
        finally:
            deadline = time.monotonic() + 5.0  # a launcher may end before ranks that it has told to
            while any(map(running, self.pids())) and time.monotonic() < deadline:
                time.sleep(0.05)
            left = [pid for pid in self.pids() if running(pid)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
        assert self.process.returncode not in (0, None)
        assert not left
        return said


NAMED = r"error: rank {who} .*(does not answer|ended with signal 9)|process rank {who} with PID .* exited on"
HOSTS = r"error: rank 0, which hosts the rendezvous, has ended"


@pytest.mark.parametrize(
    ("launcher", "victim"), [*((name, 1) for name in LAUNCHERS[1:]), ("torchrun", 0), ("openmpi", 0)]
)
def test_a_killed_rank_ends_the_run_and_is_named(launcher, victim, tmp_path):
    run = Run(launcher, tmp_path, victim)
    run.wait_for_steps()
    os.kill(run.pids()[victim], signal.SIGKILL)
    said = run.end(SECONDS)
    assert re.search(NAMED.format(who=victim) + (f"|{HOSTS}" if victim == 0 else ""), said), said
    assert launcher == "torchrun" or "Traceback" not in said  # torchrun adds its own


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_residual_that_fails_on_one_rank_is_told_with_the_rank_and_its_error(launcher, tmp_path):
    run = Run(launcher, tmp_path, 1, "residual")
    said = run.end(90)
    told = r"error: rank 1 on .*: residual of condition 'equation' failed at failing.py:\d+: "
    assert re.search(f"^{told}RuntimeError: a wheel came off$", said, re.MULTILINE), said
    assert launcher == "torchrun" or "Traceback" not in said  # torchrun adds its own


@pytest.mark.parametrize("launcher", ["sngd", "torchrun", "openmpi"])
def test_an_unforeseen_error_of_one_rank_is_told_with_its_trace_and_ends_all(launcher, tmp_path):
    said = Run(launcher, tmp_path, 1, "bug").end(90)
    assert re.search(r"^error: rank 1 on .*: RuntimeError: a wheel came off$", said, re.MULTILINE), said
    assert 'failing.py", line' in said


def test_a_stopped_rank_is_named_when_the_collectives_time_out(tmp_path):
    run = Run("torchrun", tmp_path, 1)
    run.wait_for_steps()
    stopped = run.pids()[1]
    os.kill(stopped, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + SECONDS
        while running(run.pids()[0]) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        os.kill(stopped, signal.SIGCONT)
    said = run.end(SECONDS)
    told = r"error: rank 1 on .* does not answer .*; rank 0 on .* noticed it in '.*': Timed out"
    assert re.search(told, said), said


def test_ranks_are_refused_under_a_launcher(tmp_path):
    command, environment = prepared("torchrun")
    refused = subprocess.run(
        [*command, str(ROOT / "configs" / "heat.py"), "--ranks", "2", "--run-dir", str(tmp_path / "run")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode != 0
    told = "error: --ranks=2, but torchrun has already started 2 ranks: leave --ranks out"
    assert refused.stderr.count(told) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("script", ["torchrun.sh", "mpirun.sh", "deepspeed.sh"])
def test_a_script_without_arguments_says_how_to_call_it(script):
    path = ROOT / "launch" / script
    asked = subprocess.run([str(path)], capture_output=True, text=True)
    assert asked.returncode == 2
    assert f"launch/{script} CONFIG" in asked.stderr
    assert len(path.read_text().splitlines()) < 30


def test_restarts_need_a_run_folder():
    asked = subprocess.run(
        [str(ROOT / "launch" / "torchrun.sh"), "x.py"],
        env=prepared("torchrun")[1] | {"MAX_RESTARTS": "1"},
        capture_output=True,
        text=True,
    )
    assert (asked.returncode, asked.stderr) == (2, "error: MAX_RESTARTS needs --run-dir DIR\n")
