"""Sketched natural gradient descent: physics-informed networks to solver-grade accuracy, on many GPUs.

One training step is one walk through the package:

    sampling      keyed points of the unit cube
    geometry      balls, polygons, meshes; unions, intersections, differences; regions of them
    data          measured values and point clouds
    domain        collocation points, keyed by (seed, epoch, condition, global index)
    problem       what a user writes: conditions on regions
    taylor        Taylor channels through a pointwise function
    jet           a field and its derivatives at points; d(u, x), laplacian(u)
    calculus      gradient, divergence, curl of fields
    embedding     features of the coordinates: periodic, even, Fourier
    layers        what every network is to the rest
    channels      layers, pointwise functions and products on Taylor channels, for autograd
    graph         networks composed of them, with exact factors
    architectures PirateNet, Gabor, Separable and others, as such graphs
    networks      the multilayer perceptron, whose reverse pass is written out
    general       any torch module by forward and reverse mode; modules, which path it takes
    composite     several networks, and unknown coefficients, as one
    residual      conditions on this rank's points → weighted residual r (#n,)
    factors       factors of the rows of J; rows formed in tiles
    jacobian      products with J: J V, Jᵀ W
    memory        what a rank holds, how a step is arranged to fit
    objective     the loss over ranks; balancing
    sketch        test matrix, stable range finder
    basis         orthonormal basis Q, replicated or sharded; landmarks
    product       A = J Q, stored or recomputed
    gram          kernel J Jᵀ and Gramian Jᵀ J of the rivals
    collectives   sums over ranks
    core          QR over ranks, SVD of the k×k triangle, damped solutions
    trust         damping judged after chord corrections; adaptive rank
    optimizers    the step
    adaptive      points that move to where the residual is large
    causal        weights in time
    curriculum    a known coefficient that changes on the way
    marching      time in slabs, one network after another
    piecewise     their networks as one
    stages        a run as one stage, or one for each slab
    schedule      all that changes on the way beside θ
    loop          a step, its record, what is kept, when to stop; training, from first to last
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sngd.adaptive import R3, RAD
    from sngd.architectures import Gabor, GatedMLP, PirateNet, ResidualMLP, Separable
    from sngd.calculus import (
        advection,
        biharmonic,
        curl,
        d,
        divergence,
        dot,
        gradient,
        laplacian,
        normal_derivative,
    )
    from sngd.causal import Causal
    from sngd.coefficient import Coefficient
    from sngd.condition import Condition
    from sngd.config import RunConfig
    from sngd.conserved import Conserved
    from sngd.curriculum import Curriculum
    from sngd.data import Data, PointCloud
    from sngd.domain import Axis, Box, Region
    from sngd.geometry import Ball, Mesh, Polygon
    from sngd.jet import Jet
    from sngd.marching import Marching
    from sngd.modules import Module
    from sngd.networks import MLP, SIREN
    from sngd.optimizers import ENGD, ENGDW, LBFGS, SNGD, SOAP, SPRING, Adam, Auto, SSBroyden
    from sngd.points import Points
    from sngd.problem import Problem
    from sngd.stability import Stability
    from sngd.tracking.config import Tracking
    from sngd.training import Trained, train

    __version__: str

__all__ = [
    "ENGD",
    "ENGDW",
    "LBFGS",
    "MLP",
    "R3",
    "RAD",
    "SIREN",
    "SNGD",
    "SOAP",
    "SPRING",
    "Adam",
    "Auto",
    "Axis",
    "Ball",
    "Box",
    "Causal",
    "Coefficient",
    "Condition",
    "Conserved",
    "Curriculum",
    "Data",
    "Gabor",
    "GatedMLP",
    "Jet",
    "Marching",
    "Mesh",
    "Module",
    "PirateNet",
    "PointCloud",
    "Points",
    "Polygon",
    "Problem",
    "Region",
    "ResidualMLP",
    "RunConfig",
    "SSBroyden",
    "Separable",
    "Stability",
    "Tracking",
    "Trained",
    "advection",
    "biharmonic",
    "curl",
    "d",
    "divergence",
    "dot",
    "gradient",
    "laplacian",
    "normal_derivative",
    "train",
]


# Where the names are. They are fetched when they are first asked for: torch takes seconds to load, and
# `sngd status`, `sngd --help` or the completion of a shell need none of it.
_HOMES = {
    "Adam": "sngd.optimizers",
    "Auto": "sngd.optimizers",
    "Axis": "sngd.domain",
    "Ball": "sngd.geometry",
    "Box": "sngd.domain",
    "Causal": "sngd.causal",
    "Coefficient": "sngd.coefficient",
    "Condition": "sngd.condition",
    "Conserved": "sngd.conserved",
    "Curriculum": "sngd.curriculum",
    "Data": "sngd.data",
    "ENGD": "sngd.optimizers",
    "ENGDW": "sngd.optimizers",
    "Gabor": "sngd.architectures",
    "GatedMLP": "sngd.architectures",
    "Jet": "sngd.jet",
    "LBFGS": "sngd.optimizers",
    "MLP": "sngd.networks",
    "Marching": "sngd.marching",
    "Mesh": "sngd.geometry",
    "Module": "sngd.modules",
    "PirateNet": "sngd.architectures",
    "PointCloud": "sngd.data",
    "Points": "sngd.points",
    "Polygon": "sngd.geometry",
    "Problem": "sngd.problem",
    "R3": "sngd.adaptive",
    "RAD": "sngd.adaptive",
    "Region": "sngd.domain",
    "ResidualMLP": "sngd.architectures",
    "RunConfig": "sngd.config",
    "SIREN": "sngd.networks",
    "SNGD": "sngd.optimizers",
    "SOAP": "sngd.optimizers",
    "SPRING": "sngd.optimizers",
    "SSBroyden": "sngd.optimizers",
    "Separable": "sngd.architectures",
    "Stability": "sngd.stability",
    "Tracking": "sngd.tracking.config",
    "Trained": "sngd.training",
    "advection": "sngd.calculus",
    "biharmonic": "sngd.calculus",
    "curl": "sngd.calculus",
    "d": "sngd.calculus",
    "divergence": "sngd.calculus",
    "dot": "sngd.calculus",
    "gradient": "sngd.calculus",
    "laplacian": "sngd.calculus",
    "normal_derivative": "sngd.calculus",
    "train": "sngd.training",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from sngd.version import version

        return version()
    if name not in _HOMES:
        raise AttributeError(f"module 'sngd' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
