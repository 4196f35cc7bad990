"""Equations whose solutions are known, in closed form or as stored references, one file for each equation.

Every function returns a `Problem`.
"""

from sngd.problems.allen_cahn import allen_cahn
from sngd.problems.beam import beam, vibrating_beam
from sngd.problems.burgers import burgers
from sngd.problems.cavity import cavity
from sngd.problems.elasticity import elasticity
from sngd.problems.fokker_planck import log_fokker_planck
from sngd.problems.gray_scott import gray_scott
from sngd.problems.heat import heat, heat4d
from sngd.problems.helmholtz import helmholtz
from sngd.problems.inverse import inverse_conductivity, inverse_diffusion, inverse_navier_stokes
from sngd.problems.kdv import kdv
from sngd.problems.kuramoto_sivashinsky import kuramoto_sivashinsky
from sngd.problems.nonlinear import nonlinear
from sngd.problems.poisson import poisson2d, poisson5d, poisson10d, poisson100d
from sngd.problems.schroedinger import schroedinger
from sngd.problems.taylor_green import taylor_green
from sngd.problems.transport import transport
from sngd.problems.wave import wave

__all__ = [
    "allen_cahn",
    "beam",
    "burgers",
    "cavity",
    "elasticity",
    "gray_scott",
    "heat",
    "heat4d",
    "helmholtz",
    "inverse_conductivity",
    "inverse_diffusion",
    "inverse_navier_stokes",
    "kdv",
    "kuramoto_sivashinsky",
    "log_fokker_planck",
    "nonlinear",
    "poisson2d",
    "poisson5d",
    "poisson10d",
    "poisson100d",
    "schroedinger",
    "taylor_green",
    "transport",
    "vibrating_beam",
    "wave",
]
