"""What is handed to Slurm, and the mistakes that are told before."""

import re
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from sngd import submit as module
from sngd.cli import main
from sngd.submit import slurm_time

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "slurm").iterdir())
SMALL = """
from sngd import MLP, SNGD, RunConfig
from sngd.problems import heat

run = RunConfig(heat(60, 10, 20), MLP(hidden=(8, 8)), SNGD(rank=12), max_steps=4, device="cpu")
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.py").write_text(SMALL)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """An sbatch that keeps what it is given and says what it is told to."""

    def make(says="17", code=0):
        tool = tmp_path / "bin" / "sbatch"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\necho "$@" > arguments.txt\ncat > given.sh\necho "{says}"\nexit {code}\n')
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")

    return make


def dry(capsys, *arguments):
    """The script that would be submitted, and its options."""
    assert main(["submit", *arguments, "--dry-run"]) == 0
    script = capsys.readouterr().out
    return script, dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE))


def test_the_script_holds_nothing_of_the_environment(capsys, monkeypatch):
    key = secrets.token_hex(20)
    for name in ("WANDB_API_KEY", "HF_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, key)
    for more in ([], ["--array", "0-3"], ["--preemptible"]):
        assert key not in dry(capsys, "small.py", *more)[0]


def test_a_flag_of_several_lines_is_no_line_of_the_script(capsys):
    notes = "first\n#SBATCH --account=other\ntouch stray\n"
    script, _ = dry(capsys, "small.py", "--tracking.notes", notes)
    head, _, rest = script.partition("\nset -- ")
    (line,) = [line for line in head.splitlines() if "account" in line or "stray" in line]
    assert line.startswith("# sngd submit small.py ")
    assert rest.startswith(f"small.py --tracking.notes '{notes}'\n")


def refused(capsys, *arguments):
    """What is said of a mistake."""
    try:
        code = main(["submit", *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "limit", "seconds"),
    [
        ("2h", "02:00:00", 7200),
        ("90m", "01:30:00", 5400),
        ("1d12h", "1-12:00:00", 129600),
        ("1h30m15s", "01:30:15", 5415),
        ("2:00:00", "02:00:00", 7200),
        ("30", "00:30:00", 1800),
        ("30:20", "00:30:20", 1820),
        ("1-12", "1-12:00:00", 129600),
        ("1-12:30", "1-12:30:00", 131400),
        ("2-00:00:10", "2-00:00:10", 172810),
    ],
)
def test_times_become_those_of_slurm(text, limit, seconds):
    assert slurm_time(text) == (limit, seconds)


@pytest.mark.parametrize(
    "text", ["", "h", "2 h", "2x", "h2", "1:2:3:4", "0h", "0:00", "-5m", "12h1d", "1.5h"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError) as caught:
        slurm_time(text)
    assert str(caught.value).startswith(f"--time={text!r}")


def test_options_replace_those_of_the_template_and_join_them(capsys):
    flags = ["--nodes", "4", "--gpus-per-node", "8", "--time", "2h", "--partition", "gpu", "--mem", "64G"]
    script, options = dry(capsys, "small.py", *flags, "--account", "project", "--seed", "3")
    wanted = {"nodes": "4", "gpus-per-node": "8", "time": "02:00:00", "partition": "gpu", "mem": "64G"}
    assert wanted.items() <= options.items()
    assert options["account"] == "project"
    assert options["job-name"] == "small"
    assert options["signal"] == "USR1@120"
    assert "requeue" in options
    assert script.startswith("#!/usr/bin/env bash\n")
    assert script.count("#SBATCH --nodes=") == 1
    assert "\nset -- small.py --seed 3\n" in script
    assert '\ntrain_once "$@"\n' in script


@pytest.mark.parametrize(
    ("flags", "call"),
    [
        ([], "train_once"),
        (["--preemptible"], "train_to_the_end"),
        (["--array", "0-9%4"], "SLURM_ARRAY_TASK_ID"),
    ],
)
def test_each_kind_has_its_script_which_needs_no_other_file(capsys, flags, call):
    script, options = dry(capsys, "small.py", *flags)
    assert call in script.partition("trap : TERM USR1")[2]
    assert "slurm/common.sh" not in script
    assert ("array" in options) == (flags[:1] == ["--array"])
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_short_job_is_warned_later(capsys):
    assert dry(capsys, "small.py", "--time", "10m")[1]["signal"] == "USR1@60"
    assert dry(capsys, "small.py", "--time", "5s")[1]["signal"] == "USR1@1"


def test_arguments_with_spaces_stay_whole(capsys):
    script, _ = dry(capsys, "small.py", "--run-dir", "my runs/one")
    assert "\nset -- small.py --run-dir 'my runs/one'\n" in script


def test_a_job_is_submitted_and_told(capsys, sbatch):
    sbatch("17;cluster")
    assert main(["submit", "small.py", "--nodes", "2", "--ranks-per-node", "3"]) == 0
    assert (
        capsys.readouterr().out == "submitted job 17: output in small-17.out, results in runs/small-job17\n"
    )
    assert Path("arguments.txt").read_text() == "--parsable\n"
    assert "\nRANKS_PER_NODE=3\n" in Path("given.sh").read_text()


def test_a_job_of_an_array_says_where_each_run_goes(capsys, sbatch):
    sbatch()
    assert main(["submit", "small.py", "--array", "0-3", "--run-dir", "out"]) == 0
    assert "output in small-17_TASK.out, results in out/TASK" in capsys.readouterr().out


def test_every_line_of_a_list_is_one_run(capsys):
    Path("sweep.txt").write_text("small.py --seed 1\nsmall.py --optimizer.rank 6\n")
    script, options = dry(capsys, "sweep.txt", "--max-steps", "3")
    assert options["array"] == "1-2"
    assert "\nset -- sweep.txt --max-steps 3\n" in script
    Path("sweep.txt").write_text("small.py --seed 1\nsmall.py --seed -1\n")
    assert "sweep.txt:2: seed=-1" in refused(capsys, "sweep.txt", "--dry-run")


def test_mistakes_are_told_before_a_job_waits(capsys):
    assert "'nothing.py' does not exist" in refused(capsys, "nothing.py")
    assert "--optimizer.rink" in refused(capsys, "small.py", "--optimizer.rink", "3")
    assert "max_steps=0" in refused(capsys, "small.py", "--max-steps", "0")
    assert "--nodes=0 must be" in refused(capsys, "small.py", "--nodes", "0")
    assert "--time='soon' is no time limit" in refused(capsys, "small.py", "--time", "soon")
    assert "--array='a-b' must be" in refused(capsys, "small.py", "--array", "a-b")
    assert "--partition='a b' must be one word" in refused(capsys, "small.py", "--partition", "a b")


def test_without_slurm_the_dry_run_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "print the script with --dry-run" in refused(capsys, "small.py")


def test_a_refusal_of_sbatch_is_passed_on(capsys, sbatch):
    sbatch("no such partition >&2; exit 1 #", code=1)
    assert "sbatch refused the job" in refused(capsys, "small.py")


def test_an_installed_package_brings_the_scripts(monkeypatch, tmp_path):
    package = tmp_path / "site" / "sngd"
    shutil.copytree(ROOT / "slurm", package / "slurm")
    monkeypatch.setattr(module, "__file__", str(package / "submit.py"))
    assert module._folder() == package / "slurm"
    assert 'slurm = "sngd/slurm"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True).stderr == b""
    if shutil.which("shellcheck"):
        command = ["shellcheck", "--shell=bash", "--exclude=SC1091", script]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
