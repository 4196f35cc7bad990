"""Pictures of terminal and report in docs/images, of a finished run: `python -m benchmarks.screens RUN`.

The panel is drawn from the run's history up to a step whose spectrum the run has kept; both are then
photographed by headless Chromium, which must be installed.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import rich.console
from matplotlib.image import imread
from PIL import Image
from rich.terminal_theme import DIMMED_MONOKAI

from sngd.records import some
from sngd.tracking import read_history
from sngd.tracking.panel import Panel

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLUMNS = 80  # of the terminal
PAGE = (1100, 1250)  # pixels of the page that are shown
COLOURS = 256  # of a picture


def main() -> None:
    """Write terminal.png and report.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="a finished run with a report")
    run = parser.parse_args().run
    with tempfile.TemporaryDirectory() as scratch:
        drawing = Path(scratch) / "terminal.svg"
        drawing.write_text(terminal(run), encoding="utf-8")
        sizes = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing.read_text(encoding="utf-8"))
        assert sizes is not None
        width, height = (round(float(size)) for size in sizes.groups())
        photograph(drawing, IMAGES / "terminal.png", width, height)
    photograph(run / "report.html", IMAGES / "report.png", *PAGE)
    for name in ("terminal.png", "report.png"):
        print(IMAGES / name, f"{(IMAGES / name).stat().st_size / 1e3:.0f} kB")


def terminal(run: Path) -> str:
    """An SVG of the panel half-way, at a step whose spectrum was kept."""
    history = read_history(run / "history.jsonl")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    fields = config["fields"]
    limits = {key: fields[key] for key in ("max_steps", "max_seconds", "target_error")}
    panel = Panel({"name": fields["problem"]["name"], "fields": fields, **limits})
    with np.load(run / "spectra.npz") as kept:
        step = sorted(int(name.removeprefix("step_")) for name in kept.files)[-3]
        spectrum = some(kept[f"step_{step}"].tolist())
    for record in history[:step]:
        panel.observe({**record, "spectrum": spectrum})
    done = max(history[step - 1]["seconds"] / fields["max_seconds"], step / fields["max_steps"])
    console = rich.console.Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(f"$ sngd train configs/{Path(config['source']['path']).name}", highlight=False)
    for line in config["plan"]:
        console.print(line, highlight=False, soft_wrap=True)
    console.print(panel.draw(COLUMNS, done))
    drawn = console.export_svg(title="sngd", theme=DIMMED_MONOKAI)
    return re.sub(r"@font-face\s*{[^}]*}", "", drawn)  # fonts from elsewhere; those of this machine will do


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """A PNG of a page, of few colours and so of few bytes."""
    with tempfile.TemporaryDirectory() as profile:
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
        more = "--disable-background-networking --disable-component-update --hide-scrollbars"
        where = [f"--user-data-dir={profile}", f"--screenshot={picture}", f"--window-size={width},{height}"]
        subprocess.run(
            ["chromium", *flags.split(), *more.split(), *where, page.absolute().as_uri()],
            check=True,
            capture_output=True,
            timeout=120,
        )
    assert imread(picture).std() > 0.01, f"{picture} shows nothing"
    shot = Image.open(picture).convert("RGB")
    few = shot.quantize(COLOURS)
    shot.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG).save(picture, optimize=True)


if __name__ == "__main__":
    main()
