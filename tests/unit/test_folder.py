"""Run folders: who may use one, whether the run in it can go on, where it stands."""

import dataclasses
import json
import threading
import time
from pathlib import Path

import pytest
import torch

from sngd import MLP, SNGD, Problem, RunConfig
from sngd.adaptive import R3
from sngd.causal import Causal
from sngd.checkpoint import Checkpoint, Store
from sngd.collectives import LocalRanks
from sngd.config import describe
from sngd.fence import Fence, opening
from sngd.folder import Claim, Source, claim_folder, open_folder
from sngd.launcher import Launch
from sngd.marching import Marching
from sngd.problems import heat
from sngd.standing import Standing, kept_checkpoints

ALONE = Launch("alone")
SOURCE = Source(Path("heat.py"), "run = ...", [])


def _run(folder=None, **changes) -> RunConfig:
    fields = {"network": MLP((4, 4)), "optimizer": SNGD(rank=8), "max_steps": 9, "target_error": 1e-6}
    return RunConfig(heat(8, 2, 2), run_dir=folder, **{**fields, **changes})


def _checkpoint(step=4, seconds=2.0) -> Checkpoint:
    one = torch.ones(1)
    return Checkpoint(step, seconds, 0, one, one, one, {}, [], {}, 1, 10**9)


def _begin(run, launch=ALONE, step=4, **result) -> None:
    """The folder of a run that has come to some step, with a result if one is given."""
    open_folder(Claim(run.run_dir), run, SOURCE, launch, [])
    if step:
        _checkpoint(step).save(run.run_dir)
    if result:
        (run.run_dir / "result.json").write_text(json.dumps({"steps": step, "loss": 1e-9, **result}))


def _claim(run, resume=True, launch=ALONE) -> Claim:
    return claim_folder(run, LocalRanks(), launch, resume)


def test_a_new_run_takes_a_new_folder(tmp_path):
    run = _run(tmp_path / "run")
    assert _claim(run, resume=False) == _claim(run) == Claim(tmp_path / "run")


def test_a_run_does_not_go_on_unless_asked(tmp_path):
    run = _run(tmp_path)
    _begin(run)
    with pytest.raises(ValueError, match=r"exists; nothing is overwritten: go on .* by --resume"):
        _claim(run, resume=False)
    assert _claim(run).earlier.step == 4


def test_ranks_that_are_started_again_go_on(tmp_path):
    run, again = _run(tmp_path), dataclasses.replace(ALONE, restart=1)
    _begin(run)
    assert _claim(run, resume=False, launch=again).earlier.step == 4


def test_what_a_start_without_a_checkpoint_wrote_is_replaced(tmp_path):
    run = _run(tmp_path)
    _begin(run, step=0)
    claim = _claim(run)
    assert claim == Claim(tmp_path, replace=True)
    open_folder(claim, run, SOURCE, ALONE, [])


def test_a_folder_without_a_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds no run \(config.json is missing\)"):
        _claim(_run(tmp_path))


@pytest.mark.parametrize("content", ["", "[]", '{"fields": 3}', "{}"])
def test_a_damaged_config_is_named(tmp_path, content):
    _begin(_run(tmp_path))
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json' cannot be read .*damaged"):
        _claim(_run(tmp_path))


def test_another_run_is_refused_with_every_difference(tmp_path):
    _begin(_run(tmp_path))
    other = _run(tmp_path, seed=3, network=MLP((4, 5)), optimizer=SNGD(rank=9))
    with pytest.raises(ValueError, match="is another one") as caught:
        _claim(other)
    for difference in (
        "seed was 0, now is 3",
        "network.hidden was [4, 4], now is [4, 5]",
        "optimizer.rank was 8, now is 9",
    ):
        assert difference in str(caught.value)
    assert str(caught.value).count(" was ") == 3


@pytest.mark.parametrize(
    "added", [{"causal": Causal(bins=4)}, {"marching": Marching(slabs=2)}, {"adaptive_points": R3()}]
)
def test_a_run_does_not_go_on_with_what_it_began_without(tmp_path, added):
    _begin(_run(tmp_path))
    (field,) = added
    with pytest.raises(ValueError, match=rf"{field} was None, now is '{type(added[field]).__name__}'"):
        _claim(_run(tmp_path, **added))


def test_coefficients_that_are_added_make_another_run(tmp_path):
    run, plain = _run(tmp_path), heat(8, 2, 2)
    _begin(run)
    problem = Problem(
        plain.domain, plain.conditions, solution=plain.solution, coefficients={"k": 1.0}, name=plain.name
    )
    with pytest.raises(ValueError, match=r"problem\.coefficients was \{\}, now is 'k';"):
        _claim(dataclasses.replace(run, problem=problem))


