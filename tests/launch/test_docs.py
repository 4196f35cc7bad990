"""Commands of the documentation that start several processes, for a few steps."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.docs.pages import DOCS, ROOT, blocks

pytestmark = pytest.mark.launch
_FEW = ["--max-steps", "3", "--evaluate-points", "200", "--device", "cpu", "--no-pictures"]


def _commands(page: str, word: str) -> list[list[str]]:
    lines = [line for block in blocks(DOCS / page) if block.language == "sh" for line in block.commands]
    return [shlex.split(line, comments=True) for line in lines if word in line]


@pytest.mark.parametrize(
    ("page", "word"), [("tutorial.md", "--ranks 2"), ("howto/gpus.md", "torchrun --nproc-per-node")]
)
def test_a_command_starts_ranks(page, word, tmp_path):
    ((program, *words),) = _commands(page, word)
    for block in blocks(DOCS / page):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
    words = [
        "2" if word == "8" else word.replace("configs/poisson5d.py", "configs/heat.py") for word in words
    ]
    words = [str(ROOT / word) if word.startswith(("configs/", "launch/")) else word for word in words]
    module = {"sngd": "sngd.cli", "torchrun": "torch.distributed.run"}[program]
    done = subprocess.run(
        [sys.executable, "-m", module, *words, *_FEW],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert "2 ranks on 1 node" in done.stdout
    assert "max_steps after 3 steps" in done.stdout
