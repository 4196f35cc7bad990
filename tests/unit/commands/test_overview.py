"""`sngd` by itself: help, version, words that are no command, parsers of all commands."""

import importlib.metadata
import re

import pytest

import sngd
from sngd import cli
from sngd.cli import main
from sngd.commands.overview import COMMANDS, chosen

NAMES = [name for group in COMMANDS.values() for name in group]


def answer(capsys, *given: str) -> tuple[int, str]:
    """Exit code and what was said."""
    try:
        code = main(list(given))
    except SystemExit as end:
        code = int(end.code or 0)
    told = capsys.readouterr()
    return code, told.out + told.err


def test_sngd_alone_and_help_list_every_command(capsys):
    code, alone = answer(capsys)
    assert code == 2
    assert re.findall(r"^  ([a-z]+)  +\S", alone, re.MULTILINE) == NAMES
    for words in (["help"], ["--help"], ["-h"]):
        assert answer(capsys, *words) == (0, alone)
    assert max(map(len, alone.splitlines())) <= 110


def test_what_is_listed_is_what_there_is():
    assert list(cli.COMMANDS) == NAMES


def test_the_version_is_that_of_the_package(capsys):
    expected = importlib.metadata.version("sngd")
    assert answer(capsys, "--version") == (0, f"sngd {expected}\n")
    assert sngd.__version__ == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_command_tells_about_itself(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, said = answer(capsys, name, "--help")
    assert code == 0
    assert said.startswith(f"usage: sngd {name}")
    assert f"\nexamples:\n  sngd {name}" in said
    wrapped = said.partition("\nexamples:")[0]
    assert not re.search(r"-$", wrapped, re.MULTILINE), "a flag is broken at its hyphen"
    assert answer(capsys, "help", name) == (0, said)


@pytest.mark.parametrize("name", ["train", "plan", "submit"])
def test_help_is_found_behind_other_flags(name, capsys):
    code, said = answer(capsys, name, "--seed", "--help")
    assert code == 0 or "must come after CONFIG" in said
    flag = {"train": "--ranks", "plan": "--ranks", "submit": "--nodes"}[name]
    code, said = answer(capsys, name, flag, "2", "--help")
    assert (code, said.partition("\n")[0][:20]) == (0, f"usage: sngd {name} CONFIG"[:20])


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("trian", "did you mean train?"),
        ("stats", "did you mean status?"),
        ("xyzzy", "`sngd --help` lists them"),
        ("mypde.py", "sngd train mypde.py"),
        ("", None),
    ],
)
def test_a_word_that_is_no_command_is_told_in_one_line(word, hint, capsys):
    code, said = answer(capsys, word)
    assert code == 2
    if hint is not None:
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert hint in said


def test_arguments_go_to_the_command():
    assert chosen(["train", "a.py", "--help"]) == ("train", ["a.py", "--help"])
    assert chosen(["help", "plot", "rest"]) == ("plot", ["--help"])


def test_a_config_that_is_no_file_is_guessed_at(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    for word, hint in (
        ("mine", "did you mean mine.py?"),
        ("heat", "did you mean problems:heat?"),
        ("run", "`sngd resume run` goes on"),
        ("x" * 300, "error: "),
    ):
        code, said = answer(capsys, "plan", word)
        assert code == 2
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert hint in said
