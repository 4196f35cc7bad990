"""The hook that hands a run to the worker process of Weights & Biases, and what it says when that fails."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sngd.tracking import Tracking, WeightsAndBiases, wandb_worker, weights_and_biases
from tests.tracked import INFO, RESULT, record

# The hook with a worker of ours in place of wandb's


ECHO = """
import json, sys
from pathlib import Path
lines = [json.loads(line) for line in sys.stdin]
Path(lines[0]["folder"], "told.json").write_text(json.dumps(lines))
print(json.dumps({"say": "seen"}), flush=True)
"""


def hook_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: list[str], **fields: Any
) -> WeightsAndBiases:
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("needs wandb")
    path = tmp_path / "worker.py"
    path.write_text(program)
    monkeypatch.setattr(weights_and_biases, "wandb_worker", SimpleNamespace(__file__=str(path)))
    folder = tmp_path / "run"
    folder.mkdir()
    return WeightsAndBiases(Tracking(wandb="online", **fields), folder, "online", said.append)


def follow(hook: WeightsAndBiases, folder: Path, info: Mapping[str, Any], steps: int) -> None:
    hook.start(info)
    for step in range(1, steps + 1):
        hook.step(record(step))
    (folder / "state.pt").write_text("checkpoint of step 5")
    hook.saved(folder / "state.pt", 5)
    (folder / "state.pt.new").write_text("a later one")
    (folder / "state.pt.new").replace(folder / "state.pt")
    hook.end(RESULT)
    hook.drawn([folder / "solution.png"])
    hook.close()


def test_the_worker_is_told_everything_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    fields = {"group": "seeds", "tags": ("a", "b"), "artifacts": True, "notes": "n", "entity": "team"}
    hook = hook_with(tmp_path, monkeypatch, ECHO, said, **fields)
    folder = tmp_path / "run"
    info = INFO | {"fields": {"seed": 3, "device": "auto"}, "resumed": 2, "launch": "2 ranks by torchrun"}
    follow(hook, folder, info, 5)
    told = json.loads((folder / "told.json").read_text())
    assert [line["do"] for line in told] == ["open", *["step"] * 5, "checkpoint", "end", "pictures"]
    opening = told[0]
    assert opening["resumed"] == 2
    assert opening["settings"] == {
        "mode": "online",
        "project": "sngd",
        "entity": "team",
        "run_group": "seeds",
        "run_name": "run",
        "run_notes": "n",
        "run_tags": ["a", "b"],
    }
    assert opening["config"]["seed"] == 3
    assert opening["config"]["device"] == "auto", "fields stay what the config says"
    launch = opening["config"]["launch"]
    assert (launch["device"], launch["world_size"], launch["parameters"]) == ("cpu", 2, 1361)
    assert launch["launch"] == "2 ranks by torchrun"
    assert {"python", "torch", "sngd"} <= launch["versions"].keys()
    assert [line["record"] for line in told[1:6]] == [record(step) for step in range(1, 6)]
    kept = told[6]
    assert (kept["name"], kept["step"], kept["remove"]) == ("state.pt", 5, True)
    assert Path(kept["path"]).read_text() == "checkpoint of step 5", "as it was when it was saved"
    assert told[7]["result"] == RESULT
    assert told[8]["paths"] == [str(folder / "solution.png")]
    assert said == ["Weights & Biases: seen"]


def test_without_artifacts_checkpoints_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = hook_with(tmp_path, monkeypatch, ECHO, [])
    follow(hook, tmp_path / "run", INFO, 1)
    told = json.loads((tmp_path / "run" / "told.json").read_text())
    assert [line["do"] for line in told] == ["open", "step", "end", "pictures"]


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit(1)",
        "import json; print(json.dumps({'fail': 'OSError: disk full'}))",
        "import sys, json; next(sys.stdin); print(json.dumps({'fail': 'x'}), flush=True); sys.stdin.read()",
    ],
)
def test_a_worker_that_dies_or_gives_up_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    hook = hook_with(tmp_path, monkeypatch, program, [], artifacts=True)
    follow(hook, tmp_path / "run", INFO, 2000)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert caplog.text.count("the run goes on without") == 1
    assert ("fail" in program) == ("RuntimeError" in caplog.text), "why, where the worker has said so"
    assert not list((tmp_path / "run").glob(".wandb*")), "no snapshot stays behind"


def test_a_worker_that_dies_unheard_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hook = hook_with(tmp_path, monkeypatch, "import os, sys; sys.stdin.read(); os.kill(os.getpid(), 9)", [])
    follow(hook, tmp_path / "run", INFO, 3)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "exit code -9" in caplog.text


def test_a_package_that_is_only_a_folder_of_runs_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    others = [path for path in sys.path if not (Path(path) / "wandb").is_dir()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *others])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(ValueError, match="pip install"):
        WeightsAndBiases(Tracking(), tmp_path, "offline")


def test_the_worker_imports_neither_torch_nor_sngd() -> None:
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'sngd', 'numpy', 'rich'}))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, wandb_worker.__file__], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stderr
