"""The package's public names, and what can be done without loading torch."""

import subprocess
import sys

import pytest

import sngd


def test_every_public_name_is_found():
    assert sorted(sngd._HOMES) == sorted(sngd.__all__)
    for name in sngd.__all__:
        found = getattr(sngd, name)
        assert found.__name__ == name
        assert found.__module__.startswith("sngd.")


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="no attribute 'Probelm'"):
        _ = sngd.Probelm


@pytest.mark.parametrize("command", [["--help"], ["status", "absent"], ["init", "--help"]])
def test_what_answers_without_torch(command):
    code = (
        "import contextlib, sys; from sngd.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({command!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
