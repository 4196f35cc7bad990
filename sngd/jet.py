"""Jets: a field together with its partial derivatives at collocation points.

A `Jet` is what a user's residual sees: a lazy field whose derivatives are asked for by `d(u, x, x)` or
`laplacian(u)`, closed under arithmetic (Leibniz) and pointwise functions (Faà di Bruno), so that
`d(k * d(u, x), x)` works. Collapsed sums of derivatives stay collapsed on the way: `laplacian(k * u)`
asks u for its Laplacian, not for every second derivative.

Letters
    n        points
    α, B     a derivative: sorted tuple of axis indices, () is the value, (0, 0) is ∂²/∂x₀²
"""

from __future__ import annotations

import functools
import math
import operator
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sngd.activations import ACTIVATIONS, KINKED, Derivatives, reciprocal_derivatives
from sngd.taylor import Channel, Laplacian, faa_di_bruno, leibniz, parts

__all__ = ["Jet", "biharmonic", "coordinate", "d", "field", "laplacian", "recorder"]


class Jet:
    """A scalar field at n points whose derivatives can be asked for.

    Arithmetic with jets, tensors of shape (n,) and numbers gives jets; `torch.sin(u)` and the other
    functions of `ACTIVATIONS` and `KINKED` too. Tensors are taken as constants in the coordinates: write
    coordinate dependence with `p[X]`, which is a jet. `torch.where(p[X] < 0, u, v)` is a piecewise field, its
    derivatives those of the pieces: a jump between them is not seen. Other torch functions are refused; they
    can have `u.value`.

    Args:
        evaluate: derivative α (sorted tuple of axis numbers) → tensor (n,).
        dim: number of coordinates.
        collapsed: whether `evaluate` takes `Laplacian` channels too; else they are summed up.
    """

    def __init__(self, evaluate: Callable[[Any], Tensor], dim: int, collapsed: bool = False) -> None:
        self._evaluate = evaluate
        self._collapsed = collapsed
        self.dim = dim
        self._memo: dict[Channel, Tensor] = {}

    def derivative(self, alpha: Channel) -> Tensor:
        """∂^α of the field at the points, (n,)."""
        if alpha not in self._memo:
            if isinstance(alpha, Laplacian) and not self._collapsed:
                self._memo[alpha] = _sum_of_parts(self.derivative, alpha)
            else:
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
        return Jet(lambda a: -self.derivative(a), self.dim, True)

    def __pos__(self) -> Jet:
        return self

    def __add__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(lambda a: self.derivative(a) + other.derivative(a), self.dim, True)
        if not _constant(other):
            return NotImplemented
        return Jet(lambda a: self.derivative(a) if a else self.value + other, self.dim, True)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(lambda a: self.derivative(a) - other.derivative(a), self.dim, True)
        return self + (-other) if _constant(other) else NotImplemented

    def __rsub__(self, other: Any) -> Jet:
        return (-self) + other

    def __mul__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(lambda a: _leibniz(self, other, a), self.dim, True)
        if not _constant(other):
            return NotImplemented
        return Jet(lambda a: self.derivative(a) * other, self.dim, True)

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
        if isinstance(power, Jet):
            return _compose(power * _compose(self, ACTIVATIONS["log"]), ACTIVATIONS["exp"])
        if isinstance(power, Tensor):
            return _compose(self, _powers(power))
        if not isinstance(power, (int, float)):
            return NotImplemented

        def derivatives(z: Tensor, order: int) -> list[Tensor]:
            # a whole power ends in zeros; 0 · z^{−1} would be NaN at z = 0
            factors = [math.prod(power - j for j in range(m)) for m in range(order + 1)]
            return [f * z ** (power - m) if f else 0.0 * z for m, f in enumerate(factors)]

        return _compose(self, derivatives)

    def __rpow__(self, base: Any) -> Jet:
        if not _constant(base):
            return NotImplemented
        logarithm = torch.log(base) if isinstance(base, Tensor) else math.log(base)
        return _compose(self * logarithm, ACTIVATIONS["exp"])

    def __abs__(self) -> Jet:
        return _compose(self, KINKED["abs"])

    def __lt__(self, other: Any) -> Tensor:
        return self.value < _value(other)

    def __le__(self, other: Any) -> Tensor:
        return self.value <= _value(other)

    def __gt__(self, other: Any) -> Tensor:
        return self.value > _value(other)

    def __ge__(self, other: Any) -> Tensor:
        return self.value >= _value(other)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return self.value == _value(other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return self.value != _value(other)

    __hash__ = object.__hash__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _OPERATORS and len(args) >= 2 and not kwargs:
            return _OPERATORS[name](args[0], args[1])
        plain = not any(kwargs.values())  # torch.nn.functional.silu(u) arrives with inplace=False
        if name in _FUNCTIONS and len(args) == 1 and plain and isinstance(args[0], Jet):
            return _compose(args[0], _FUNCTIONS[name])
        if name == "where" and len(args) == 3 and isinstance(args[0], Tensor):
            return _where(*args)
        if name in _CONSTANT:
            return func(*map(_value, args), **kwargs)
        raise TypeError(
            f"torch.{name} is not known on fields, only arithmetic, where and "
            f"{', '.join(sorted(_FUNCTIONS))}; apply it to u.value where its derivatives are not needed"
        )

    def __getattr__(self, name: str) -> Callable[[], Jet]:
        """u.tanh() and the like, which torch.nn.functional calls."""
        if name not in _FUNCTIONS:
            raise AttributeError(f"a field has no attribute {name!r}; u.value is its tensor of values")
        return lambda: _compose(self, _FUNCTIONS[name])


_FUNCTIONS = ACTIVATIONS | KINKED
# torch functions of fields whose result is constant in the coordinates
_CONSTANT = ("zeros_like", "ones_like", "full_like", "lt", "le", "gt", "ge", "eq", "ne")
# torch calls these by the names of the tensor method (reflected ones when a tensor stands on the left)
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b if isinstance(a, Jet) else b + a,
    "sub": lambda a, b: a - b if isinstance(a, Jet) else (-b) + a,
    "rsub": lambda a, b: b - a if isinstance(b, Jet) else (-a) + b,
    "mul": lambda a, b: a * b if isinstance(a, Jet) else b * a,
    "div": lambda a, b: a / b if isinstance(a, Jet) else b.__rtruediv__(a),
    "true_divide": lambda a, b: a / b if isinstance(a, Jet) else b.__rtruediv__(a),
    "pow": lambda a, b: a**b if isinstance(a, Jet) else b.__rpow__(a),
}
_OPERATORS |= {f"__{k}__": v for k, v in _OPERATORS.items()} | {
    "__radd__": _OPERATORS["add"],
    "__rsub__": _OPERATORS["rsub"],
    "__rmul__": _OPERATORS["mul"],
    "__truediv__": _OPERATORS["div"],
    "__rtruediv__": lambda a, b: b / a if isinstance(b, Jet) else a.__rtruediv__(b),
    "__rdiv__": lambda a, b: b / a if isinstance(b, Jet) else a.__rtruediv__(b),
    "__rpow__": lambda a, b: b**a if isinstance(b, Jet) else a.__rpow__(b),
}


