"""Every block of Python in the documentation runs, and every command is one that there is."""

import dataclasses
import os
import shutil

import pytest
import torch

from sngd.cli import main
from sngd.collectives import LocalRanks
from sngd.config_files import load_source
from sngd.training import train
from tests.docs.pages import PAGES, ROOT, blocks, name
from tests.docs.shell import run_line

# Blocks that are not run, each with its reason beside it in the page.
_MOST_EXEMPT = 3
_LANGUAGES = {"", "python", "sh", "text"}
# The README's config has a test of its own (tests/unit/test_readme.py).
CONFIGS = [
    pytest.param(block, id=f"{name(page)}-{number}")
    for page in PAGES[1:]
    for number, block in enumerate(blocks(page))
    if block.is_config and not block.exempt and f"sngd train {block.title} " not in page.read_text()
]
WALKS = [page for page in PAGES if any(block.language in ("sh", "python") for block in blocks(page))]


def test_there_are_blocks_and_hardly_any_is_exempt():
    found = [block for page in PAGES for block in blocks(page)]
    assert len(CONFIGS) >= 6
    assert sum(len(block.commands) for block in found if block.language == "sh") >= 60
    exempt = [block.exempt for block in found if block.exempt]
    assert len(exempt) <= _MOST_EXEMPT, exempt
    assert all(len(reason.split()) >= 3 for reason in exempt)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_fences_are_of_known_languages_and_closed(page):
    assert page.read_text().count("\n```") + page.read_text().startswith("```") == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= _LANGUAGES


@pytest.mark.parametrize("block", CONFIGS)
def test_a_config_trains(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mypde.py"
    path.write_text(block.text)
    run, _ = load_source(path)
    changes = {"max_steps": 2, "device": "cpu", "evaluate_points": 200}
    if run.curriculum is not None:
        changes["curriculum"] = dataclasses.replace(run.curriculum, steps=1)
        changes["max_steps"] = 3
    if run.marching is not None:
        changes["max_steps"] = 2 * run.marching.slabs
    trained = train(dataclasses.replace(run, **changes), LocalRanks(), torch.device("cpu"))
    assert trained.result["steps"] == changes["max_steps"]
    assert trained.result["loss"] < float("inf")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder of four steps of the heat equation."""
    folder = tmp_path_factory.mktemp("finished")
    here = os.getcwd()
    os.chdir(folder)
    try:
        assert main(["init", "mypde.py"]) == 0
        few = ["--max-steps", "4", "--evaluate-points", "200", "--device", "cpu", "--no-pictures"]
        assert main(["train", "mypde.py", "--run-dir", "run", *few]) == 0
    finally:
        os.chdir(here)
    return folder / "run"


@pytest.fixture
def desk(tmp_path, monkeypatch, finished):
    """A checkout as a reader has it, with a file of their own."""
    for folder in ("benchmarks", "configs", "launch", "slurm"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    shutil.copy(finished.parent / "mypde.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.parametrize("page", WALKS, ids=name)
def test_a_page_works_from_top_to_bottom(page, desk, finished, capsys):
    names: dict = {"__name__": "__main__"}
    steps: dict[str, int] = {}
    for block in blocks(page):
        if block.exempt:
            continue
        if block.title:
            (desk / block.title).write_text(block.text)
        elif block.language == "python" and not block.is_config:
            exec(compile(block.text, name(page), "exec"), names)
        for line in block.commands if block.language == "sh" else ():
            run_line(line, desk, steps, finished)
    assert "error:" not in capsys.readouterr().err
