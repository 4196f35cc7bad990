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
    train         the loop
"""

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
from sngd.train import Trained, train
from sngd.version import version

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

__version__ = version()
