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
