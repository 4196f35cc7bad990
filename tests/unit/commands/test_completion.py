"""`sngd completion`: what the scripts answer in bash, and that zsh and fish can read theirs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sngd import library
from sngd.cli import main
from sngd.commands.overview import COMMANDS

pytest.importorskip("shtab")

TRY = """
source ./script
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_sngd
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    """The scripts of all shells, each by the command."""
    found = {}
    for shell in ("bash", "zsh", "fish"):
        with pytest.MonkeyPatch.context() as patch:
            lines: list[str] = []
            patch.setattr(sys.stdout, "write", lines.append)
            assert main(["completion", shell]) == 0
        found[shell] = "".join(lines)
    return found


@pytest.fixture
def complete(scripts, tmp_path):
    """What bash answers to words, the last of them unfinished."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    (tmp_path / "script").write_text(scripts["bash"])
    for name in ("mypde.py", "notes.txt", "two words.py", "runs/heat-1/config.json", "runs/other/readme"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def answer(*words: str) -> list[str]:
        listed = " ".join(f"'{word}'" for word in ("sngd", *words))
        done = subprocess.run(
            ["bash", "--norc", "-c", TRY.format(words=listed)], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1]

    return answer


def test_commands(complete):
    names = [name for group in COMMANDS.values() for name in group]
    assert sorted(complete("")) == sorted(names)
    assert complete("tr") == ["train"]
    assert complete("completion", "") == ["bash", "zsh", "fish"]


def test_configs_are_files_and_problems(complete):
    problems = [f"problems:{name}" for name in library.names()]
    offered = complete("train", "")
    assert set(offered) >= {*problems, "mypde.py", "two words.py", "runs"}
    assert "notes.txt" not in offered
    assert sorted(complete("plan", "my")) == ["mypde.py"]
    assert complete("submit", "problems:he") == [
        "heat",
        "heat4d",
        "heat_million",
        "heat_ten_million",
        "helmholtz",
    ]


def test_words_that_bash_has_ended_at_a_colon(complete):
    assert set(complete("train", "problems", ":")) == set(library.names())
    assert complete("train", "problems", ":", "burgers_") == ["burgers_shock"]
    assert complete("train", "problems", ":", "heat", "--prec") == ["--precision"]
    assert complete("train", "problems", ":", "heat", "--precision", "m") == ["mixed"]


def test_flags_of_a_config_under_every_optimizer(complete):
    assert complete("train", "mypde.py", "--max-st") == ["--max-steps"]
    assert complete("train", "mypde.py", "--network.hidden", "32", "32", "--see") == ["--seed"]
    assert "spring" in complete("train", "mypde.py", "--optimizer", "")
    flags = set(complete("train", "mypde.py", "--optimizer."))
    assert {"--optimizer.subspace", "--optimizer.zero-stage", "--optimizer.recycle"} <= flags
    assert complete("train", "mypde.py", "--optimizer.subspace", "") == ["range_finder", "landmarks"]
    assert complete("submit", "mypde.py", "--node") == ["--nodes"]
    assert "--max-steps" in complete("resume", "runs/heat-1", "--max")


def test_run_folders_are_those_with_a_config(complete):
    for command in ("eval", "plot", "export", "status", "resume"):
        assert complete(command, "ru") == ["runs/heat-1"], command
    assert "slices" in complete("plot", "runs/heat-1", "--what", "s")


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_the_shell_reads_its_script(shell, check, scripts, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = Path(tmp_path) / "script"
    path.write_text(scripts[shell])
    done = subprocess.run([shell, check, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "problems" in scripts[shell]


def test_without_shtab_the_remedy_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == "error: sngd completion needs shtab: pip install 'sngd[completion]'\n"
