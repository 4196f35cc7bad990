"""Decompositions of small replicated matrices: where one way fails, the next one is taken.

    svd      on a CPU: divide and conquer (gesdd), then QR iteration (gesvd) in float64
             on a GPU: Jacobi (gesvdj), QR iteration (gesvd), then both ways of a CPU in float64
    eigh     on a CPU: divide and conquer (syevd), then QR iteration (syev) in float64
             on a GPU: cuSOLVER's, then both ways of a CPU in float64

LAPACK raises where its iteration does not converge, cuSOLVER may also return NaN or factors of another matrix
in silence. A result counts if it is finite and gives back the product with one vector. Every rank walks the
same chain on the same matrix, and takes the same result.

Letters
    k        order of the matrix
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from sngd.allocation import is_out_of_memory

__all__ = ["NonFiniteMatrixError", "check_finite", "eigh", "svd"]

Factors = TypeVar("Factors", tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor])
Way = tuple[str, Callable[[Tensor], Any]]

# A factorisation may miss the product with a vector by so many roundings times k.
_ROUNDINGS = 1e3


class NonFiniteMatrixError(ValueError):
    """A matrix of a step is NaN or infinite; the same on every rank."""


def check_finite(x: Tensor, what: str) -> None:
    """Refuse what cannot be decomposed.

    Args:
        x: of any shape, the same on every rank.
        what: it is, for the message.

    Raises:
        NonFiniteMatrixError: an entry is NaN or infinite.
    """
    if not bool(torch.isfinite(x).all()):
        raise NonFiniteMatrixError(f"{what} is not finite: the residual's derivatives overflow")


def svd(x: Tensor, what: str, fallbacks: Counter[str]) -> tuple[Tensor, Tensor, Tensor]:
    """U, σ descending, Vᵀ of a square matrix, in its dtype.

    Args:
        x: (k, k), the same on every rank.
        what: it is, for messages.
        fallbacks: counts the way that served, if that was not the first.

    Raises:
        NonFiniteMatrixError: x is not finite.
        ValueError: every way has failed.
    """
    check_finite(x, what)
    return _first("svd", x, what, _svd_serves, fallbacks)


def eigh(x: Tensor, what: str, fallbacks: Counter[str]) -> tuple[Tensor, Tensor]:
    """Eigenvalues ascending and eigenvectors of a symmetric matrix, in its dtype.

    Args:
        x: (k, k), the same on every rank.
        what: it is, for messages.
        fallbacks: counts the way that served, if that was not the first.

    Raises:
        NonFiniteMatrixError: x is not finite.
        ValueError: every way has failed.
    """
    check_finite(x, what)
    return _first("eigh", x, what, _eigh_serves, fallbacks)


def _first(
    kind: str,
    x: Tensor,
    what: str,
    serves: Callable[[Tensor, Factors], bool],
    fallbacks: Counter[str],
) -> Factors:
    """Of the first way that serves."""
    ways = _WAYS[kind, x.device.type]
    for number, (name, way) in enumerate(ways):
        try:
            factors: Factors = way(x)
        except (RuntimeError, ValueError) as error:  # torch's LinAlgError, cuSOLVER's errors; scipy's
            if is_out_of_memory(error):
                raise
            continue
        if serves(x, factors):
            if number:
                fallbacks[f"{kind} by {name}"] += 1
            return factors
    tried = ", ".join(name for name, _ in ways)
    raise ValueError(
        f"the {_NAMES[kind]} of {what} ({len(x):,} × {len(x):,}, entries up to {float(x.abs().max()):.3g}) "
        f"has failed in every way: {tried}"
    )


def _svd_serves(x: Tensor, factors: tuple[Tensor, Tensor, Tensor]) -> bool:
    u, sigma, vt = factors
    probe = _probe(x)
    return _close(u @ (sigma * (vt @ probe)), x @ probe, sigma) and _close(
        vt.T @ (sigma * (u.T @ probe)), x.T @ probe, sigma
    )


def _eigh_serves(x: Tensor, factors: tuple[Tensor, Tensor]) -> bool:
    values, vectors = factors
    probe = _probe(x)
    return _close(vectors @ (values * (vectors.T @ probe)), x @ probe, values)


def _probe(x: Tensor) -> Tensor:
    """A vector (k,) that no factor is likely to be orthogonal to."""
    return torch.cos(torch.arange(1, len(x) + 1, dtype=x.dtype, device=x.device))


def _close(found: Tensor, wanted: Tensor, values: Tensor) -> bool:
    """Whether two products with the probe agree to rounding, given the spectrum; never where one is NaN."""
    info = torch.finfo(found.dtype)
    size = len(values)
    bound = _ROUNDINGS * size * info.eps * values.abs().max() + _ROUNDINGS * size * info.tiny * info.eps
    return bool((found - wanted).abs().max() <= bound) if size else True


def _on_cpu(way: Callable[[Any], Sequence[Any]]) -> Callable[[Tensor], Any]:
    """A way of CPU float64, its factors where x is."""

    def walk(x: Tensor) -> Any:
        return tuple(torch.as_tensor(factor).to(x) for factor in way(x.detach().cpu().double()))

    return walk


def _gesvd(x: Tensor) -> Sequence[Any]:
    from scipy.linalg import svd as factorize  # takes a while to load, and is hardly ever needed

    return tuple(factorize(x.numpy(), lapack_driver="gesvd", check_finite=False))


def _syev(x: Tensor) -> Sequence[Any]:
    from scipy.linalg import eigh as factorize

    return tuple(factorize(x.numpy(), driver="ev", check_finite=False))


_NAMES = {"svd": "singular value decomposition", "eigh": "eigenvalue decomposition"}
_WAYS: dict[tuple[str, str], tuple[Way, ...]] = {
    ("svd", "cpu"): (
        ("gesdd", lambda x: torch.linalg.svd(x)),
        ("gesvd", _on_cpu(_gesvd)),
    ),
    ("svd", "cuda"): (
        ("gesvdj", lambda x: torch.linalg.svd(x, driver="gesvdj")),
        ("gesvd", lambda x: torch.linalg.svd(x, driver="gesvd")),
        ("gesdd on the CPU", _on_cpu(lambda x: torch.linalg.svd(x))),
        ("gesvd on the CPU", _on_cpu(_gesvd)),
    ),
    ("eigh", "cpu"): (
        ("syevd", lambda x: torch.linalg.eigh(x)),
        ("syev", _on_cpu(_syev)),
    ),
    ("eigh", "cuda"): (
        ("cuSOLVER", lambda x: torch.linalg.eigh(x)),
        ("syevd on the CPU", _on_cpu(lambda x: torch.linalg.eigh(x))),
        ("syev on the CPU", _on_cpu(_syev)),
    ),
}