def _constant(other: Any) -> bool:
    return isinstance(other, (int, float, Tensor))


def _value(other: Any) -> Any:
    return other.value if isinstance(other, Jet) else other


def _where(condition: Tensor, inside: Any, outside: Any) -> Jet:
    """The one field where the condition (n,) holds, the other elsewhere."""
    one, other = (f if isinstance(f, Jet) else None for f in (inside, outside))
    jet = one or other
    assert jet is not None

    def evaluate(alpha: Channel) -> Tensor:
        constants = (inside, outside) if not alpha else (0.0, 0.0)
        a, b = (c if f is None else f.derivative(alpha) for f, c in zip((one, other), constants, strict=True))
        return torch.where(condition, a, b)

    return Jet(evaluate, jet.dim, True)


def _powers(power: Tensor) -> Derivatives:
    """z^k with exponents k (n,), and its derivatives k (k − 1) … (k − m + 1) z^{k − m}."""

    def derivatives(z: Tensor, order: int) -> list[Tensor]:
        factor, found = torch.ones_like(z), []
        for m in range(order + 1):
            # a whole power ends in zeros; 0 · z^{−1} would be NaN at z = 0, and its gradient too
            base = torch.where((factor == 0) & (z == 0), torch.ones_like(z), z)
            found.append(factor * base ** (power - m))
            factor = factor * (power - m)
        return found

    return derivatives


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """Their sum, without the addition to 0 that Python's sum begins with."""
    return functools.reduce(operator.add, terms)


