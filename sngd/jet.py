"""Jets: a field together with its partial derivatives at collocation points.

A `Jet` is what a user's residual sees: a lazy field whose derivatives are asked for by `d(u, x, x)` or
`laplacian(u)`, closed under arithmetic (Leibniz) and pointwise functions (Faà di Bruno), so that
`d(k * d(u, x), x)` works.

Letters
    n        points
    α, B     a derivative: sorted tuple of axis indices, () is the value, (0, 0) is ∂²/∂x₀²
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sngd.activations import ACTIVATIONS, reciprocal_derivatives
from sngd.taylor import Alpha, Channel, Laplacian, faa_di_bruno

__all__ = ["Jet", "coordinate", "d", "field", "laplacian", "recorder"]


class Jet:
    """A scalar field at n points whose derivatives can be asked for.

    Arithmetic with jets, tensors of shape (n,) and numbers gives jets; `torch.sin(u)` and the other
    functions of `ACTIVATIONS` too. Tensors are taken as constants in the coordinates: write coordinate
    dependence with `p[X]`, which is a jet. Any other torch function receives `u.value`.

    Args:
        evaluate: derivative α (sorted tuple of axis numbers) → tensor (n,).
        dim: number of coordinates.
        laplace: axes → Σ ∂²/∂x_i², when the field carries the collapsed channel.
    """

    def __init__(
        self,
        evaluate: Callable[[Alpha], Tensor],
        dim: int,
        laplace: Callable[[tuple[int, ...]], Tensor] | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._laplace = laplace
        self.dim = dim
        self._memo: dict[Alpha, Tensor] = {}

    def derivative(self, alpha: Alpha) -> Tensor:
        """∂^α of the field at the points, (n,)."""
        if alpha not in self._memo:
            self._memo[alpha] = self._evaluate(alpha)
        return self._memo[alpha]

    @property
    def value(self) -> Tensor:
        """The field at the points, (n,)."""
        return self.derivative(())

    def __iter__(self) -> Iterator[Jet]:
        raise TypeError(
            "this field has one component and cannot be unpacked; declare the components with "
            "Problem(..., fields=('u', 'v'))"
        )

    def __neg__(self) -> Jet:
        return Jet(lambda a: -self.derivative(a), self.dim)

    def __pos__(self) -> Jet:
        return self

    def __add__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(lambda a: self.derivative(a) + other.derivative(a), self.dim)
        if not _constant(other):
            return NotImplemented
        return Jet(lambda a: self.derivative(a) if a else self.value + other, self.dim)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(lambda a: self.derivative(a) - other.derivative(a), self.dim)
        return self + (-other) if _constant(other) else NotImplemented

    def __rsub__(self, other: Any) -> Jet:
        return (-self) + other

    def __mul__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(lambda a: _leibniz(self, other, a), self.dim)
        if not _constant(other):
            return NotImplemented
        return Jet(lambda a: self.derivative(a) * other, self.dim)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return self * _compose(other, reciprocal_derivatives)
        return self * (1.0 / other) if _constant(other) else NotImplemented

    def __rtruediv__(self, other: Any) -> Jet:
        return _compose(self, reciprocal_derivatives) * other

    def __pow__(self, power: Any) -> Jet:
        if isinstance(power, int) and 0 <= power <= 4:
            result: Any = 1.0 + 0.0 * self if power == 0 else self
            for _ in range(power - 1):
                result = result * self
            return result
        if not isinstance(power, (int, float)):
            return NotImplemented

        def derivatives(z: Tensor, order: int) -> list[Tensor]:
            # a whole power ends in zeros; 0 · z^{−1} would be NaN at z = 0
            factors = [math.prod(power - j for j in range(m)) for m in range(order + 1)]
            return [f * z ** (power - m) if f else 0.0 * z for m, f in enumerate(factors)]

        return _compose(self, derivatives)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _OPERATORS and len(args) >= 2 and not kwargs:
            return _OPERATORS[name](args[0], args[1])
        plain = not any(kwargs.values())  # torch.nn.functional.silu(u) arrives with inplace=False
        if name in ACTIVATIONS and len(args) == 1 and plain and isinstance(args[0], Jet):
            return _compose(args[0], ACTIVATIONS[name])
        if name in _CONSTANT:
            return func(*(a.value if isinstance(a, Jet) else a for a in args), **kwargs)
        raise TypeError(
            f"torch.{name} is not known on fields, only arithmetic and {', '.join(sorted(ACTIVATIONS))}; "
            "apply it to u.value where its derivatives are not needed"
        )

    def __getattr__(self, name: str) -> Callable[[], Jet]:
        """u.tanh() and the like, which torch.nn.functional calls."""
        if name not in ACTIVATIONS:
            raise AttributeError(f"a field has no attribute {name!r}; u.value is its tensor of values")
        return lambda: _compose(self, ACTIVATIONS[name])


# torch functions of a field whose result is constant in the coordinates
_CONSTANT = ("zeros_like", "ones_like", "full_like")
# torch calls these by the names of the tensor method (reflected ones when a tensor stands on the left)
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b if isinstance(a, Jet) else b + a,
    "sub": lambda a, b: a - b if isinstance(a, Jet) else (-b) + a,
    "rsub": lambda a, b: b - a if isinstance(b, Jet) else (-a) + b,
    "mul": lambda a, b: a * b if isinstance(a, Jet) else b * a,
    "div": lambda a, b: a / b if isinstance(a, Jet) else b.__rtruediv__(a),
    "true_divide": lambda a, b: a / b if isinstance(a, Jet) else b.__rtruediv__(a),
    "pow": lambda a, b: a**b if isinstance(a, Jet) else torch.pow(a, b.value),
}
_OPERATORS |= {f"__{k}__": v for k, v in _OPERATORS.items()} | {
    "__radd__": _OPERATORS["add"],
    "__rsub__": _OPERATORS["rsub"],
    "__rmul__": _OPERATORS["mul"],
    "__truediv__": _OPERATORS["div"],
    "__rtruediv__": lambda a, b: b / a if isinstance(b, Jet) else a.__rtruediv__(b),
    "__rdiv__": lambda a, b: b / a if isinstance(b, Jet) else a.__rtruediv__(b),
}


def _constant(other: Any) -> bool:
    return isinstance(other, (int, float, Tensor))


def _leibniz(f: Jet, g: Jet, alpha: Alpha) -> Tensor:
    """∂^α(fg) = Σ_{B⊆α} ∂^B f · ∂^{α∖B} g, subsets of positions."""
    total: Tensor | None = None
    positions = range(len(alpha))
    for mask in range(1 << len(alpha)):
        left = tuple(alpha[i] for i in positions if mask >> i & 1)
        right = tuple(alpha[i] for i in positions if not mask >> i & 1)
        term = f.derivative(left) * g.derivative(right)
        total = term if total is None else total + term
    assert total is not None
    return total


def _compose(inner: Jet, derivatives: Callable[[Tensor, int], list[Tensor]]) -> Jet:
    """f∘u for a pointwise f given by its derivatives."""

    def evaluate(alpha: Alpha) -> Tensor:
        f = derivatives(inner.value, len(alpha))
        if not alpha:
            return f[0]
        total: Tensor | None = None
        for many, order, blocks in faa_di_bruno(alpha):
            term = f[order] * float(many)
            for block in blocks:
                term = term * inner.derivative(block)
            total = term if total is None else total + term
        assert total is not None
        return total

    return Jet(evaluate, inner.dim)


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
    return Jet(lambda a: u.derivative(tuple(sorted(shift + a))), u.dim)


def laplacian(u: Jet, axes: Sequence[Any] | None = None) -> Jet:
    """Σ_i ∂²u/∂x_i² over the given axes (all axes of the domain when absent).

    A network output carries this sum as one collapsed channel, so it costs d + 2 channels instead
    of 2d + 1 (Dangel et al. 2025, collapsed Taylor mode, arXiv 2505.13644).

    Raises:
        ValueError: an axis does not belong to the domain or appears twice, or u is not a field.
    """
    if not isinstance(u, Jet):
        raise ValueError(f"laplacian(u) needs a field, got {type(u).__name__}")
    chosen = tuple(range(u.dim)) if axes is None else tuple(_axis_index(a, u.dim) for a in axes)
    if len(set(chosen)) != len(chosen) or not chosen:
        raise ValueError(f"laplacian(u, axes) needs distinct axes, got {axes!r}")
    chosen = tuple(sorted(chosen))

    def evaluate(alpha: Alpha) -> Tensor:
        if not alpha and len(chosen) > 1 and u._laplace is not None:
            return u._laplace(chosen)
        parts = [u.derivative(tuple(sorted((i, i, *alpha)))) for i in chosen]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    return Jet(evaluate, u.dim)


def field(values: Tensor, channels: tuple[Channel, ...], component: int, dim: int) -> Jet:
    """The jet of one network output.

    Args:
        values: (C, n, m) channels of all outputs.
        channels: what each of the C channels is.
        component: which of the m outputs.
        dim: number of coordinates.
    """
    index = {channel: number for number, channel in enumerate(channels)}
    return Jet(
        lambda a: values[index[a], :, component],
        dim,
        lambda axes: values[index[Laplacian(axes)], :, component],
    )


def recorder(n: int, dim: int, log: set[Channel], dtype: torch.dtype, device: torch.device) -> Jet:
    """A jet of arbitrary values near 1 that notes in `log` which derivatives are asked of it.

    The values depend on channel and point alone: fewer points show the first ones of more.
    """
    points = torch.arange(n, dtype=dtype, device=device)

    def note(channel: Channel) -> Tensor:
        log.add(channel)
        return 1 + 0.5 * torch.sin(points * (1 + len(str(channel))) + zlib.crc32(str(channel).encode()))

    return Jet(note, dim, lambda axes: note(Laplacian(axes)))


def coordinate(values: Tensor, axis: int, dim: int) -> Jet:
    """The coordinate x_axis as a field: value (n,), first derivative 1 along its axis, else 0."""
    column = values[:, axis]

    def evaluate(alpha: Alpha) -> Tensor:
        if not alpha:
            return column
        return torch.ones_like(column) if alpha == (axis,) else torch.zeros_like(column)

    return Jet(evaluate, dim)