def test_a_checkpoint_of_another_run_is_refused_with_every_difference(tmp_path):
    """Its folder was copied here."""
    run, other = _run(tmp_path / "run"), _run(tmp_path / "other", seed=3, network=MLP((4, 5)))
    _begin(run)
    about = {"fields": describe(other), "versions": {}}
    dataclasses.replace(_checkpoint(6), about=about).save(run.run_dir)
    with pytest.raises(ValueError, match=r"the checkpoint in .* is another one") as caught:
        _claim(run)
    assert "network.hidden was [4, 5], now is [4, 4]; seed was 3, now is 0; name another" in str(caught.value)


def test_what_no_step_depends_on_may_change(tmp_path):
    _begin(_run(tmp_path))
    free = {"max_steps": 20, "max_seconds": 9.0, "target_error": 1e-9, "evaluate_every": 3, "memory_gb": 1.0}
    assert _claim(_run(tmp_path, checkpoint_seconds=1.0, **free)).earlier.step == 4


@pytest.mark.parametrize(
    ("result", "changes", "finished"),
    [
        ({"stop_reason": "terminated"}, {}, ""),
        ({"stop_reason": "time_limit"}, {}, ""),
        ({"stop_reason": "interrupted"}, {}, ""),
        ({"stop_reason": "stalled"}, {"max_steps": 100}, "stalled after 4 steps"),
        ({"stop_reason": "max_steps"}, {"max_steps": 4}, "max_steps after 4 steps"),
        ({"stop_reason": "max_steps"}, {"max_steps": 5}, ""),
        ({"stop_reason": "max_seconds"}, {"max_seconds": 2.0}, "max_seconds after 4 steps"),
        ({"stop_reason": "max_seconds"}, {"max_seconds": 3.0}, ""),
        ({"stop_reason": "target_error", "relative_l2": 9e-7}, {}, "target_error after 4 steps"),
        ({"stop_reason": "target_error", "relative_l2": 9e-7}, {"target_error": 1e-7}, ""),
    ],
)
def test_a_finished_run_has_nothing_left_to_do_unless_its_budget_grows(tmp_path, result, changes, finished):
    _begin(_run(tmp_path), **result)
    assert _claim(_run(tmp_path, **changes)).finished == finished


@pytest.mark.parametrize(
    ("reason", "changes", "ended"),
    [
        ("", {}, ""),
        ("", {"max_steps": 4}, "max_steps"),
        ("max_steps", {"max_steps": 4}, "max_steps"),
        ("max_steps", {"max_steps": 5}, ""),
        ("max_seconds", {"max_seconds": 2.0}, "max_seconds"),
        ("max_seconds", {"max_seconds": 3.0}, ""),
        ("target_error", {}, "target_error"),
        ("target_error", {"target_error": 1e-7}, ""),
        ("stalled", {"max_steps": 100}, "stalled"),
        ("terminated", {}, ""),
    ],
)
def test_a_run_that_was_lost_before_its_result_is_ended_without_a_step(tmp_path, reason, changes, ended):
    run = _run(tmp_path)
    _begin(run, step=0)
    about = {"fields": describe(run) | {"target_error": 1e-6}}
    dataclasses.replace(_checkpoint(), reason=reason, about=about).save(tmp_path)
    claim = _claim(_run(tmp_path, **changes))
    assert (claim.ended, claim.finished) == (ended, "")
    (tmp_path / "result.json").write_text(json.dumps({"stop_reason": reason, "relative_l2": 9e-7}))
    assert (claim.ended == "") == (_claim(_run(tmp_path, **changes)).finished == "")


def test_what_killed_starts_have_left_aside_is_nobodys_run(tmp_path):
    (tmp_path / ".config.json.1234").write_text('{"fie')
    run = _run(tmp_path)
    assert _claim(run) == _claim(run, resume=False) == Claim(tmp_path)
    (tmp_path / ".owner.json.99").touch()
    with pytest.raises(ValueError, match="exists; nothing is overwritten"):
        _claim(run, resume=False)
    (tmp_path / ".owner.json.99").unlink()
    _begin(run)
    assert not list(tmp_path.glob(".*"))


def test_a_start_waits_for_another_one_that_opens_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sngd.fence._LOCK_SECONDS", 0.1)
    seen = []
    with opening(tmp_path / "run"), opening(tmp_path / "run"):  # but not for ever
        seen.append("second")
    monkeypatch.setattr("sngd.fence._LOCK_SECONDS", 30.0)

    def second() -> None:
        with opening(tmp_path / "run"):
            seen.append("third")

    thread = threading.Thread(target=second)
    with opening(tmp_path / "run"):
        thread.start()
        time.sleep(0.1)
        assert seen == ["second"]
    thread.join(timeout=30)
    assert seen == ["second", "third"]


