"""The reference has every public name and every command, once."""

import inspect
import re
import sys

import pytest

import sngd
import sngd.problems
from sngd.cli import main
from tests.docs.pages import DOCS

sys.path.insert(0, str(DOCS / "hooks"))
import pages

REFERENCE = [page.read_text() for page in sorted((DOCS / "reference").glob("*.md"))]


@pytest.mark.parametrize("package", [sngd, sngd.problems], ids=["sngd", "sngd.problems"])
def test_every_public_name_is_there_once(package):
    found = [m[2] for text in REFERENCE for m in pages.OBJECT.finditer(text) if m[1] == package.__name__]
    assert sorted(found) == sorted(package.__all__)
    assert len([line for text in REFERENCE for line in text.splitlines() if line.startswith(":::")]) == len(
        {*sngd.__all__}
    ) + len(sngd.problems.__all__)


@pytest.mark.parametrize("name", sngd.__all__)
def test_a_name_is_found_where_it_is_defined_and_says_what_it_is(name):
    path = pages.defined_in("sngd", name)
    module, _, last = path.rpartition(".")
    assert getattr(sys.modules[module], last) is getattr(sngd, name)
    assert (getattr(sngd, name).__doc__ or "").strip()


@pytest.mark.parametrize("package", [sngd, sngd.problems], ids=["sngd", "sngd.problems"])
def test_columns_in_docstrings_are_indented_so_that_pages_keep_them(package):
    for name in package.__all__:
        lines = (inspect.getdoc(getattr(package, name)) or "").splitlines()
        assert not [line for line in lines if re.search(r"^\S.*\S {3,}\S", line)], name


def test_every_command_is_there(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    text = (DOCS / "reference" / "cli.md").read_text()
    assert {"train", "bench", "doctor"} <= set(commands)
    assert [m[1].split()[0] for m in pages.HELP.finditer(text) if m[1].strip()] == re.findall(
        r"help: (\w+)", text
    )
    for command in commands:
        assert f"## sngd {command}\n\n<!-- help: {command} -->" in text


def test_help_of_a_command_is_what_it_prints(capsys):
    text = pages.on_page_markdown("before\n<!-- help: status -->\nafter")
    assert text.startswith("before\n```text\nusage: sngd status")
    assert text.endswith("```\nafter")
    assert "a run folder" in text
