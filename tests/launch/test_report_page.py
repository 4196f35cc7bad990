"""report.html in a browser: every picture shows, nothing is asked for from elsewhere, no script runs."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from matplotlib.image import imread

pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium (apt-get install chromium)"),
]

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--window-size=900,6000"),
]
CONFIG = """
from sngd import MLP, SNGD, Box, Condition, Problem, RunConfig

domain = Box(x=(0, 1), t=(0, 1))
image = "<img src=http://evil.example/x onerror=document.title='hacked'>"
name = "<script>document.title='hacked'<b>"
conditions = [Condition(image, lambda u, p: u - p[0] * p[1], domain.interior, 40)]
problem = Problem(domain, conditions, name=name)
run = RunConfig(problem, MLP(hidden=(8, 8)), SNGD(rank=12), max_steps=3, device="cpu")
"""
# Put into a copy of the page whose policy lets it run: the title, and of each picture how wide it has loaded.
LOOK = """<script>
addEventListener("load", () => {
  const widths = [...document.images].map(image => image.complete ? image.naturalWidth : 0);
  document.title = JSON.stringify([document.title === "hacked", widths]);
});
</script>"""
# Hosts that Chromium itself calls.
OWN = ("googleapis.com", "google.com", "gstatic.com", "gvt1.com")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "odd.py").write_text(CONFIG)
    command = [sys.executable, "-m", "sngd.cli", "train", "odd.py", "--run-dir", "run", "--quiet"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    return folder / "run" / "report.html"


class Proxy(http.server.ThreadingHTTPServer):
    """Refuses all that a browser asks it for, and remembers what that was."""

    def __init__(self) -> None:
        self.asked = asked = list[str]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def refuse(self) -> None:
                asked.append(self.path)
                self.send_error(403)

            do_GET = do_HEAD = do_POST = do_CONNECT = refuse

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def for_the_page(self) -> list[str]:
        hosts = {where: urlsplit(where if "://" in where else f"//{where}").hostname for where in self.asked}
        return [where for where, host in hosts.items() if not (host or "").endswith(OWN)]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def browse(page: Path, profile: Path, proxy: Proxy, *flags: str) -> str:
    through = [f"--proxy-server=127.0.0.1:{proxy.server_port}", f"--user-data-dir={profile}"]
    command = ["chromium", *FLAGS, *through, *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_pictures_load_and_nothing_is_asked_for(report: Path, tmp_path: Path, proxy: Proxy) -> None:
    source = report.read_text(encoding="utf-8")
    watched = tmp_path / "watched.html"
    policy = "style-src 'unsafe-inline'"
    assert source.count(policy) == 1
    watched.write_text(
        source.replace(policy, f"{policy}; script-src 'unsafe-inline'") + LOOK, encoding="utf-8"
    )
    seen = browse(watched, tmp_path / "profile", proxy, "--dump-dom", "--virtual-time-budget=10000")
    hacked, widths = json.loads(seen.partition("<title>")[2].partition("</title>")[0])
    assert not hacked, "no script in a name runs, even where the policy allows scripts"
    assert len(widths) == source.count("<img ") == 3
    assert min(widths) > 100
    assert not any(host in source for host in OWN)
    assert proxy.for_the_page() == []


def test_the_proxy_would_see_a_request(tmp_path: Path, proxy: Proxy) -> None:
    page = tmp_path / "loud.html"
    page.write_text("<!DOCTYPE html><title>loud</title><img src=http://picture.example/x.png>")
    browse(page, tmp_path / "profile", proxy, "--dump-dom")
    assert "http://picture.example/x.png" in proxy.for_the_page()


def test_the_page_shows_its_pictures(report: Path, tmp_path: Path, proxy: Proxy) -> None:
    shot = tmp_path / "page.png"
    browse(report, tmp_path / "profile", proxy, f"--screenshot={shot}")
    image = imread(shot)[..., :3]
    assert image.shape[1] == 900
    assert (np.ptp(image, axis=2) > 0.3).mean() > 0.01, "the colours of the maps"
    assert proxy.for_the_page() == []
