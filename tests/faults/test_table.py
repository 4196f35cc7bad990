"""The table of docs/reliability.md has the rows that tests find, and no others."""

import re
from pathlib import Path

from tests.faults.reliability import Table


def test_every_row_has_its_test_and_every_test_its_row():
    texts = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
    tested = re.findall(r'table\.row\(\s*f?"([^"{]+)', texts)
    rows = [row.split(" | ")[0].removeprefix("| ") for row in Table(False).written()]
    assert len(set(rows)) == len(rows) > 10
    assert len(set(tested)) == len(tested) > 10
    assert not [row for row in rows if not any(row.startswith(name) for name in tested)]
    assert not [name for name in tested if not any(row.startswith(name) for row in rows)]
