"""Weights & Biases with a stand-in for wandb: who is told what, and what happens when it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sngd.tracking import HistoryFile
from sngd.tracking.wandb_worker import IDENTITY, Session, flat
from tests.tracked import INFO, RESULT, record

KEY = "0123456789abcdef0123456789abcdef01234567"


class FakeRun:
    """Takes rows as wandb does: those of one step are one row, those behind are refused."""

    def __init__(self, config: dict[str, Any], settings: dict[str, Any], server: dict[str, Any]) -> None:
        self.config, self.settings, self.server = config, settings, server
        self.id, self.url, self.dir = settings.get("run_id", "swept"), "https://host/run", "place/files"
        rows = server.setdefault(self.id, {}) if settings["mode"] == "online" else {}
        self.rows: dict[int, dict[str, Any]] = rows
        self.step = max(rows, default=-1) + 1
        self.summary: dict[str, Any] = {}
        self.metrics: list[tuple[str, str | None]] = []
        self.events: list[str] = []

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        at = max(self.rows, default=0) if step is None else step
        assert at >= max(self.rows, default=0), "wandb drops rows behind the last"
        self.rows.setdefault(at, {}).update(data)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def mark_preempting(self) -> None:
        self.events.append("preempting")

    def finish(self, exit_code: int) -> None:
        self.events.append(f"exit {exit_code}")


class FakeWandb:
    """wandb, with a server that may be down."""

    def __init__(self, down: bool = False) -> None:
        self.down, self.server, self.runs = down, dict[str, Any](), list[FakeRun]()

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def Image(self, path: str) -> str:
        return f"image of {path}"

    def setup(self, settings: dict[str, Any]) -> None:
        assert settings == {"silent": True}

    def teardown(self) -> None:
        pass

    def init(self, config: dict[str, Any], settings: dict[str, Any]) -> FakeRun:
        if self.down and settings["mode"] == "online":
            raise RuntimeError("no answer\nand a long explanation")
        self.runs.append(FakeRun(config, settings, self.server))
        return self.runs[-1]


def session(wandb: FakeWandb, folder: Path, resumed: int = 0, mode: str = "online") -> Session:
    opened = Session(wandb, folder, resumed)
    opened.open({"mode": mode, "project": "p", "entity": "e", "run_name": "n"}, {"seed": 3})
    return opened


def history(folder: Path, steps: int) -> None:
    hook = HistoryFile(folder / "history.jsonl")
    hook.start(INFO | {"replace": True})
    for step in range(1, steps + 1):
        hook.step(record(step, taken="before"))
    hook.close()


def test_nested_records_become_flat_names_without_what_is_unknown() -> None:
    nested = {"loss": 1.0, "error": None, "losses": {"walls": 2.0}, "traffic": {"sum": {"bytes": 3}}, "x": {}}
    assert flat(nested) == {"loss": 1.0, "losses/walls": 2.0, "traffic/sum/bytes": 3}


def test_warnings_are_one_text_and_none_is_left_out() -> None:
    assert flat({"step": 3, "warnings": ["a", "b"]}) == {"step": 3, "warnings": "a\nb"}
    assert flat({"warnings": [{"kind": "stagnation", "step": 3, "text": "c"}]}) == {"warnings": "c"}
    assert flat({"warnings": []}) == flat({"warnings": None}) == {}


def test_rows_are_steps_and_pictures_are_in_the_last_row(tmp_path: Path) -> None:
    wandb = FakeWandb()
    run = session(wandb, tmp_path)
    for step in (1, 2, 3):
        run.step(record(step, losses={"walls": 0.5}))
    run.end(RESULT)
    run.pictures([str(tmp_path / "solution.png")])
    run.close()
    (made,) = wandb.runs
    assert sorted(made.rows) == [1, 2, 3]
    assert [row["step"] for row in made.rows.values()] == [1, 2, 3]
    assert made.rows[2]["losses/walls"] == 0.5
    assert made.rows[3]["pictures/solution"] == f"image of {tmp_path / 'solution.png'}"
    assert made.summary == RESULT
    assert made.metrics == [("step", None), ("*", "step")]
    assert made.events == ["exit 0"]
    assert made.config == {"seed": 3}


@pytest.mark.parametrize("sent", [0, 3, 5, 8])
def test_online_every_step_is_there_once_whatever_the_server_got_before(tmp_path: Path, sent: int) -> None:
    wandb = FakeWandb()
    first = session(wandb, tmp_path)
    for step in range(1, sent + 1):
        first.step(record(step, taken="before"))
    history(tmp_path, 5)  # cut back to the checkpoint's step
    again = session(wandb, tmp_path, resumed=5)
    for step in range(6, 11):
        again.step(record(step, taken="after"))
    again.end(RESULT)
    again.close()
    assert wandb.runs[0].id == wandb.runs[1].id
    assert wandb.runs[1].settings["resume"] == "allow"
    rows = wandb.server[wandb.runs[0].id]
    assert [step for step in sorted(rows) if step] == list(range(1, 11))
    known = max(sent, 5)
    assert [rows[step]["taken"] for step in range(1, 11)] == ["before"] * known + ["after"] * (10 - known)


def test_offline_the_new_segment_holds_every_step(tmp_path: Path) -> None:
    wandb = FakeWandb()
    session(wandb, tmp_path, mode="offline").step(record(1))
    history(tmp_path, 5)
    again = session(wandb, tmp_path, resumed=4, mode="offline")
    again.step(record(5))
    assert sorted(wandb.runs[1].rows) == [1, 2, 3, 4, 5]
    assert wandb.runs[0].id == wandb.runs[1].id
    assert "resume" not in wandb.runs[1].settings, "wandb warns of it offline"


def test_offline_segments_before_are_marked_as_done_and_others_are_left_alone(tmp_path: Path) -> None:
    wandb = FakeWandb()
    session(wandb, tmp_path, mode="offline")
    identity = wandb.runs[0].id
    files = [
        tmp_path / "wandb" / place / name
        for place, name in (
            ("offline-run-1-" + identity, f"run-{identity}.wandb"),
            ("offline-run-2-other", "run-other.wandb"),
            ("place", f"run-{identity}.wandb"),
        )
    ]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    session(wandb, tmp_path, mode="offline")
    assert [file.with_name(file.name + ".synced").exists() for file in files] == [True, False, False]


def test_offline_after_online_what_was_sent_is_not_written_again(tmp_path: Path) -> None:
    wandb = FakeWandb()
    run = session(wandb, tmp_path)
    for step in range(1, 8):
        run.step(record(step))
    run.close()
    history(tmp_path, 5)
    wandb.down = True
    again = session(wandb, tmp_path, resumed=5)
    for step in range(6, 11):
        again.step(record(step))
    assert sorted(wandb.runs[1].rows) == [8, 9, 10]


def test_without_a_server_the_run_goes_offline_under_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb = FakeWandb(down=True)
    session(wandb, tmp_path).step(record(1))
    (made,) = wandb.runs
    assert made.settings["mode"] == "offline"
    assert made.settings["run_id"] == json.loads((tmp_path / IDENTITY).read_text())["id"]
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answers == [
        {"warn": "RuntimeError: no answer; the run is written offline, for `wandb sync`"},
        {"say": "offline, to be uploaded by `wandb sync place`"},
    ]


@pytest.mark.parametrize("reason", ["terminated", "time_limit"])
def test_a_run_that_will_go_on_is_marked_as_preempted(tmp_path: Path, reason: str) -> None:
    wandb = FakeWandb()
    run = session(wandb, tmp_path)
    run.step(record(1))
    run.end(RESULT | {"stop_reason": reason})
    run.close()
    assert wandb.runs[0].events == ["preempting", "exit 75"]


def test_an_artifact_that_fails_is_told_once_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb = FakeWandb()  # which knows of no artifacts
    run = session(wandb, tmp_path)
    capsys.readouterr()
    for step in (1, 2):
        run.step(record(step))
        (tmp_path / "kept").touch()
        run.checkpoint(str(tmp_path / "kept"), "state.pt", step, remove=True)
        assert not (tmp_path / "kept").exists()
    (told,) = capsys.readouterr().out.splitlines()
    assert "no more checkpoints are kept" in json.loads(told)["warn"]
    assert sorted(wandb.runs[0].rows) == [1, 2]


def test_a_run_that_breaks_off_has_failed(tmp_path: Path) -> None:
    wandb = FakeWandb()
    session(wandb, tmp_path).close()
    assert wandb.runs[0].events == ["exit 1"]


def test_inside_of_a_sweep_the_run_is_the_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    wandb = FakeWandb()
    session(wandb, tmp_path)
    assert not {"run_id", "project", "entity"} & wandb.runs[0].settings.keys()
    assert wandb.runs[0].settings["resume"] == "allow"
    assert not (tmp_path / IDENTITY).exists()


def test_an_id_that_the_user_has_chosen_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    wandb = FakeWandb()
    session(wandb, tmp_path)
    monkeypatch.delenv("WANDB_RUN_ID")
    session(wandb, tmp_path)
    assert [run.id for run in wandb.runs] == ["mine", "mine"]
