"""Equations with known solutions, one file for each equation; every function returns a `Problem`."""

from sngd.problems.burgers import burgers
from sngd.problems.fokker_planck import log_fokker_planck
from sngd.problems.heat import heat, heat4d
from sngd.problems.helmholtz import helmholtz
from sngd.problems.nonlinear import nonlinear
from sngd.problems.poisson import poisson2d, poisson5d, poisson10d, poisson100d
from sngd.problems.transport import transport
from sngd.problems.wave import wave

__all__ = [
    "burgers",
    "heat",
    "heat4d",
    "helmholtz",
    "log_fokker_planck",
    "nonlinear",
    "poisson2d",
    "poisson5d",
    "poisson10d",
    "poisson100d",
    "transport",
    "wave",
]
