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
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from sngd.activations import ACTIVATIONS, KINKED, Derivatives, reciprocal_derivatives
from sngd.taylor import Channel, Laplacian, faa_di_bruno, leibniz, parts

__all__ = ["Jet", "add_up", "sum_of_parts"]


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
                self._memo[alpha] = sum_of_parts(self.derivative, alpha)
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


def add_up(terms: Iterable[Tensor]) -> Tensor:
    """Their sum, of their shape, without the addition to 0 that Python's sum begins with."""
    return functools.reduce(operator.add, terms)


def _times(many: float, term: Tensor) -> Tensor:
    return term if many == 1 else many * term


def sum_of_parts(derivative: Callable[[Channel], Tensor], channel: Laplacian) -> Tensor:
    """A collapsed derivative (n,) from the plain ones."""
    return add_up(_times(many, derivative(alpha)) for alpha, many in parts(channel).items())


def _leibniz(f: Jet, g: Jet, alpha: Channel) -> Tensor:
    """∂^α(fg) = Σ ∂^B f · ∂^{α∖B} g."""
    return add_up(
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
        return add_up(
            _times(many, functools.reduce(operator.mul, map(inner.derivative, blocks), known[order]))
            for many, order, blocks in terms
        )

    return Jet(evaluate, inner.dim, True)
