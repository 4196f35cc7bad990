"""Optimizers behind one interface: `config.start(objective, theta, seed)` gives a stepper."""

from sngd.optimizers.base import Report, Stepper
from sngd.optimizers.sngd import SNGD

__all__ = ["SNGD", "Report", "Stepper"]