def test_a_job_of_slurm_has_a_folder_that_its_restarts_find(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = dataclasses.replace(ALONE, job="17_3")
    first = _claim(_run(), launch=job)
    assert first == Claim(Path("runs/heat-job17_3"))
    _begin(_run(first.folder), job)
    assert _claim(_run(), launch=dataclasses.replace(job, restart=1)).earlier.step == 4
    second = _claim(_run(), resume=False, launch=job).folder  # another step of the same allocation
    assert second.name.startswith("heat-job17_3-")


def test_an_elastic_launch_must_name_its_folder():
    with pytest.raises(ValueError, match=r"run_dir is missing: torchrun --max-restarts .* add --run-dir"):
        _claim(_run(), resume=False, launch=Launch("torchrun", 0, 1, elastic=True))


def test_going_on_rewrites_the_config_and_takes_the_result_back(tmp_path):
    _begin(_run(tmp_path), stop_reason="terminated")
    run = _run(tmp_path, max_steps=50)
    open_folder(_claim(run), run, dataclasses.replace(SOURCE, flags=["--max-steps", "50"]), ALONE, [])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["fields"]["max_steps"] == 50
    assert config["source"]["flags"] == ["--max-steps", "50"]
    assert not (tmp_path / "result.json").exists()


def test_whoever_is_replaced_learns_it(tmp_path):
    run = _run(tmp_path)
    first = open_folder(Claim(tmp_path), run, SOURCE, ALONE, [])
    assert not first.lost()
    time.sleep(0.01)
    second = open_folder(Claim(tmp_path, replace=True), run, SOURCE, ALONE, [])
    assert first.lost()
    assert not second.lost()


def test_a_folder_out_of_reach_is_not_lost(tmp_path):
    fence = Fence(tmp_path)
    assert not fence.lost()
    fence.take_over(ALONE)
    fence.path.unlink()
    assert not fence.lost()


def test_two_new_runs_at_once_do_not_share_a_folder(tmp_path):
    run = _run(tmp_path)
    open_folder(Claim(tmp_path), run, SOURCE, ALONE, [])
    with pytest.raises(ValueError, match="exists; nothing is overwritten"):
        open_folder(Claim(tmp_path), run, SOURCE, ALONE, [])


@pytest.mark.parametrize(
    ("step", "result", "text", "finished", "resumable"),
    [
        (0, {}, "no checkpoint yet", False, False),
        (4, {}, "lost after step 4", False, False),
        (4, {"stop_reason": "terminated"}, "terminated after 4 steps, loss 1e-09", False, True),
        (4, {"stop_reason": "max_steps", "relative_l2": 0.25}, "relative L2 error 0.25", True, False),
        (4, {"stop_reason": "max_steps", "warnings": [{"kind": "stagnation"}]}, ", 1 warning", True, False),
    ],
)
def test_where_a_run_stands(tmp_path, step, result, text, finished, resumable):
    _begin(_run(tmp_path), step=step, **result)
    standing = Standing.of(tmp_path)
    assert text in standing.text
    assert (standing.finished, standing.resumable) == (finished, resumable)


def test_every_checkpoint_is_listed(tmp_path):
    store, tensors = Store(tmp_path, keep=3), {}
    assert kept_checkpoints(tmp_path) == []
    for step, score in ((3, 2.0), (4, 1.0), (5, 3.0)):
        store.write(step, {"dict": []}, tensors, score)
    store.clear(4)
    store.write(6, {"dict": []}, tensors)
    (tmp_path / "checkpoints" / "step-000000006" / "manifest.json").write_text("{}")
    lines = [line.removeprefix(f"{tmp_path}/checkpoints/") for line in kept_checkpoints(tmp_path)]
    assert lines == [
        "step-000000006: damaged: manifest.json differs from its checksum",
        "step-000000004: best",
        "step-000000003",
        "damaged-step-000000005: set aside",
    ]
    (tmp_path / "config.json").write_text("{}")
    assert "lost after step 4" in Standing.of(tmp_path).text


def test_where_no_checkpoint_is_whole_that_is_said(tmp_path):
    _begin(_run(tmp_path))
    (tmp_path / "checkpoints" / "step-000000004" / "SHA256SUMS").unlink()
    assert "none of its checkpoints is whole" in Standing.of(tmp_path).text


def test_an_empty_folder_stands_nowhere(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        Standing.of(tmp_path)
