"""The naive version of everything fast: dense matrices, nested autograd, plain numpy.

Nothing here knows Taylor channels, Faà di Bruno's formula or factors of the Jacobian. A network is a function
u(θ, x); a derivative is `torch.autograd.grad` of a derivative; a Jacobian is one reverse pass per row.

Letters
    P, N     parameters, rows
    J        (N, P) dense
    k        sketch rank
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sngd.composite import Composite, Constants
from sngd.general import GeneralNetwork
from sngd.networks import AnyNetwork
from sngd.residual import Collocation

Array = np.ndarray
# (components of u at x, x (n, d)) → components of the residual; written with `partial` alone
NaiveResidual = Callable[[list[Tensor], Tensor], list[Tensor]]

# from the definitions, in functions that autograd can differentiate any number of times
PLAIN_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sigmoid": torch.sigmoid,
    "neg": lambda z: -z,
    "reciprocal": lambda z: 1 / z,
    "square": lambda z: z * z,
    "softplus": lambda z: z.clamp_min(0) + torch.log1p(torch.exp(-_modulus(z))),
    "silu": lambda z: z * torch.sigmoid(z),
    "gelu": lambda z: z * 0.5 * torch.erfc(-z / 2**0.5),
    "atan": torch.atan,
    "cosh": lambda z: (torch.exp(z) + torch.exp(-z)) / 2,
    "erf": torch.erf,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "sinh": torch.sinh,
    "tan": lambda z: torch.sin(z) / torch.cos(z),
}


def _modulus(z: Tensor) -> Tensor:
    """|z| with slope 1 at 0, as clamp_min(0) has it there."""
    return torch.where(z < 0, -z, z)


def relative_error(got: Tensor | Array, want: Tensor | Array) -> float:
    """max |got − want| / max |want|; shapes must agree."""
    a, b = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    assert a.shape == b.shape, f"shapes differ: {a.shape} and {b.shape}"
    assert np.isfinite(a).all(), "not finite"
    top = np.abs(b).max(initial=0.0)
    return float(np.abs(a - b).max(initial=0.0) / (top if top > 0 else 1.0))


# ---------------------------------------------------------------------------------------------
# Fields and their derivatives
# ---------------------------------------------------------------------------------------------


Field = Callable[[Tensor, Tensor], Tensor]


def network_function(network: AnyNetwork) -> Field:
    """u(θ, x): θ (P,), x (n, d) → (n, outputs), by the definition of a dense network, or of several."""
    if isinstance(network, Composite):
        functions = [network_function(part) for part in network.parts]
        lengths = [part.parameters for part in network.parts]
        return lambda theta, x: torch.cat(
            [f(own, x) for f, own in zip(functions, theta.split(lengths), strict=True)], dim=1
        )
    if isinstance(network, Constants):
        return lambda theta, x: theta.expand(len(x), -1)
    if isinstance(network, GeneralNetwork):
        return _module_function(network)
    embedding, sizes = network.embedding, network.widths
    f = PLAIN_FUNCTIONS[network.activation]

    def u(theta: Tensor, x: Tensor) -> Tensor:
        phase = x @ embedding.waves
        affine, even = x @ embedding.scale + embedding.offset, (x - embedding.middle) @ embedding.even
        h = torch.cat([affine, torch.cos(phase), torch.sin(phase), torch.cos(even)], dim=1)
        position, weights = 0, []
        for i, o in pairwise(sizes):
            weights.append(theta[position : position + o * i].reshape(o, i))
            position += o * i
        for number, (weight, o) in enumerate(zip(weights, sizes[1:], strict=True)):
            h = h @ weight.T + theta[position : position + o]
            position += o
            if number < len(weights) - 1:
                h = f(h)
        assert position == len(theta)
        return h

    return u


def _layer_norm(x: Tensor, shape: tuple[int, ...], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """By its definition, over one axis."""
    assert len(shape) == 1
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean) ** 2).mean(-1, keepdim=True).add(eps).sqrt() * weight + bias


def _module_function(network: GeneralNetwork) -> Callable[[Tensor, Tensor], Tensor]:
    """u(θ, x) of a module: θ holds its matrices in order, then its other parameters."""
    embedding, module = network.embedding, network.module
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    order = [pair for pair in named if pair[1].ndim > 1] + [pair for pair in named if pair[1].ndim <= 1]

    def u(theta: Tensor, x: Tensor) -> Tensor:
        phase = x @ embedding.waves
        h = torch.cat([x @ embedding.scale + embedding.offset, torch.cos(phase), torch.sin(phase)], dim=1)
        position, tensors = 0, {}
        for name, p in order:
            tensors[name] = theta[position : position + p.numel()].reshape(p.shape)
            position += p.numel()
        assert position == len(theta)
        # fused attention has no second derivative, and that of fused layer norm none that is right
        with sdpa_kernel(SDPBackend.MATH), patch("torch.nn.functional.layer_norm", _layer_norm):
            return torch.func.functional_call(module, tensors, (h,))

    return u


def partial(values: Tensor, x: Tensor, *axes: int) -> Tensor:
    """∂^α values / ∂x^α for values (n,) whose entry i depends on x[i] alone, by nested autograd."""
    for axis in axes:
        if not values.requires_grad:
            return torch.zeros_like(values)
        (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=True, materialize_grads=True)
        values = gradient[:, axis]
    return values


# ---------------------------------------------------------------------------------------------
# Residuals and their Jacobian
# ---------------------------------------------------------------------------------------------


def residual(
    collocation: Collocation, naive: Sequence[NaiveResidual], theta: Tensor, u: Field | None = None
) -> Tensor:
    """The weighted residual vector (N,), rows where `collocation` has them, conditions scaled √(w_c/N_c).

    The field is u where it is given, otherwise that of a dense network.
    """
    u = network_function(collocation.network) if u is None else u
    rows = torch.zeros(collocation.row_count, dtype=theta.dtype)
    conditions = collocation.problem.conditions
    for number, (condition, function) in enumerate(zip(conditions, naive, strict=True)):
        x = collocation.points[number].clone().requires_grad_()
        if not len(x):
            continue
        parts = function(list(u(theta, x).unbind(1)), x)
        scale = (float(collocation.weights[number]) / condition.points) ** 0.5
        mine = torch.zeros(collocation.row_count, dtype=torch.bool)
        mine[collocation.condition_rows[number]] = True
        rows = rows.masked_scatter(mine, scale * torch.stack(parts, dim=1).flatten())
    return rows


def jacobian(
    collocation: Collocation, naive: Sequence[NaiveResidual], theta: Tensor, u: Field | None = None
) -> Tensor:
    """Dense J = ∂r/∂θ (N, P), one reverse pass per row."""
    theta = theta.clone().requires_grad_()
    r = residual(collocation, naive, theta, u)
    eye = torch.eye(len(r), dtype=r.dtype)
    (j,) = torch.autograd.grad(r, theta, grad_outputs=eye, is_grads_batched=True)
    return j


# ---------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------


def sketched_basis(j: Array, omega: Array) -> Array:
    """Q (P, k) = orth(JᵀJΩ)."""
    return np.linalg.qr(j.T @ (j @ omega))[0]


def sketched_step(j: Array, r: Array, omega: Array, damping: float) -> Array:
    """The damped step Q z(λ) (P,) in the sketched subspace, from a dense J."""
    q = sketched_basis(j, omega)
    u, s, vt = np.linalg.svd(j @ q, full_matrices=False)
    return q @ (vt.T @ (-s / (s**2 + damping) * (u.T @ r)))


def gauss_newton_step(j: Array, r: Array, damping: float) -> Array:
    """argmin_δ ‖Jδ + r‖² + λ‖δ‖² (P,), by least squares on the stacked [J; √λ I]."""
    stacked = np.vstack([j, np.sqrt(damping) * np.eye(j.shape[1])])
    target = np.concatenate([-r, np.zeros(j.shape[1])])
    return np.linalg.lstsq(stacked, target, rcond=None)[0]


def train(collocation: Collocation, naive: Sequence[NaiveResidual], steps: int) -> Tensor:
    """θ (P,) after some exact Levenberg–Marquardt steps from the initial parameters."""
    theta, damping = collocation.network.initial.clone(), 1e-2
    for _ in range(steps):
        j = jacobian(collocation, naive, theta).numpy()
        r = residual(collocation, naive, theta).detach().numpy()
        while True:
            trial = theta + torch.from_numpy(gauss_newton_step(j, r, damping))
            if float(residual(collocation, naive, trial).detach().square().sum()) < r @ r:
                theta, damping = trial, damping / 5
                break
            damping *= 10
    return theta


def momentum_step(j: Array, r: Array, damping: float, pull: Array) -> Array:
    """argmin_δ ‖Jδ + r‖² + λ‖δ − μφ‖² (P,), SPRING's step for pull = μφ."""
    return pull + gauss_newton_step(j, r + j @ pull, damping)
