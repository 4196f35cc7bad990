"""Sets the traps of tests/faults in every interpreter that has this folder in PYTHONPATH."""

import os

from tests.faults.traps import install

install(os.environ)
