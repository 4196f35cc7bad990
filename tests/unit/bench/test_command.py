"""`sngd bench`: a suite from its first run to its report, going on after a break, and mistakes."""

import dataclasses
import json
import os
import re
from pathlib import Path

import matplotlib.image
import pytest

from sngd.bench import command, suites
from sngd.bench.definition import START_SECONDS, Entry, Suite, Task, jobs_of
from sngd.bench.machine import device_slug
from sngd.bench.store import Outcome
from sngd.cli import main
from sngd.networks import MLP

POINTS = {"interior": 60, "initial": 10, "walls": 20}
TINY = Suite(
    "Tiny runs.",
    {"heat": Task("heat", POINTS, MLP((8, 8)), 20.0, 1e-12, {"max_steps": 4, "evaluate_points": 500})},
    {
        "sngd": Entry("sngd", {"rank": 12}, form="sketched"),
        "broken": Entry("sngd", {"rank": 12}, form="kernel", run={"memory_gb": 1e-9}),
    },
    seeds=1,
)
FILE = Path("benchmarks/results") / device_slug("cpu") / "tiny.json"


@pytest.fixture(autouse=True)
def _a_checkout_with_a_tiny_suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(suites.SUITES, "tiny", TINY)
    Path("benchmarks").mkdir()


