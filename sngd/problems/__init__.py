"""Equations with known solutions, one file each; every function returns a `Problem`."""

from sngd.problems.burgers import burgers
from sngd.problems.heat import heat
from sngd.problems.nonlinear import nonlinear
from sngd.problems.poisson import poisson2d
from sngd.problems.transport import transport

__all__ = ["burgers", "heat", "nonlinear", "poisson2d", "transport"]
