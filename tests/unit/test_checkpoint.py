"""Checkpoints: what is kept comes back bit for bit, damage is named, and the one before is taken."""

import dataclasses
import json
import math
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from sngd.checkpoint import Checkpoint, Store, store
from sngd.shelf import digest

STATE = Checkpoint(
    step=7,
    seconds=1.5,
    rejected=0,
    theta=torch.linspace(0, 1, 1000, dtype=torch.float64),
    weights=torch.tensor([0.5, 1.5]),
    losses=torch.tensor([1e-300, math.pi], dtype=torch.float64),
    optimizer={"damping": 1e-7, "rank": 64, "state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.999)},
    spectra=[(1, torch.arange(3.0)), (2, torch.zeros(0))],
    traffic={"losses": {"calls": 1.0}},
    world_size=2,
    budget=10**12,
)


def _at(step: int) -> Checkpoint:
    return dataclasses.replace(STATE, step=step)


def _steps(folder: Path) -> list[int]:
    return [one.step for one in Store(folder).all()]


def test_what_is_saved_is_loaded(tmp_path):
    path = STATE.save(tmp_path / "new" / "folder")
    loaded = Checkpoint.load(tmp_path / "new" / "folder")
    assert torch.equal(loaded.theta, STATE.theta)
    assert loaded.theta.dtype == torch.float64
    assert torch.equal(loaded.losses, STATE.losses)
    assert loaded.optimizer == STATE.optimizer
    assert loaded.spectra[0][0] == 1
    assert torch.equal(loaded.spectra[0][1], STATE.spectra[0][1])
    assert (loaded.step, loaded.budget, loaded.traffic) == (7, 10**12, STATE.traffic)
    assert sorted(p.name for p in path.iterdir()) == ["SHA256SUMS", "manifest.json", "rank-0.tensors"]
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=path, capture_output=True, check=False)
    assert checked.returncode == 0


def test_the_last_few_and_the_best_are_kept(tmp_path):
    kept = Store(tmp_path, keep=2)
    for step, score in enumerate([5.0, 1.0, 3.0, None, 4.0], start=1):
        kept.write(step, *_at(step).encoded(), score)
    kept.write(6, *_at(6).encoded(), math.nan)
    kept.write(7, *_at(7).encoded(), -math.inf)
    assert _steps(tmp_path) == [7, 6, 2]
    for one in (6, 7):
        shutil.rmtree(tmp_path / "checkpoints" / f"step-{one:09d}")
    kept.write(4, *_at(4).encoded(), 4.0)
    kept.write(5, *_at(5).encoded(), 4.0)
    assert _steps(tmp_path) == [5, 4, 2]
    assert Checkpoint.load(tmp_path).step == 5
    assert Checkpoint.load(tmp_path, "best").step == 2
    assert Checkpoint.load(tmp_path, "4").step == 4
    with pytest.raises(ValueError, match=r"holds no checkpoint '1': there are \"last\", \"best\", 5, 4, 2$"):
        Checkpoint.load(tmp_path, "1")


