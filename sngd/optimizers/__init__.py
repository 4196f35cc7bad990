"""Optimizers behind one interface: `config.start(objective, state, seed, rows)` gives a stepper.

`OPTIMIZERS` is the list of them by the names that a config (`optimizer="engd-w"`) and the command line
(`--optimizer engd-w`) may use; a new one is a line there.
"""

from __future__ import annotations

from sngd.optimizers.base import Optimizer, Report, Stepper
from sngd.optimizers.sngd import SNGD

__all__ = ["OPTIMIZERS", "SNGD", "AnyOptimizer", "Optimizer", "Report", "Stepper", "named"]

OPTIMIZERS: dict[str, type[AnyOptimizer]] = {
    "sngd": SNGD,
}
# what a run may hold, spelled out for the command line's parser
AnyOptimizer = SNGD


def named(name: str) -> AnyOptimizer:
    """The optimizer of a name, with its defaults.

    Raises:
        ValueError: no optimizer has that name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer={name!r} must be one of {', '.join(OPTIMIZERS)}, or e.g. SNGD(...)")
    return OPTIMIZERS[name]()
