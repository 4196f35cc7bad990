"""The README's example is a config that trains."""

import dataclasses
import re
from pathlib import Path

import torch

from sngd.collectives import LocalRanks
from sngd.config_files import load_source
from sngd.training import train

README = Path(__file__).parents[2] / "README.md"


def test_the_example_pasted_into_a_file_trains(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    path = tmp_path / "mypde.py"
    path.write_text(example)
    run, _ = load_source(path)
    short = dataclasses.replace(run, max_steps=3, device="cpu")
    result = train(short, LocalRanks(), torch.device("cpu")).result
    assert result["steps"] == 3
    assert result["parameters"] == 1361
    assert result["points"] == 10240


def test_the_tree_names_every_module():
    """Who wants to change something finds the place, and no place that is gone."""
    tree = README.read_text().split("## The house")[1].split("```")[1]
    named = set(re.findall(r"(\w+)\.py\b", tree)) | set(re.findall(r"(\w+)/", tree))
    package = README.parent / "sngd"
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    folders = {path.name for path in README.parent.iterdir() if path.is_dir()}
    launch = {"train"}
    assert modules | packages <= named
    assert named <= modules | packages | folders | launch | {
        "sngd",
        "unit",
        "ranks",
        "exact",
        "faults",
        "fuzz",
    }
