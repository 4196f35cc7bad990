"""benchmarks/checkpoints.py, on a small network: every figure is there, and the checkpoints are whole."""

import json

import pytest

from benchmarks import checkpoints, results


def test_every_figure_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    told = ["checkpoints", "--width", "6", "--points", "20", "--repeats", "1", "--seconds", "0.01"]
    monkeypatch.setattr("sys.argv", told)
    checkpoints.main()
    (file,) = tmp_path.glob("*/checkpoints.json")
    written = json.loads(file.read_text())
    assert "torch" in written["machine"]
    assert "commit" in written
    assert set(written["runs"]) == {"sngd", "adam"}
    for figures in written["runs"].values():
        assert figures["parameters"] == 3 * 6 + 2 * 42 + 7
        assert figures["bytes"] > 8 * figures["parameters"]
        assert figures["every_1"]["step_ms"] > 0
        for name in (
            "copy_s",
            "write_s",
            "read_s",
            "torch_save_s",
            "torch_load_s",
            "dcp_save_s",
            "dcp_load_s",
        ):
            assert figures[name] > 0
    assert "every 300 s" in capsys.readouterr().out


def test_a_block_writes_as_many_as_it_is_told(tmp_path):
    blocks = checkpoints.Blocks(checkpoints.runs(4, 20)["adam"], tmp_path)
    assert [blocks.seconds(6, every)[2] for every in (None, 1, 3)] == [0, 6, 2]
    assert pytest.approx(0) == blocks.seconds(2, None)[1]
