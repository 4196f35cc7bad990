"""Runs that Weights & Biases follows, offline and without a server, read back from disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sngd.launcher import unlaunched

pytest.importorskip("wandb")
from tests.wandb_records import segments
from tests.wandb_server import server

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[2]
SMALL = ["--device", "cpu", "--network.hidden", "8", "8", "--optimizer.rank", "12"]
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Ours without what would make W&B known, and with folders of its own."""
    kept = {k: v for k, v in unlaunched(os.environ).items() if not k.startswith("WANDB_")}
    (tmp_path / "home").mkdir()
    places = ("HOME", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    return kept | {"OMP_NUM_THREADS": "1", **{name: str(tmp_path / "home") for name in places}}


def train(folder: Path, environment: dict[str, str], *flags: str) -> tuple[dict[str, Any], list[Any], str]:
    """Result, history and standard error of a run."""
    command = [sys.executable, "-m", "sngd.cli", "train", str(ROOT / "configs" / "heat.py"), *SMALL, *flags]
    done = subprocess.run(
        [*command, "--run-dir", str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return json.loads((folder / "result.json").read_text()), history, done.stderr


def holds(folder: Path, text: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


def test_an_offline_run_holds_config_every_step_summary_and_pictures(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "run"
    flags = ["--tracking.wandb=offline", "--tracking.project=heat", "--tracking.group=seeds"]
    more = ["--tracking.tags", "a", "b", "--max-steps", "12", "--seed", "5"]
    result, history, said = train(folder, environment | {"WANDB_API_KEY": KEY}, *flags, *more)
    assert said == ""
    (run,) = segments(folder)
    assert run.identity == json.loads((folder / "wandb_run.json").read_text())["id"]
    assert (run.project, run.group, run.name, run.tags) == ("heat", "seeds", "run", ["a", "b"])
    assert run.exit_code == 0
    assert run.config["seed"] == 5
    assert run.config["optimizer"]["rank"] == 12
    assert run.config["launch"]["parameters"] == result["parameters"]
    assert run.steps == list(range(1, 13))
    for row, record in zip(run.rows, history, strict=True):
        assert row["loss"] == record["loss"]
        assert row["losses/equation"] == record["losses"]["equation"]
        assert row["step"] == record["step"]
    assert run.metrics["step"] == ""
    assert set(run.metrics.values()) == {"", "step"}
    for name in ("relative_l2", "loss", "steps", "stop_reason", "peak_memory_bytes"):
        assert run.summary[name] == result[name]
    for name in ("solution", "convergence", "spectrum"):
        place = run.rows[-1][f"pictures/{name}/path"]
        (copy,) = folder.glob(f"wandb/offline-run-*/files/{place}")
        assert copy.read_bytes() == (folder / f"{name}.png").read_bytes()
    assert holds(tmp_path, KEY) == []


FOLLOW = """
import sys, time
from pathlib import Path
from sngd.tracking import HistoryFile, Tracking, make_hooks
from tests.tracked import INFO, RESULT, record

folder, resumed, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
tracking = Tracking(wandb=sys.argv[4], artifacts=sys.argv[4] == "offline")
hooks = [HistoryFile(folder / "history.jsonl"), *make_hooks(tracking, folder)]
for hook in hooks:
    hook.start(INFO | {"resumed": resumed, "fields": {"seed": 3}})
for step in range(resumed + 1, last + 1):
    for hook in hooks:
        hook.step(record(step, taken=resumed))
    if step == 5:
        (folder / "state.pt").write_text("five")
        for hook in hooks:
            hook.saved(folder / "state.pt", 5)
if resumed == 0:
    print("ready", flush=True)
    time.sleep(600)
for hook in hooks:
    hook.end(RESULT)
for hook in hooks:
    hook.close()
"""


def follow(folder: Path, environment: dict[str, str], *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FOLLOW, str(folder), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_a_run_that_was_killed_goes_on_as_the_same_run_with_every_step(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with follow(tmp_path, environment, 0, 8, "offline") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while not segments(tmp_path):  # W&B has begun
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(first.pid, signal.SIGKILL)
    with follow(tmp_path, environment, 5, 10, "offline") as again:
        _, said = again.communicate(timeout=60)
    assert (again.returncode, said) == (0, "")
    earlier, run = segments(tmp_path)
    assert earlier.identity == run.identity == json.loads((tmp_path / "wandb_run.json").read_text())["id"]
    assert run.steps == list(range(1, 11))
    assert [row["taken"] for row in run.rows] == [0] * 5 + [5] * 5
    assert (earlier.exit_code, run.exit_code) == (1, 0), "the first one was cut off"
    assert earlier.artifacts == [f"checkpoint-{run.identity}"]
    assert run.summary["stop_reason"] == "max_seconds"


def steps_of(rows: list[dict[str, Any]]) -> list[int]:
    return [row["_step"] for row in rows]


@pytest.mark.parametrize("lost", [0, 5])
def test_online_a_killed_run_is_taken_up_where_the_server_stands(
    tmp_path: Path, environment: dict[str, str], lost: int
) -> None:
    """Whether the server has got less or more than the checkpoint: every step is there once."""
    with server() as host:
        known = environment | {"WANDB_BASE_URL": host.address, "WANDB_API_KEY": KEY}
        with follow(tmp_path, known, 0, 8, "online") as first:
            assert first.stdout is not None
            assert first.stdout.readline().startswith(("Weights & Biases: http", "ready"))
            time.sleep(1.5)  # longer than a batch waits
            os.kill(first.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while [len(rows) for rows in host.rows.values()] != [8]:  # the worker sends what it has
            assert time.monotonic() < deadline, host.rows
            time.sleep(0.1)
        ((identity, rows),) = host.rows.items()
        del rows[len(rows) - lost :]  # what is left after a machine has failed
        with follow(tmp_path, known, 5, 10, "online") as again:
            heard, said = again.communicate(timeout=60)
        assert said == ""
        assert heard == f"Weights & Biases: {host.address}/me/sngd/runs/{identity}\n"
        assert host.rows.keys() == {identity}
        assert steps_of(host.rows[identity]) == list(range(1, 11))
    assert holds(tmp_path, KEY) == []


def test_segments_of_an_offline_run_are_one_run_with_every_step_once_they_are_synchronised(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n')
    for resumed, last in ((1, 8), (5, 10)):
        with follow(tmp_path, environment, resumed, last, "offline") as run:
            _, said = run.communicate(timeout=60)
        assert said == ""
    with server() as host:
        known = environment | {"WANDB_BASE_URL": host.address, "WANDB_API_KEY": KEY}
        command = [str(Path(sys.executable).parent / "wandb"), "sync", "--yes", str(tmp_path / "wandb")]
        subprocess.run(command, env=known, cwd=tmp_path, check=True, capture_output=True, timeout=60)
        ((identity, rows),) = host.rows.items()
    assert identity == json.loads((tmp_path / "wandb_run.json").read_text())["id"]
    assert steps_of(rows) == list(range(1, 11))


def test_a_server_that_does_not_answer_costs_no_step_and_one_warning(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """And the run is on disk, for `wandb sync`; the key is nowhere."""
    folder = tmp_path / "run"
    dead = environment | {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}
    result, history, said = train(folder, dead, "--tracking.wandb=online", "--max-steps", "20")
    assert result["seconds"] < 10, "W&B waits for 15 s"
    assert said.count("Weights & Biases") == 1
    assert "the run is written offline, for `wandb sync`" in said
    (run,) = segments(folder)
    assert run.steps == [record["step"] for record in history] == list(range(1, 21))
    assert run.summary["relative_l2"] == result["relative_l2"]
    assert holds(tmp_path, KEY) == []


def test_without_a_key_the_run_is_written_offline_and_nobody_is_asked(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    _, _, said = train(tmp_path / "run", environment, "--tracking.wandb=online", "--max-steps", "3")
    assert said.count("Weights & Biases") == 1
    assert "the run is written offline" in said
    (run,) = segments(tmp_path / "run")
    assert run.steps == [1, 2, 3]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_disk_that_w_and_b_cannot_write_to_is_one_warning(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "wandb").symlink_to("/dev/full")
    (folder / "history.jsonl").write_text('{"step": 1}\n')
    with follow(folder, environment, 1, 30, "offline") as run:
        _, said = run.communicate(timeout=60)
    assert run.returncode == 0
    assert said.count("Weights & Biases") == 1
    assert "the run goes on without" in said
    assert len((folder / "history.jsonl").read_text().splitlines()) == 30