def call(*arguments):
    try:
        return main(["bench", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def invented(seconds=1.0, failure=""):
    """An outcome without a run."""
    end = {
        **{"relative_l2": 1e-3, "loss": 1e-6, "steps": 2, "seconds": seconds},
        **{"peak_memory_bytes": 10**8, "stop_reason": "max_steps"},
    }
    start = {"parameters": 105, "points": 90, "device": "cpu", "dtype": "float64", "warmup_seconds": 0.0}
    rows = [[seconds / 2, 1, 0.1, 0.1], [seconds, 2, 1e-3, 1e-6]]
    return Outcome(start, rows, end=None if failure else end, failure=failure, message="it broke")


@pytest.fixture
def calls(monkeypatch):
    """The jobs that would have run; each has an invented outcome."""
    ran = []

    def pretend(job):
        ran.append(job.key)
        return invented()

    monkeypatch.setattr(command, "run_job", pretend)
    return ran


def test_a_suite_runs_in_processes_of_its_own_and_goes_on_where_it_stopped(capsys, monkeypatch):
    assert call("tiny", "--device", "cpu") == 0
    said = capsys.readouterr().out
    good, bad = json.loads(FILE.read_text())["runs"]
    assert (good["label"], good["failure"], good["steps"], good["threads"]) == ("sngd", "", 4, 1)
    assert good["curve"]["step"] == [1, 2, 3, 4]
    assert good["curve"]["error"][-1] == pytest.approx(good["relative_l2"], rel=1e-3)
    assert (good["parameters"], good["points"]) == (105, 90)
    assert good["peak_memory_bytes"] > 50e6
    assert good["config"]["optimizer"]["rank"] == 12
    assert (bad["label"], bad["failure"], bad["steps"]) == ("broken", "error", 0)
    assert bad["message"].startswith("ValueError: a memory budget of 1 bytes is below")
    assert "[1/2] heat, sngd, seed 0: error" in said
    assert "[2/2] heat, broken, seed 0: no error, error: ValueError: a memory budget" in said
    assert re.search(r"broken .* 1 error", said)
    assert matplotlib.image.imread(FILE.with_suffix("") / "heat.png").std() > 0.02
    report = Path("benchmarks/README.md").read_text()
    assert f"](results/{FILE.parent.name}/tiny/heat.png)" in report
    assert "- broken: error, ValueError: a memory budget of 1 bytes" in report

    before = FILE.read_bytes()
    monkeypatch.setattr(command, "run_job", lambda job: pytest.fail("nothing is missing"))
    assert call("tiny", "--device", "cpu") == 0
    assert FILE.read_bytes() == before


def test_scaling_measures_links_once_and_fits_what_is_stored(monkeypatch, capsys):
    scaling = suites.SUITES["scaling"]
    tasks = {
        name: scaling.tasks[name] for name in ("alone 1/1", "alone 1/4", "weak 2 loopback", "weak 2 1gbit")
    }
    monkeypatch.setitem(suites.SUITES, "tiny", dataclasses.replace(scaling, tasks=tasks, seeds=1))
    monkeypatch.setattr("sngd.bench.links.obstacle", lambda: "no root here")
    measured, ran = [], []

    def probe(jobs):
        measured.append(dict.fromkeys((job.link, job.ranks) for job in jobs))
        return [
            {"link": "loopback", "kind": kind, "ranks": 2, "bytes": size, "seconds": 1e-4 + 1e-9 * size}
            for kind in ("all-reduce", "reduce-scatter", "all-gather")
            for size in (64, 2**20)
        ]

    def run(job):
        ran.append(job.task)
        pace = {"seconds": 0.1 * job.ranks, "cpu_seconds": 0.1, "evaluations": 4, "steps": 2, "traffic": {}}
        return dataclasses.replace(invented(), pace=pace)

    monkeypatch.setattr(command, "probe_links", probe)
    monkeypatch.setattr(command, "run_job", run)
    assert call("tiny", "--device", "cpu") == 0
    assert call("tiny", "--device", "cpu") == 0
    assert ran == ["alone 1/1", "alone 1/4", "weak 2 loopback"]
    assert len(measured) == 1
    said = capsys.readouterr().out
    assert "left out are runs over limited links: no root here" in said
    assert "| weak | 2 | loopback |" in said
    content = json.loads(FILE.read_text())
    assert [p["task"] for p in content["model"]["points"]] == ran
    assert "#### Projection to GPUs" in Path("benchmarks/README.md").read_text()


def test_only_what_is_missing_runs(calls):
    assert call("tiny", "--optimizers", "sngd") == 0
    assert call("tiny", "--seeds", "2") == 0
    assert calls == [("heat", "sngd", 0), ("heat", "broken", 0), ("heat", "sngd", 1), ("heat", "broken", 1)]
    calls.clear()
    assert call("tiny", "--seeds", "2", "--fresh", "--only", "heat", "--optimizers", "broken") == 0
    assert calls == [("heat", "broken", 0), ("heat", "broken", 1)]
    assert len(json.loads(FILE.read_text())["runs"]) == 4


def test_failures_run_again_when_asked_to(monkeypatch, calls):
    monkeypatch.setattr(command, "run_job", lambda job: invented(failure="time-out"))
    assert call("tiny", "--optimizers", "sngd") == 0
    assert [r["failure"] for r in json.loads(FILE.read_text())["runs"]] == ["time-out"]
    monkeypatch.setattr(command, "run_job", lambda job: calls.append(job.key) or invented())
    assert call("tiny", "--optimizers", "sngd") == 0
    assert calls == []
    assert call("tiny", "--optimizers", "sngd", "--retry") == 0
    assert calls == [("heat", "sngd", 0)]
    assert [r["failure"] for r in json.loads(FILE.read_text())["runs"]] == [""]


def test_an_interrupt_keeps_what_was_finished(monkeypatch, capsys, calls):
    def interrupted(job):
        if job.label == "broken":
            raise KeyboardInterrupt
        return invented()

    monkeypatch.setattr(command, "run_job", interrupted)
    assert call("tiny") == 130
    assert "the same call goes on" in capsys.readouterr().out
    assert [r["label"] for r in json.loads(FILE.read_text())["runs"]] == ["sngd"]
    monkeypatch.setattr(command, "run_job", lambda job: calls.append(job.key) or invented())
    assert call("tiny") == 0
    assert calls == [("heat", "broken", 0)]


def test_a_dry_run_lists_what_would_run_and_writes_nothing(capsys, calls):
    assert call("tiny", "--dry-run", "--seeds", "2", "--seconds-scale", "3") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "heat, sngd, seed 0: 60 s"
    assert said[-1].startswith("4 of 4 runs to do: 5 min at most with starts; 10 min if")
    assert calls == []
    assert not list(Path("benchmarks").iterdir())
    call("tiny", "--optimizers", "sngd")
    capsys.readouterr()
    call("tiny", "--dry-run")
    assert capsys.readouterr().out.splitlines()[0] == "heat, sngd, seed 0: stored"


def test_a_quick_look_does_not_replace_long_runs_unless_told_to(capsys, calls):
    call("tiny", "--optimizers", "sngd")
    assert call("tiny", "--optimizers", "sngd", "--seconds-scale", "0.5") == 2
    assert "would replace 1 stored runs of larger budgets" in capsys.readouterr().err
    assert json.loads(FILE.read_text())["runs"][0]["budget"] == 20.0
    assert call("tiny", "--optimizers", "sngd", "--seconds-scale", "0.5", "--fresh") == 0
    assert json.loads(FILE.read_text())["runs"][0]["budget"] == 10.0


MISTAKES = {
    "suite": (["fast"], "suite 'fast' must be one of quick, "),
    "task": (["tiny", "--only", "cold"], "--only cold: this suite has heat"),
    "entry": (["tiny", "--optimizers", "sgd"], "--optimizers sgd: this suite has sngd, broken"),
    "seeds": (["tiny", "--seeds", "0"], "--seeds=0 must be ≥ 1"),
    "threads": (["tiny", "--threads", "0"], "--threads=0 must be ≥ 1"),
    "scale": (["tiny", "--seconds-scale", "0"], "--seconds-scale=0.0 must be finite and > 0"),
    "scale not finite": (["tiny", "--seconds-scale", "inf"], "--seconds-scale=inf must be finite and > 0"),
    "folder": (["tiny", "--folder", "absent"], "folder 'absent' does not exist: results are kept in the"),
    "report's folder": (["report", "--folder", "absent"], "folder 'absent' does not exist"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_clear_message(name, capsys, calls):
    arguments, message = MISTAKES[name]
    assert call(*arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {message}")
    assert calls == []


UNKNOWN = {
    "optimizer": ({"entries": {"x": Entry("magic")}}, "optimizer 'magic' must be one of"),
    "problem": ({"tasks": {"t": Task("riddle", {}, MLP(), 1.0, 1e-3)}}, "problem 'riddle' must be one of"),
    "setting": ({"entries": {"x": Entry("sngd", {"luck": 1})}}, "unexpected keyword argument 'luck'"),
    "value": ({"entries": {"x": Entry("sngd", {"rank": 0})}}, "optimizer.rank=0 must be"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_suite_that_cannot_be_built_is_refused_before_anything_runs(name, monkeypatch, capsys, calls):
    fields, message = UNKNOWN[name]
    monkeypatch.setitem(suites.SUITES, "tiny", dataclasses.replace(TINY, **fields))
    assert call("tiny") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: task '\w+', entry '\w+': ", said)
    assert message in said
    assert calls == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(capsys, calls):
    Path("benchmarks").chmod(0o500)
    assert call("tiny") == 2
    assert "folder 'benchmarks' cannot be written to" in capsys.readouterr().err


def test_a_file_where_the_results_should_go_is_refused(capsys, calls):
    Path("benchmarks/results").write_text("in the way")
    assert call("tiny") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: results 'benchmarks/results/")
    assert calls == []


def test_help_names_the_suites(capsys):
    assert call("--help") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in suites.SUITES)
    assert call() == 2


def test_the_quick_suite_takes_at_most_five_minutes():
    suite = suites.SUITES["quick"]
    count = len(suite.tasks) * len(suite.entries) * suite.seeds
    assert sum(t.seconds + START_SECONDS for t in suite.tasks.values()) * count / len(suite.tasks) <= 300


def test_jobs_know_their_budgets():
    (job, _) = jobs_of(TINY, scale=0.5, threads=3)
    assert (job.seconds, job.threads) == (10.0, 3)
    assert job.limit > job.seconds + START_SECONDS
