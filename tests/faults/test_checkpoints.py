"""Damaged checkpoints: named, never run, and the one before is taken."""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from sngd.checkpoint import Store
from sngd.exit_codes import USER_ERROR
from tests.faults.kills import check_end, command
from tests.faults.looks import files, go_on

pytestmark = pytest.mark.launch

STEPS = 12


@pytest.fixture(scope="module")
def halted(forks, tmp_path_factory) -> Path:
    """A run that has come to step 12 and may go on."""
    folder = tmp_path_factory.mktemp("halted") / "run"
    assert forks.start([*command(folder), "--max-steps", str(STEPS)]).wait() == (0, "")
    assert len(Store(folder).all()) >= 2
    return folder


@pytest.fixture
def folder(halted, folder) -> Path:
    """A copy of it."""
    shutil.copytree(halted, folder)
    return folder


def newest(folder: Path) -> Path:
    return Store(folder).all()[0].path


def tensors(checkpoint: Path) -> Path:
    (found,) = checkpoint.glob("*.tensors")
    return found


class Evil:
    """Unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def truncate(checkpoint: Path) -> None:
    path = tensors(checkpoint)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(checkpoint: Path) -> None:
    path = tensors(checkpoint)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def empty_the_manifest(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").write_text("")


def lose_the_tensors(checkpoint: Path) -> None:
    tensors(checkpoint).unlink()


def lose_the_sums(checkpoint: Path) -> None:
    (checkpoint / "SHA256SUMS").unlink()


def lose_all(checkpoint: Path) -> None:
    for path in checkpoint.iterdir():
        path.unlink()


def put_a_foreign_pickle(checkpoint: Path, form: str = "pickle") -> None:
    """With sums that fit: whoever wrote it may have computed them."""
    evil, content = Evil(checkpoint.parents[1] / "executed"), io.BytesIO()
    if form == "pickle":
        content.write(pickle.dumps(evil))
    else:
        torch.save({"theta": evil}, content)
    tensors(checkpoint).write_bytes(content.getvalue())
    names = sorted(path for path in checkpoint.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in names]
    (checkpoint / "SHA256SUMS").write_text("".join(lines))


DAMAGES = {
    "truncated": truncate,
    "one bit flipped": flip_a_bit,
    "manifest empty": empty_the_manifest,
    "tensors missing": lose_the_tensors,
    "SHA256SUMS missing": lose_the_sums,
    "folder empty": lose_all,
    "another program's pickle that runs code, with fitting sums": put_a_foreign_pickle,
}


def test_sha256sum_knows_the_sums(halted):
    for one in Store(halted).all():
        done = subprocess.run(
            ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=one.path, capture_output=True
        )
        assert done.returncode == 0, done
        listed = {line.split()[1] for line in (one.path / "SHA256SUMS").read_text().splitlines()}
        assert listed == {path.name for path in one.path.iterdir()} - {"SHA256SUMS"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_is_damaged(forks, folder, reference, table, damage):
    last = newest(folder)
    DAMAGES[damage](last)
    said = go_on(forks, folder, reference)
    assert said.count("warning: ") == 1
    assert f"checkpoint '{last}' cannot be read: " in said
    assert not (folder / "executed").exists()
    assert any(path.name.startswith(f"damaged-{last.name}") for path in last.parent.iterdir())
    after = "goes on from the checkpoint before, the damaged one is kept as `damaged-…`; ends with the same θ"
    table.row(f"newest checkpoint: {damage}", said, 0, after)


def test_a_foreign_archive_of_torch_is_not_executed(forks, folder, reference):
    put_a_foreign_pickle(newest(folder), "torch")
    go_on(forks, folder, reference)
    assert not (folder / "executed").exists()


def test_all_are_damaged(forks, folder, table):
    for one in Store(folder).all():
        flip_a_bit(one.path)
    left = files(folder)
    code, said = forks.start(command(folder)).wait()
    assert code == USER_ERROR
    assert len(said.strip().splitlines()) == 1
    for one in Store(folder).all():
        assert str(one.path) in said
    assert files(folder) == left
    line = "error: " + said.partition("error: ")[2].partition("; checkpoint ")[0] + "; …"
    table.row(
        "all checkpoints: one bit flipped", line, code, "nothing is touched; the folder is the user's to mend"
    )


def test_a_lost_history(forks, folder, reference, table):
    (folder / "history.jsonl").unlink()
    code, said = forks.start(command(folder)).wait()
    assert code == 0
    assert "does not hold every step up to" in said
    after = "goes on; the history begins at the step that it went on from"
    table.row("`history.jsonl` is removed between two starts", said, code, after)


def test_a_torn_history(forks, folder, reference):
    path = folder / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    DAMAGES["truncated"](newest(folder))  # or step 12 would be missing
    assert "does not hold" not in go_on(forks, folder, reference)


def test_a_run_that_was_lost_before_its_result(forks, folder, reference):
    go_on(forks, folder, reference)
    (folder / "result.json").unlink()
    assert go_on(forks, folder, reference) == ""
    check_end(folder, reference)
