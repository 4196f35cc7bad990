"""Architectures beyond the plain multilayer perceptron, as bodies of `GraphNetwork`.

Each is a frozen config whose `build` gives the network of a domain. Where a paper's network has parameters of
another kind than matrices and biases (gates' shares, scales, centres), they are vectors that act elementwise.
"""

from sngd.architectures.products import Gabor, Separable
from sngd.architectures.residual import GatedMLP, PirateNet, ResidualMLP

__all__ = ["Gabor", "GatedMLP", "PirateNet", "ResidualMLP", "Separable"]
