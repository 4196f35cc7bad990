"""What a run records of its own answer, and sngd eval finds again."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from sngd.cli import main
from sngd.commands.common import restore
from sngd.evaluate import residual_norms

# a run, and sngd eval

CONFIG = """
from sngd import MLP, SNGD, RunConfig
from sngd.problems import heat

run = RunConfig(
    heat(60, 10, 20), MLP(hidden=(8, 8)), SNGD(rank=12), max_steps=3, device="cpu", precision="{precision}"
)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs, and what their consoles said."""
    folder, said = tmp_path_factory.mktemp("runs"), {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            patch.delenv(name, raising=False)
        patch.setattr("sngd.audience.Audience.draw_pictures", lambda *_: None)
        for precision in ("float64", "float32"):
            path = folder / f"{precision}.py"
            path.write_text(CONFIG.format(precision=precision))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                assert main(["train", str(path), "--run-dir", str(folder / precision)]) == 0
            said[precision] = out.getvalue()
    return folder, said


@pytest.fixture(params=["float64", "float32"])
def folder(request, runs, tmp_path, monkeypatch):
    """A copy of a run, in the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs[0] / request.param, "run")
    return Path("run")


def evaluated(capsys, *flags):
    capsys.readouterr()
    assert main(["eval", "run", *flags]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_a_run_records_what_eval_finds_again(folder, runs, capsys):
    recorded = json.loads((folder / "result.json").read_text())["certificate"]
    assert recorded["summary"] in runs[1][recorded["trained_in"]].splitlines()
    assert "; error at most about " in recorded["summary"]
    assert recorded["summary"].endswith("(maximum principle)")
    run, network, theta = restore(folder)
    assert recorded["trained_in"] == str(theta.dtype).removeprefix("torch.")
    assert recorded["dtype"] == "float64"
    told, err = evaluated(capsys)
    assert told["recorded"] == recorded
    assert told["certificate"] == recorded
    assert told["agreement"]["agrees"] is True
    theta, network = theta.double(), network.to(torch.float64, "cpu")
    assert told["residuals"] == residual_norms(run.problem, network, theta, 1000)
    assert err == ""
    coarse, _ = evaluated(capsys, "--dtype", "float32", "--device", "cpu")
    assert coarse["certificate"]["dtype"] == "float32"
    assert coarse["agreement"]["agrees"] is True
    assert coarse["certificate"]["conditions"]["equation"]["rms"] != recorded["conditions"]["equation"]["rms"]
    best, _ = evaluated(capsys, "--checkpoint", "best")
    assert best["agreement"]["agrees"] is None
    assert best["agreement"]["why"].startswith("--checkpoint=best, ")
    more, _ = evaluated(capsys, "--points", "200")
    assert more["certificate"]["points"] == 200
    assert more["agreement"]["agrees"] is None
    x = run.problem.domain.interior.sample(0, 2000, (5,))
    error = float((network(theta, x) - run.problem.reference(x)).abs().max())
    assert error <= 1.05 * recorded["error_estimate"]["value"]


@pytest.mark.parametrize("folder", ["float64"], indirect=True)
def test_eval_says_aloud_when_it_finds_something_else(folder, capsys, monkeypatch):
    path = folder / "result.json"
    result = json.loads(path.read_text())
    result["certificate"]["conditions"]["walls"]["rms"] *= 1.0001
    path.write_text(json.dumps(result))
    told, err = evaluated(capsys)
    assert told["agreement"]["agrees"] is False
    assert err.startswith("warning: the certificate is not that of result.json: walls: residuals differ")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["eval", "run"]) == 0
    assert "DOES NOT AGREE with what the run recorded: walls" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["float64"], indirect=True)
@pytest.mark.parametrize("left", [None, {"certificate": None}, {}, [], {"certificate": {"points": True}}])
def test_eval_goes_on_without_a_recorded_certificate(folder, capsys, monkeypatch, left):
    path = folder / "result.json"
    path.unlink() if left is None else path.write_text(json.dumps(left))
    told, err = evaluated(capsys)
    assert told["recorded"] is None
    assert told["agreement"]["agrees"] is None
    assert "result.json " in told["agreement"]["why"]
    assert told["certificate"]["conditions"]["equation"]["rms"] > 0
    assert err == ""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["eval", "run"]) == 0
    assert "not compared with the run's own: result.json " in capsys.readouterr().out
