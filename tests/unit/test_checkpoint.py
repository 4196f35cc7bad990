import pickle

import pytest
import torch

from sngd import checkpoint

STATE = {
    "step": 7,
    "theta": torch.linspace(0, 1, 1000, dtype=torch.float64),
    "weights": torch.tensor([0.5, 1.5]),
    "optimizer": {"damping": 1e-7, "rank": 64},
}


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint.save(tmp_path / "new" / "folder", STATE)
    loaded = checkpoint.load(tmp_path / "new" / "folder")
    assert loaded.keys() == STATE.keys()
    assert torch.equal(loaded["theta"], STATE["theta"])
    assert loaded["theta"].dtype == torch.float64
    assert torch.equal(loaded["weights"], STATE["weights"])
    assert loaded["optimizer"] == STATE["optimizer"]
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["state.pt"]


def test_a_later_checkpoint_replaces_the_first(tmp_path):
    checkpoint.save(tmp_path, STATE)
    checkpoint.save(tmp_path, {**STATE, "step": 8})
    assert checkpoint.load(tmp_path)["step"] == 8


def test_a_crash_while_writing_leaves_the_previous_one(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, STATE)

    def half(state, stream):
        stream.write(b"half of it")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(OSError, match="disk full"):
            checkpoint.save(tmp_path, {**STATE, "step": 8})
    assert checkpoint.load(tmp_path)["step"] == 7
    checkpoint.save(tmp_path, {**STATE, "step": 9})  # and what was left aside is in nobody's way
    assert checkpoint.load(tmp_path)["step"] == 9


def _one_clear_line(error: ValueError, *parts: str) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 300
    for part in parts:
        assert part in str(error)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path, share):
    path = checkpoint.save(tmp_path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="cannot be read") as caught:
        checkpoint.load(tmp_path)
    _one_clear_line(caught.value, str(path))


def test_another_kind_of_file_is_refused_and_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("foreign code ran",))

    (tmp_path / "state.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="cannot be read") as caught:
        checkpoint.load(tmp_path)
    _one_clear_line(caught.value, "state.pt")


def test_foreign_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("foreign code ran",))

    torch.save({"theta": Evil()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.load(tmp_path)
    assert "foreign code ran" not in capsys.readouterr().out


def test_an_absent_checkpoint_is_told(tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint") as caught:
        checkpoint.load(tmp_path / "nowhere")
    _one_clear_line(caught.value, "nowhere", "state.pt")