def test_a_failed_write_leaves_those_before(tmp_path, monkeypatch):
    STATE.save(tmp_path)

    def full(folder, tensors, group=None):
        folder.mkdir(parents=True)
        (folder / "half").write_text("half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_tensors", full)
        with pytest.raises(OSError, match="No space left"):
            _at(8).save(tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000000007"]
    assert Checkpoint.load(tmp_path).step == 7


def test_what_a_killed_process_has_left_is_in_nobodys_way(tmp_path):
    _at(3).save(tmp_path)
    aside = tmp_path / "checkpoints" / ".step-000000004.partial"
    shutil.copytree(tmp_path / "checkpoints" / "step-000000003", aside)
    assert Checkpoint.load(tmp_path).step == 3
    Store(tmp_path).clear(3)
    assert not aside.exists()
    _at(4).save(tmp_path)
    assert Checkpoint.load(tmp_path).step == 4


@pytest.mark.parametrize("wrong", [MemoryError(), KeyError("x"), RuntimeError("Connection closed by peer")])
def test_any_error_takes_what_is_half_written_with_it(tmp_path, monkeypatch, wrong):
    def fails(folder, tensors, group=None):
        folder.mkdir(parents=True)
        raise wrong

    monkeypatch.setattr(store, "write_tensors", fails)
    with pytest.raises(type(wrong)):
        STATE.save(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_what_another_start_writes_meanwhile_is_no_part_of_it(tmp_path):
    other = tmp_path / "checkpoints" / ".step-000000007-1-1.partial"
    other.mkdir(parents=True)
    (other / "rank-0.tensors").write_text("half of it")
    assert sorted(p.name for p in STATE.save(tmp_path).iterdir())[2] == "rank-0.tensors"
    assert (other / "rank-0.tensors").read_text() == "half of it"
    assert Checkpoint.load(tmp_path).step == 7


def test_one_with_a_greater_step_does_not_cost_the_one_just_written(tmp_path):
    for step in (8, 9):
        _at(step).save(tmp_path)
    assert _at(3).save(tmp_path).is_dir()


def test_a_damaged_one_of_the_same_step_is_set_aside(tmp_path):
    for _ in range(2):
        STATE.save(tmp_path)
    newest = tmp_path / "checkpoints" / "step-000000007.1"
    _flip(newest / "rank-0.tensors", 0.5)
    earlier = Checkpoint.load(tmp_path)
    assert len(earlier.skipped) == 1
    Store(tmp_path).clear(earlier.step, earlier.path)
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == [
        "damaged-step-000000007.1",
        "step-000000007",
    ]


def test_one_that_is_removed_while_it_is_read_is_no_damage(tmp_path, monkeypatch):
    for step in (3, 4):
        _at(step).save(tmp_path)
    read, removed = Store.read, []

    def late(kept, path):
        if not removed:
            removed.append(path)
            shutil.rmtree(path)
            _at(9).save(tmp_path)
        return read(kept, path)

    monkeypatch.setattr(Store, "read", late)
    found = Checkpoint.load(tmp_path)
    assert (found.step, found.skipped) == (9, ())


def test_fields_that_an_older_version_did_not_have_are_defaults(tmp_path):
    plain, tensors = STATE.encoded()
    plain["dict"] = [(key, value) for key, value in plain["dict"] if key not in ("precision", "watch")]
    Store(tmp_path).write(7, plain, tensors)
    assert Checkpoint.load(tmp_path).precision == ""
    plain["dict"] = [(key, value) for key, value in plain["dict"] if key != "losses"]
    Store(tmp_path).write(8, plain, tensors)
    assert "it lacks losses" in Checkpoint.load(tmp_path).skipped[0]


def test_a_step_that_is_taken_again_gets_a_name_of_its_own(tmp_path):
    STATE.save(tmp_path)
    dataclasses.replace(STATE, rejected=3).save(tmp_path)
    assert _steps(tmp_path) == [7, 7]
    assert Checkpoint.load(tmp_path).rejected == 3


def test_later_ones_are_set_aside_when_a_run_goes_on(tmp_path):
    for step in (3, 4):
        _at(step).save(tmp_path)
    Store(tmp_path).clear(3)
    assert _steps(tmp_path) == [3]
    assert (tmp_path / "checkpoints" / "damaged-step-000000004").is_dir()


def _one_clear_line(error: ValueError, *parts: str) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 400
    for part in parts:
        assert part in str(error)


class Evil:
    def __reduce__(self):
        return (Path("ran").touch, ())


def _flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def _resummed(folder: Path) -> None:
    """As if a whole checkpoint had been written with what is there now."""
    names = sorted(p.name for p in folder.iterdir() if p.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{digest(folder / name)}  {name}\n" for name in names))


def _pickled(folder: Path) -> None:
    """Another program's tensors, whose pickle runs code, in the place of ours."""
    manifest = json.loads((folder / "manifest.json").read_text())
    data = pickle.dumps(Evil())
    (folder / "rank-0.tensors").write_bytes(data)
    for known in manifest["tensors"].values():
        for chunk in known["chunks"]:
            chunk[3:] = [0, len(data)]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    _resummed(folder)


DAMAGES = {
    "cut to nothing": lambda folder: (folder / "rank-0.tensors").write_bytes(b""),
    "cut short": lambda folder: os.truncate(folder / "rank-0.tensors", 500),
    "a flipped bit": lambda folder: _flip(folder / "rank-0.tensors", 0.5),
    "a flipped bit in the manifest": lambda folder: _flip(folder / "manifest.json", 0.3),
    "a flipped bit in the sums": lambda folder: _flip(folder / "SHA256SUMS", 0.1),
    "sums emptied": lambda folder: (folder / "SHA256SUMS").write_text(""),
    "sums missing": lambda folder: (folder / "SHA256SUMS").unlink(),
    "tensors missing": lambda folder: (folder / "rank-0.tensors").unlink(),
    "manifest missing": lambda folder: (folder / "manifest.json").unlink(),
    "an empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
    "a foreign manifest": lambda folder: ((folder / "manifest.json").write_text("[]"), _resummed(folder)),
    "a foreign pickle": _pickled,
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named_and_the_one_before_is_taken(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    _at(3).save(tmp_path)
    newest = _at(4).save(tmp_path)
    DAMAGES[what](newest)
    found = Checkpoint.load(tmp_path)
    assert found.step == 3
    (told,) = found.skipped
    assert "step-000000004" in told
    shutil.rmtree(tmp_path / "checkpoints" / "step-000000003")
    with pytest.raises(ValueError, match="damaged") as caught:
        Checkpoint.load(tmp_path)
    _one_clear_line(caught.value, "step-000000004", "cannot be read")
    assert not Path("ran").exists()


def test_when_none_can_be_read_each_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in (3, 4):
        (_at(step).save(Path("run")) / "manifest.json").write_text("")
    with pytest.raises(ValueError, match=r"no checkpoint of 'run' can be read") as caught:
        Checkpoint.load(Path("run"))
    _one_clear_line(caught.value, "step-000000003", "step-000000004")


def test_a_missing_one_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="nowhere") as caught:
        Checkpoint.load(tmp_path / "nowhere")
    _one_clear_line(caught.value, "nowhere")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_damaged_byte_goes_unnoticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    newest = _at(4).save(folder)
    file = data.draw(st.sampled_from(["rank-0.tensors", "manifest.json", "SHA256SUMS"]))
    content = bytearray((newest / file).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (newest / file).write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        Checkpoint.load(folder)
