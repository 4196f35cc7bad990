"""Every block of Python in docs/ is a config that trains."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from sngd.collectives import LocalRanks
from sngd.config_files import load_source
from sngd.training import train

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = [
    (f"{page.stem}-{number}", text)
    for page in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize(("name", "text"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_a_block_of_the_documentation_trains(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "mypde.py"
    path.write_text(text)
    run, _ = load_source(path)
    changes = {"max_steps": 2, "device": "cpu", "evaluate_points": 200}
    if run.curriculum is not None:
        changes["curriculum"] = dataclasses.replace(run.curriculum, steps=1)
        changes["max_steps"] = 3
    trained = train(dataclasses.replace(run, **changes), LocalRanks(), torch.device("cpu"))
    assert trained.result["steps"] == changes["max_steps"]
    assert trained.result["loss"] < float("inf")
