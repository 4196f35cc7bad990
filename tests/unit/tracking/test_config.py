"""Which trackers follow a run: fields, WANDB_MODE, what is not installed, what a sweep's file says."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from sngd.cli import main
from sngd.config import parse_overrides
from sngd.config_files import load_source
from sngd.tracking import TensorBoard, Tracking, WeightsAndBiases, make_hooks
from sngd.tracking.config import agreed_mode

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("wanted", "said", "mode"),
    [
        ("disabled", "online", "disabled"),
        ("disabled", "nonsense", "disabled"),
        ("offline", "", "offline"),
        ("offline", "offline", "offline"),
        ("offline", "online", "offline"),
        ("offline", "disabled", "disabled"),
        ("online", "run", "online"),
        ("online", "dryrun", "offline"),
        ("online", "disabled", "disabled"),
    ],
)
def test_the_quieter_of_config_and_environment_counts(wanted: str, said: str, mode: str) -> None:
    agreed, line = agreed_mode(wanted, {"WANDB_MODE": said} if said else {})  # type: ignore[arg-type]
    assert agreed == mode
    differs = wanted != "disabled" and said not in ("", "run", wanted)
    assert bool(line) == differs
    if line:
        assert line.startswith(f"tracking.wandb={wanted}, but WANDB_MODE={said}: ")
        assert line.endswith(f"W&B is {mode}")


def test_an_unknown_mode_of_the_environment_is_named() -> None:
    with pytest.raises(ValueError) as caught:
        agreed_mode("online", {"WANDB_MODE": "shared"})
    assert str(caught.value).startswith("WANDB_MODE=shared must be ")


def test_a_disagreement_is_one_line_and_disabled_means_no_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert make_hooks(Tracking(project="heat"), tmp_path) == []
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert make_hooks(Tracking(wandb="online"), tmp_path) == []
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_hooks_are_those_that_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    hooks = make_hooks(Tracking(wandb="offline", tensorboard=True), tmp_path)
    assert [type(hook) for hook in hooks] == [WeightsAndBiases, TensorBoard]


@pytest.mark.parametrize(
    ("fields", "module", "extra"),
    [
        ({"wandb": "offline"}, "wandb", "sngd[wandb]"),
        ({"tensorboard": True}, "torch.utils.tensorboard", "sngd[tensorboard]"),
    ],
)
def test_a_missing_package_is_an_error_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict, module: str, extra: str
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError) as caught:
        make_hooks(Tracking(**fields), tmp_path)
    assert str(caught.value).startswith("tracking.")
    assert f"pip install '{extra}'" in str(caught.value)


# configs/sweep.yaml


@pytest.fixture
def sweep() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return dict(yaml.safe_load((ROOT / "configs" / "sweep.yaml").read_text()))


def test_the_sweep_starts_our_command_with_its_parameters_as_flags(sweep: dict[str, Any]) -> None:
    assert sweep["command"][:3] == ["sngd", "train", "configs/heat.py"]
    assert sweep["command"][-1] == "${args}"
    assert sweep["method"] == "grid"
    assert sweep["metric"] == {"name": "relative_l2", "goal": "minimize"}
    assert {"seed", "optimizer.rank"} <= sweep["parameters"].keys()


def test_every_flag_that_the_sweep_gives_is_one_of_ours(
    sweep: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """W&B writes --NAME=VALUE for each parameter (${args} of its sweeps)."""
    run, _ = load_source(ROOT / "configs" / "heat.py")
    fixed = sweep["command"][3:-1]
    assert "--tracking.wandb=online" in fixed
    longest = max(len(parameter["values"]) for parameter in sweep["parameters"].values())
    for index in range(longest):
        chosen = {
            name: parameter["values"][index % len(parameter["values"])]
            for name, parameter in sweep["parameters"].items()
        }
        swept = parse_overrides(run, [*fixed, *(f"--{name}={value}" for name, value in chosen.items())], "x")
        assert swept.tracking.wandb == "online"
        for name, value in chosen.items():
            holder = swept
            *path, last = name.split(".")
            for part in path:
                holder = getattr(holder, part)
            assert getattr(holder, last) == value
    with pytest.raises(SystemExit):
        main(["train", str(ROOT / "configs" / "heat.py"), *fixed, "--optimizer.ranke=3"])
    assert "ranke" in capsys.readouterr().err