def _times(many: float, term: Tensor) -> Tensor:
    return term if many == 1 else many * term


def _sum_of_parts(derivative: Callable[[Channel], Tensor], channel: Laplacian) -> Tensor:
    """A collapsed derivative from the plain ones."""
    return _sum(_times(many, derivative(alpha)) for alpha, many in parts(channel).items())


def _leibniz(f: Jet, g: Jet, alpha: Channel) -> Tensor:
    """∂^α(fg) = Σ ∂^B f · ∂^{α∖B} g."""
    return _sum(
        _times(many, f.derivative(left) * g.derivative(right)) for many, left, right in leibniz(alpha)
    )


def _compose(inner: Jet, derivatives: Derivatives) -> Jet:
    """f∘u for a pointwise f given by its derivatives."""
    known: list[Tensor] = []

    def evaluate(alpha: Channel) -> Tensor:
        terms = faa_di_bruno(alpha)
        top = max(order for _, order, _ in terms)
        if top >= len(known):
            known[:] = derivatives(inner.value, top)
        return _sum(
            _times(many, functools.reduce(operator.mul, map(inner.derivative, blocks), known[order]))
            for many, order, blocks in terms
        )

    return Jet(evaluate, inner.dim, True)


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
            return _sum(u.derivative(_along(channel, (i, i))) for i in chosen)
        return u.derivative(Laplacian(chosen, 1, channel))

    return Jet(evaluate, u.dim, True)


def field(values: Tensor, channels: tuple[Channel, ...], component: int, dim: int) -> Jet:
    """The jet of one network output.

    Args:
        values: (C, n, m) channels of all outputs.
        channels: what each of the C channels is.
        component: which of the m outputs.
        dim: number of coordinates.
    """
    index = {channel: number for number, channel in enumerate(channels)}

    def evaluate(channel: Channel) -> Tensor:
        if isinstance(channel, Laplacian) and channel not in index:  # all of its parts are channels
            return _sum_of_parts(evaluate, channel)
        if channel not in index:
            raise ValueError(
                f"derivative {channel} was not asked for when the problem was built: which derivatives are "
                "asked for must not depend on values; write branches with torch.where"
            )
        return values[index[channel], :, component]

    return Jet(evaluate, dim, True)


def recorder(n: int, dim: int, log: set[Channel], dtype: torch.dtype, device: torch.device) -> Jet:
    """A jet of arbitrary values near 1 that notes in `log` which derivatives are asked of it.

    The values depend on channel and point alone: fewer points show the first ones of more.
    """
    points = torch.arange(n, dtype=dtype, device=device)

    def note(channel: Channel) -> Tensor:
        log.add(channel)
        return 1 + 0.5 * torch.sin(points * (1 + len(str(channel))) + zlib.crc32(str(channel).encode()))

    return Jet(note, dim, True)


def coordinate(values: Tensor, axis: int, dim: int) -> Jet:
    """The coordinate x_axis as a field: value (n,), first derivative 1 along its axis, else 0."""
    column = values[:, axis]

    def evaluate(alpha: Channel) -> Tensor:
        if not alpha:
            return column
        return torch.ones_like(column) if alpha == (axis,) else torch.zeros_like(column)

    return Jet(evaluate, dim, True)
