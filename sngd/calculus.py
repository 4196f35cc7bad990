"""Derivatives of fields: partial ones, Laplacians, and vector calculus.

A vector is a tuple of fields, one component per axis. All results are fields again, so that they nest:
`divergence(tuple(k * g for g in gradient(u)))`.

Letters
    v        a vector (v_1, …, v_m) over m axes
    ν        outward unit normal of the boundary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from sngd.jet import Jet, add_up
from sngd.taylor import Channel, Laplacian

__all__ = [
    "advection",
    "biharmonic",
    "curl",
    "d",
    "divergence",
    "dot",
    "gradient",
    "laplacian",
    "normal_derivative",
]

Component = Jet | Tensor | float
Axes = Sequence[Any]


def _axis_index(axis: Any, dim: int) -> int:
    index = getattr(axis, "index", axis)
    if not isinstance(index, int) or not 0 <= index < dim:
        raise ValueError(
            f"axis {axis!r} does not exist: the domain has {dim} axes; take them from `X, Y = domain.axes`"
        )
    return index


def d(u: Jet, *axes: Any) -> Jet:
    """Partial derivative of a field, one axis per order: d(u, X) = u_x, d(u, X, X) = u_xx.

    Args:
        u: a scalar field.
        axes: axes of the domain (`X, T = domain.axes`), in any order.

    Returns:
        The derivative, itself a jet of values (n,).

    Raises:
        ValueError: no axis is given, an axis does not belong to the domain, or u is not a field.
    """
    if not isinstance(u, Jet):
        raise ValueError(
            f"d(u, axis) needs a field, got {type(u).__name__}; a system is unpacked first: "
            "`u, v = w`, and a tensor has no derivative"
        )
    if not axes:
        raise ValueError("d(u, axis, ...) needs at least one axis, got none")
    shift = tuple(_axis_index(axis, u.dim) for axis in axes)
    return Jet(lambda a: u.derivative(_along(a, shift)), u.dim, True)


def _along(channel: Channel, axes: tuple[int, ...]) -> Channel:
    """Further derivatives of a derivative."""
    if isinstance(channel, Laplacian):
        return replace(channel, along=tuple(sorted(channel.along + axes)))
    return tuple(sorted(channel + axes))


def laplacian(u: Jet, axes: Sequence[Any] | None = None) -> Jet:
    """Σ_i ∂²u/∂x_i² over the given axes (all axes of the domain when absent).

    A network output carries this sum as one collapsed channel, so it costs d + 2 channels instead
    of 2d + 1 (Dangel et al. 2025, collapsed Taylor mode, arXiv 2505.13644). Products, functions and
    derivatives of fields keep it collapsed; `d(laplacian(u), X)` and `laplacian(laplacian(u))` are one
    channel each, too.

    Raises:
        ValueError: an axis does not belong to the domain or appears twice, or u is not a field.
    """
    return _laplacian(u, axes, "laplacian")


def biharmonic(u: Jet, axes: Sequence[Any] | None = None) -> Jet:
    """Δ²u = Σ_ij ∂⁴u/∂x_i²∂x_j² over the given axes (all axes of the domain when absent).

    The same as laplacian(laplacian(u)). In two dimensions it costs 9 channels of a network: value, 2 first
    and 3 second derivatives, ∂_x Δu, ∂_y Δu, Δ²u. Its plain derivatives need 13.

    Raises:
        ValueError: an axis does not belong to the domain or appears twice, or u is not a field.
    """
    return _laplacian(_laplacian(u, axes, "biharmonic"), axes, "biharmonic")


def _laplacian(u: Jet, axes: Sequence[Any] | None, name: str) -> Jet:
    if not isinstance(u, Jet):
        raise ValueError(
            f"{name}(u) needs a field, got {type(u).__name__}; of a vector it is taken component by component"
        )
    chosen = tuple(range(u.dim)) if axes is None else tuple(_axis_index(a, u.dim) for a in axes)
    if len(set(chosen)) != len(chosen) or not chosen:
        raise ValueError(f"{name}(u, axes) needs distinct axes, got {axes!r}")
    chosen = tuple(sorted(chosen))

    def evaluate(channel: Channel) -> Tensor:
        if isinstance(channel, Laplacian) and channel.axes == chosen:
            return u.derivative(replace(channel, power=channel.power + 1))
        if isinstance(channel, Laplacian) or len(chosen) == 1:
            return add_up(u.derivative(_along(channel, (i, i))) for i in chosen)
        return u.derivative(Laplacian(chosen, 1, channel))

    return Jet(evaluate, u.dim, True)


def gradient(u: Jet, axes: Axes | None = None) -> tuple[Jet, ...]:
    """∇u = (∂u/∂x_1, …, ∂u/∂x_m) over the given axes (all axes of the domain when absent).

    Raises:
        ValueError: u is not a field, or an axis does not belong to the domain.
    """
    if not isinstance(u, Jet):
        raise ValueError(f"gradient(u) needs a field, got {type(u).__name__}; take it component by component")
    return tuple(d(u, axis) for axis in (range(u.dim) if axes is None else axes))


def divergence(vector: Sequence[Jet], axes: Axes | None = None) -> Jet:
    """∇·v = Σ_i ∂v_i/∂x_i.

    Args:
        vector: one field per axis.
        axes: of the components, in their order; all axes of the domain when absent.

    Raises:
        ValueError: there are not as many components as axes, or one of them is not a field.
    """
    vector, axes = _over_axes("divergence(vector, axes)", "vector", vector, axes)
    return _total([d(component, axis) for component, axis in zip(vector, axes, strict=True)])


def advection(velocity: Sequence[Component], u: Any, axes: Axes | None = None) -> Any:
    """v·∇u = Σ_i v_i ∂u/∂x_i, of a field or of each component of a vector.

    Args:
        velocity: one component per axis: fields, tensors (n,) or numbers.
        u: a field, or a tuple of fields.
        axes: of the velocity's components, in their order; all axes of the domain when absent.

    Returns:
        A field, or a tuple of fields.

    Raises:
        ValueError: there are not as many components as axes, or u is not a field.
    """
    if isinstance(u, (tuple, list)):
        return tuple(advection(velocity, component, axes) for component in u)
    if not isinstance(u, Jet):
        raise ValueError(
            f"advection(velocity, u) needs a field u or a tuple of fields, got {type(u).__name__}"
        )
    chosen = tuple(range(u.dim)) if axes is None else tuple(axes)
    _check_count("advection(velocity, u, axes)", "velocity", velocity, chosen)
    return dot(velocity, gradient(u, chosen))


def curl(vector: Sequence[Jet], axes: Axes | None = None) -> Any:
    """∇×v: in two dimensions ∂v_2/∂x_1 − ∂v_1/∂x_2, in three the vector of these over pairs of axes.

    Args:
        vector: two or three fields.
        axes: of the components, in their order; all axes of the domain when absent.

    Returns:
        A field in two dimensions, a tuple of three in three.

    Raises:
        ValueError: there are not as many components as axes, neither two nor three, or one is not a field.
    """
    vector, axes = _over_axes("curl(vector, axes)", "vector", vector, axes)
    if len(vector) == 2:
        (u, v), (x, y) = vector, axes
        return d(v, x) - d(u, y)
    if len(vector) == 3:
        (u, v, w), (x, y, z) = vector, axes
        return d(w, y) - d(v, z), d(u, z) - d(w, x), d(v, x) - d(u, y)
    raise ValueError(f"curl(vector, axes) needs two or three components, got {len(vector)}")


def dot(a: Sequence[Component], b: Sequence[Component]) -> Any:
    """a·b = Σ_i a_i b_i of fields, tensors (n,) or numbers.

    Raises:
        ValueError: the vectors have different numbers of components, or none.
    """
    for name, vector in (("a", a), ("b", b)):
        _check_vector("dot(a, b)", name, vector)
    if len(a) != len(b):
        raise ValueError(
            f"dot(a, b) needs as many components in both vectors, a has {len(a)}, b has {len(b)}"
        )
    return _total([left * right for left, right in zip(a, b, strict=True)])


def normal_derivative(u: Jet, p: Any) -> Jet:
    """∂u/∂ν = Σ_i ν_i ∂u/∂x_i on a boundary.

    Args:
        u: a field.
        p: the points, whose `p.normal` has a component per axis of the domain.

    Raises:
        ValueError: u is not a field, or the points lie on no boundary.
    """
    if not isinstance(u, Jet):
        raise ValueError(f"normal_derivative(u, p) needs a field, got {type(u).__name__}")
    return dot(tuple(p.normal), gradient(u))


def _total(terms: Sequence[Any]) -> Any:
    """Their sum, without the addition to 0 that Python's sum begins with."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _over_axes(
    call: str, name: str, vector: Any, axes: Axes | None
) -> tuple[tuple[Jet, ...], tuple[Any, ...]]:
    """A vector of fields and as many axes."""
    _check_vector(call, name, vector)
    for number, component in enumerate(vector):
        if not isinstance(component, Jet):
            raise ValueError(
                f"{call} needs fields, component {number} is a {type(component).__name__}, "
                "which has no derivative"
            )
    chosen = tuple(range(vector[0].dim)) if axes is None else tuple(axes)
    _check_count(call, name, vector, chosen)
    return tuple(vector), chosen


def _check_vector(call: str, name: str, vector: Any) -> None:
    if not isinstance(vector, (tuple, list)) or not vector:
        raise ValueError(
            f"{call} needs a tuple of components, {name} is {type(vector).__name__} {vector!r:.80}"
        )


def _check_count(call: str, name: str, vector: Any, axes: Sequence[Any]) -> None:
    _check_vector(call, name, vector)
    if len(vector) != len(axes):
        named = ", ".join(str(getattr(axis, "name", axis)) for axis in axes)
        raise ValueError(
            f"{call} needs one component per axis, {name} has {len(vector)} for {len(axes)} axes ({named}); "
            "name the axes that belong to the components"
        )
