"""Runs that have ended, for tests of what reads them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from sngd.cli import main


def train_all(folder: Path, texts: Mapping[str, str]) -> Path:
    """Train FOLDER/NAME.py into FOLDER/NAME by the command line, alone whatever the environment says.

    Args:
        folder: where files and runs go; it is returned.
        texts: of the configs, by their names.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            patch.delenv(name, raising=False)
        for name, text in texts.items():
            config = folder / f"{name}.py"
            config.write_text(text)
            assert main(["train", str(config), "--run-dir", str(folder / name), "--quiet"]) == 0
    return folder
