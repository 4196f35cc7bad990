"""Optimizers behind one interface: `config.start(objective, state, seed, rows)` gives a stepper.

`OPTIMIZERS` is the list of them by the names that a config (`optimizer="engd-w"`) and the command line
(`--optimizer engd-w`) may use; a new one is a line there.
"""

from __future__ import annotations

from sngd.optimizers.auto import Auto
from sngd.optimizers.base import Optimizer, Report, Stepper
from sngd.optimizers.engd import ENGD
from sngd.optimizers.first_order import SOAP, Adam
from sngd.optimizers.kernel import ENGDW, SPRING
from sngd.optimizers.lbfgs import LBFGS
from sngd.optimizers.quasi_newton import SSBroyden
from sngd.optimizers.sngd import SNGD

__all__ = [
    "ENGD",
    "ENGDW",
    "LBFGS",
    "OPTIMIZERS",
    "SNGD",
    "SOAP",
    "SPRING",
    "Adam",
    "AnyOptimizer",
    "Auto",
    "Optimizer",
    "Report",
    "SSBroyden",
    "Stepper",
    "named",
]

OPTIMIZERS: dict[str, type[AnyOptimizer]] = {
    "auto": Auto,
    "sngd": SNGD,
    "engd": ENGD,
    "engd-w": ENGDW,
    "spring": SPRING,
    "adam": Adam,
    "lbfgs": LBFGS,
    "soap": SOAP,
    "ssbroyden": SSBroyden,
}
# what a run may hold, spelled out for the command line's parser
AnyOptimizer = SNGD | Auto | ENGD | ENGDW | SPRING | Adam | LBFGS | SOAP | SSBroyden


def named(name: str) -> AnyOptimizer:
    """The optimizer of a name, with its defaults.

    Raises:
        ValueError: no optimizer has that name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer={name!r} must be one of {', '.join(OPTIMIZERS)}, or e.g. SNGD(...)")
    return OPTIMIZERS[name]()
