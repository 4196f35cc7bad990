"""Processes: their threads, ranks, notes, and the ways they end."""

import _thread
import json
import signal
import subprocess
import threading
import time

import pytest
import torch

from sngd import train
from sngd.bench import definition, runner, worker
from sngd.bench.definition import Entry, Suite, Task, build, jobs_of
from sngd.bench.runner import run_job
from sngd.bench.store import Outcome
from sngd.bench.worker import Lines
from sngd.collectives import LocalRanks
from sngd.networks import MLP


def job(seconds=20.0, ranks=1, threads=1):
    points = {"interior": 60, "initial": 10, "walls": 20}
    fields = {"max_steps": 3, "evaluate_points": 500}
    task = Task("heat", points, MLP((8, 8)), seconds, 1e-12, fields, ranks)
    (made,) = jobs_of(Suite("", {"heat": task}, {"sngd": Entry("sngd", {"rank": 12})}, 1), threads=threads)
    return made


def test_two_ranks_give_the_losses_of_this_process():
    outcome = run_job(job(ranks=2))
    assert outcome.failure == ""
    alone = []

    class Follow:
        def start(self, info):
            pass

        def step(self, record):
            alone.append(record["loss"])

        def end(self, result):
            pass

    train(build(job().spec), LocalRanks(), torch.device("cpu"), hooks=[Follow()])
    assert [row[3] for row in outcome.rows] == pytest.approx(alone, rel=1e-10)
    assert outcome.end["steps"] == 3
    assert outcome.wall_seconds > outcome.end["seconds"]


def test_a_process_that_takes_too_long_is_killed(monkeypatch):
    monkeypatch.setattr(definition, "_GRACE_SECONDS", 0.1)
    began = time.monotonic()
    outcome = run_job(job(seconds=1e-3))
    assert time.monotonic() - began < 5
    assert (outcome.failure, outcome.end) == ("time-out", None)
    assert outcome.message == "killed after 0 s"


def test_an_interrupt_ends_the_worker(monkeypatch):
    started, popen = [], subprocess.Popen

    def start(*told, **more):
        started.append(popen(*told, **more))
        threading.Timer(0.3, _thread.interrupt_main).start()  # whoever has started it waits for it by then
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored, where a shell has started it by &
    try:
        with pytest.raises(KeyboardInterrupt):
            run_job(job())
    finally:
        signal.signal(signal.SIGINT, before)
    assert started[0].poll() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "said", "failure", "message"),
    [
        (None, "", "time-out", "killed after 90 s"),
        (-9, "", "out of memory", "killed by the system"),
        (-11, "", "error", "ended with signal 11: "),
        (
            1,
            "Traceback\nImportError: no such thing\n",
            "error",
            "ended with exit code 1: ImportError: no such",
        ),
    ],
)
def test_the_ways_a_process_ends_without_a_word(code, said, failure, message):
    outcome = Outcome()
    runner._explain(outcome, job(), code, said)
    assert outcome.failure == failure
    assert outcome.message.startswith(message)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (RuntimeError("shapes differ"), "error"),
    ],
)
def test_running_out_of_memory_has_a_name_of_its_own(error, kind):
    assert worker._kind(error) == kind


def test_lines_are_read_back_up_to_where_a_kill_cut_them(tmp_path):
    lines = Lines(tmp_path / "lines")
    info = {
        "name": "heat",
        "parameters": 3,
        "points": 4,
        "world_size": 1,
        "device": "cpu",
        "dtype": "float64",
    }
    lines.start(info)
    for step, note in ((1, "auto: kernel"), (2, None), (3, "auto: kernel")):
        error = float("nan") if step == 2 else 0.5
        lines.step(
            {"seconds": 0.1 * step, "step": step, "relative_l2": error, "loss": 1.0, "note": note}
            | {"step_seconds": 0.1, "evaluations": 3, "traffic": {}}
        )
    path = tmp_path / "lines"
    path.write_text(path.read_text() + '{"row": [0.4, 4, 0.')
    outcome = runner._read(path)
    assert outcome.start["parameters"] == 3
    assert [row[1:3] for row in outcome.rows] == [[1, 0.5], [2, None], [3, 0.5]]
    assert outcome.notes == {"auto: kernel": 2}


def test_the_pace_is_that_of_settled_steps():
    steps = [
        {"step_seconds": s, "cpu_seconds": s / 4, "evaluations": e}
        | {"traffic": {"sketch": {"calls": 1, "bytes": 80, "seconds": s / 2}}}
        for s, e in ((0.2, 4), (0.1, 5), (0.9, 4))
    ]
    steps[0]["traffic"] |= {"losses": {"calls": 3, "bytes": 24, "seconds": 0.03}}
    pace = worker._pace(steps)
    assert (pace["seconds"], pace["cpu_seconds"], pace["evaluations"], pace["steps"]) == (0.2, 0.05, 4, 3)
    assert pace["traffic"]["sketch"] == pytest.approx({"calls": 1, "bytes": 80, "seconds": 0.2})
    assert pace["traffic"]["losses"] == pytest.approx({"calls": 1, "bytes": 8, "seconds": 0.01})


def test_of_several_ranks_the_one_with_the_text_is_heard(tmp_path):
    path = tmp_path / "lines"
    said = [("error", "ResidualError: "), ("error", "ResidualError: residual is nan"), ("error", "X: ")]
    path.write_text("".join(json.dumps({"failure": f, "message": m}) + "\n" for f, m in said))
    assert runner._read(path).message == "ResidualError: residual is nan"


def test_threads_are_set_and_a_launcher_is_forgotten(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = runner._environment(2)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert "RANK" not in environment
