"""Keys and tokens of the environment: no byte of them in what a run writes, says or sends."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from sngd.launcher import unlaunched

pytest.importorskip("wandb")
from tests.wandb_server import server

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[2]
SMALL = ["--device", "cpu", "--network.hidden", "8", "8", "--optimizer.rank", "12", "--max-steps", "4"]
UMASK = 0o027
TRACKED = ["--tracking.artifacts", "--tracking.tensorboard", "--checkpoint-seconds", "1e-9"]


@pytest.fixture
def known(tmp_path: Path) -> dict[str, str]:
    """Secrets by where they stand: two in the environment, one in ~/.netrc, one in a remote's address."""
    names = ("WANDB_API_KEY", "SOME_CLOUD_SECRET_TOKEN", "netrc", "remote")
    found = {name: secrets.token_hex(20) for name in names}
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir(), here.mkdir()
    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", f"https://me:{found['remote']}@example.org/a"],
    ):
        subprocess.run(["git", *command], cwd=here, check=True)
    return found


def train(tmp_path: Path, *flags: str, **variables: str) -> str:
    """What a small run says, with the working tree of a private repository around it."""
    kept = {k: v for k, v in unlaunched(os.environ).items() if not k.startswith(("WANDB_", "GIT_"))}
    places = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    config = str(ROOT / "configs" / "heat.py")
    done = subprocess.run(
        [sys.executable, "-m", "sngd.cli", "train", config, *SMALL, *TRACKED, *flags, "--run-dir", "run"],
        env=kept | {"OMP_NUM_THREADS": "1"} | places | variables,
        cwd=tmp_path / "here",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        umask=UMASK,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def leaks(content: bytes, known: dict[str, str]) -> list[str]:
    """Which secrets stand in it, as they are or as a header of HTTP has them."""
    forms = {n: [s.encode(), base64.b64encode(f"api:{s}".encode()).rstrip(b"=")] for n, s in known.items()}
    return [name for name, told in forms.items() if any(form in content for form in told)]


def leaking(folder: Path, known: dict[str, str]) -> dict[str, list[str]]:
    found = {str(p): leaks(p.read_bytes(), known) for p in folder.rglob("*") if p.is_file()}
    return {path: names for path, names in found.items() if names}


def test_the_search_finds_what_is_there(known: dict[str, str]) -> None:
    header = base64.b64encode(f"api:{known['netrc']}".encode())
    content = b"\0" + known["remote"].encode() + b"\n" + header
    assert leaks(content, known) == ["netrc", "remote"]


def test_offline_no_secret_is_written_or_said(tmp_path: Path, known: dict[str, str]) -> None:
    given = {name: known[name] for name in ("WANDB_API_KEY", "SOME_CLOUD_SECRET_TOKEN")}
    said = train(tmp_path, "--tracking.wandb=offline", **given)
    assert leaks(said.encode(), known) == []
    assert list(tmp_path.glob("here/run/wandb/offline-run-*/*.wandb"))
    assert leaking(tmp_path / "here" / "run", known) == {}
    modes = {str(path): path.stat().st_mode & 0o777 for path in (tmp_path / "here" / "run").rglob("*")}
    assert {path: oct(mode) for path, mode in modes.items() if mode & UMASK} == {}
    ours = [mode for path, mode in modes.items() if "/wandb/" not in path and not os.path.isdir(path)]
    assert set(ours) == {0o666 & ~UMASK}, "as the umask has it, neither less nor more"


@pytest.mark.parametrize("source", ["WANDB_API_KEY", "netrc"])
def test_online_no_secret_is_written_said_or_sent_but_to_log_in(
    tmp_path: Path, known: dict[str, str], source: str
) -> None:
    names = ("WANDB_API_KEY", "SOME_CLOUD_SECRET_TOKEN")
    given = {name: known[name] for name in names if name != "WANDB_API_KEY" or source == name}
    with server() as host:
        netrc = tmp_path / "home" / ".netrc"
        machine = host.address.removeprefix("http://")
        netrc.write_text(f"machine {machine}\n  login user\n  password {known['netrc']}\n")
        netrc.chmod(0o600)
        said = train(tmp_path, "--tracking.wandb=online", WANDB_BASE_URL=host.address, **given)
        assert list(host.rows.values()), "the run has been sent"
        assert leaks(b"\n".join(host.received), known) == []
    assert leaks(said.encode(), known) == []
    assert leaking(tmp_path / "here" / "run", known) == {}
