"""What a user writes: conditions on regions of a domain, and what is known of the solution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sngd.checks import failure, finite, require, told
from sngd.coefficient import Coefficient
from sngd.condition import Condition, Signature, evaluate_residual, stack
from sngd.conserved import Conserved
from sngd.device_errors import is_machine_failure
from sngd.geometry.regions import Region
from sngd.geometry.shape import Shape
from sngd.jet import Jet
from sngd.leaves import recorder
from sngd.points import NoNormalsError, Points
from sngd.stability import Stability, fitting
from sngd.taylor import Channel, close

__all__ = ["Problem"]

# Points on which a residual is tried when its problem is built.
_PROBES = 3


class Problem:
    """A differential equation with its conditions on a domain.

    Args:
        domain: a `Box` or another geometry.
        conditions: one or more `Condition`.
        fields: names of the unknown fields; one name gives a scalar problem, several a system whose residuals
            unpack them: `u, v = w`.
        outputs: names of the network's outputs, where an ansatz makes the fields of others; the fields when
            absent.
        ansatz: (N, p) → the fields, from the network's outputs N (a `Jet`; a tuple of them for several): hard
            constraints u = g + φ N, symmetries, or a stream function, u = d(ψ, Y), v = −d(ψ, X).
        coefficients: by name, what residuals read as p["name"]: a `Coefficient` is unknown and trained along;
            a number is known, and may be changed on the way (`RunConfig.curriculum`).
        solution: p → the solution (a tuple for a system), exact or an interpolated reference; when
            given, runs report relative errors against it. It is called on `Points`.
        conserved: integrals over space that should not change in time, which `sngd eval` checks.
        stability: constants that bound the error by residuals; runs then end with an estimate of it.
        name: how logs and pictures call the problem.

    Raises:
        ValueError: no conditions or other things than conditions, no names or names that repeat, a region of
            another box, a residual whose output is not one number per point, or constants of stability that
            are not those of the conditions.
    """

    def __init__(
        self,
        domain: Shape,
        conditions: Sequence[Condition],
        *,
        fields: Sequence[str] = ("u",),
        outputs: Sequence[str] | None = None,
        ansatz: Callable[[Any, Points], Any] | None = None,
        coefficients: Mapping[str, Coefficient | float] | None = None,
        solution: Callable[[Points], Any] | None = None,
        conserved: Sequence[Conserved] = (),
        stability: Stability | None = None,
        name: str = "problem",
    ) -> None:
        self.domain, self.name = domain, name
        self.conditions = _listed("conditions", conditions, Condition)
        self.fields = _names("fields", fields)
        self.solution, self.conserved = solution, _listed("conserved", conserved, Conserved)
        if not self.conditions:
            raise ValueError("Problem: conditions is empty; give at least one Condition")
        names = [c.name for c in self.conditions]
        self.outputs = self.fields if outputs is None else _names("outputs", outputs)
        self.ansatz, self.coefficients = ansatz, {} if coefficients is None else coefficients
        self._check()
        self.coefficients = dict(self.coefficients)
        if self.outputs != self.fields and ansatz is None:
            raise ValueError(
                f"Problem: outputs={self.outputs} differ from fields={self.fields}, which then need an "
                "ansatz that makes them of the outputs"
            )
        groups = (
            *(("condition", names), ("field", list(self.fields)), ("output", list(self.outputs))),
            ("conserved", [c.name for c in self.conserved]),
        )
        for kind, group in groups:
            repeated = sorted({n for n in group if group.count(n) > 1})
            if repeated:
                raise ValueError(f"Problem: {kind} names must differ, {repeated} appear more than once")
        for kind, empty in (("fields", not self.fields), ("outputs", not self.outputs)):
            if empty:
                raise ValueError(f'Problem: {kind} is empty; name at least one, e.g. {kind}=("u",)')
        for c in self.conditions:
            if c.region.domain is not domain:
                raise ValueError(
                    f"Condition({c.name!r}): its region belongs to {c.region.domain!r}, not to the problem's "
                    f"domain {domain!r}"
                )
        self.conditions = tuple(self._with_normals(c) for c in self.conditions)
        self.stability = fitting(stability, self.conditions)
        self.signatures = tuple(self._record(c) for c in self.conditions)
        self.value_channels = self._record_fields()

    @property
    def points(self) -> int:
        """Collocation points of all conditions over all ranks."""
        return sum(c.points for c in self.conditions)

    @property
    def rows(self) -> int:
        """N, residual rows of all conditions over all ranks: points × components."""
        return sum(c.points * s.components for c, s in zip(self.conditions, self.signatures, strict=True))

    @property
    def unknowns(self) -> dict[str, Coefficient]:
        """The coefficients that are trained along."""
        return {name: c for name, c in self.coefficients.items() if isinstance(c, Coefficient)}

    @property
    def known(self) -> dict[str, float]:
        """The coefficients that are not."""
        return {name: c for name, c in self.coefficients.items() if not isinstance(c, Coefficient)}

    def _check(self) -> None:
        """Refuse arguments of other kinds."""
        name, callables = self.name, {"ansatz": self.ansatz, "solution": self.solution}
        checks = [
            ("domain", isinstance(self.domain, Shape), "a Box or another shape"),
            (
                "name",
                isinstance(name, str) and bool(name.strip()) and not {"/", "\0"} & set(name),
                "text without /, of which run folders are named",
            ),
            *((what, one is None or callable(one), "a function or None") for what, one in callables.items()),
            (
                "coefficients",
                isinstance(self.coefficients, Mapping),
                "a dict of numbers or Coefficient(...)",
            ),
        ]
        require(self, checks, "Problem: ")
        for name, value in self.coefficients.items():
            if not (isinstance(name, str) and name):
                raise ValueError(f"Problem: coefficients has the name {told(name)}, which must be text")
            if not (finite(value) or isinstance(value, Coefficient)):
                raise ValueError(
                    f"Problem: coefficients[{name!r}]={told(value)} must be a finite number, or "
                    "Coefficient(...) for one that is unknown"
                )

    def coefficients_at(self, raw: Tensor, known: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        """Values of all coefficients by name.

        Args:
            raw: (n, unknowns) parameters that the unknown ones are functions of.
            known: values of the others, where they differ from the declared ones.

        Returns:
            (n,) each.
        """
        values, column = {}, 0
        for name, coefficient in self.coefficients.items():
            if isinstance(coefficient, Coefficient):
                values[name], column = coefficient.value(raw[:, column]), column + 1
            else:
                values[name] = raw.new_full((len(raw),), (known or {}).get(name, coefficient))
        return values

    def assemble(self, outputs: Sequence[Jet], p: Points) -> Any:
        """The fields as residuals take them, a jet or a tuple of jets, from the network's outputs.

        Raises:
            ValueError: the ansatz fails, or does not return one jet per field.
        """
        u: Any = outputs[0] if len(outputs) == 1 else tuple(outputs)
        if self.ansatz is None:
            return u
        try:
            u = self.ansatz(u, p)
        except NoNormalsError:
            raise
        except Exception as error:
            if is_machine_failure(error):
                raise
            raise ValueError(f"ansatz failed{failure(error)}") from error
        jets = tuple(u) if isinstance(u, (tuple, list)) else (u,)
        if len(jets) != len(self.fields) or not all(isinstance(jet, Jet) for jet in jets):
            kinds = ", ".join(type(jet).__name__ for jet in jets)
            raise ValueError(
                f"ansatz must return one field (Jet) for each of {self.fields}, it returned {kinds}"
            )
        return jets[0] if len(jets) == 1 else jets

    def _probe(self, region: Region, n: int, log: set[Channel]) -> tuple[list[Jet], Points]:
        """Recording outputs at the first points of a region."""
        probe = region.sample(0, n, (0, 0, 0))
        raw = probe.new_tensor([c.start for c in self.unknowns.values()]).expand(n, -1)
        jets = [recorder(n, self.domain.dim, log, probe.dtype, probe.device) for _ in self.outputs]
        return jets, Points(probe, region.columns, self.coefficients_at(raw))

    def _with_normals(self, condition: Condition) -> Condition:
        """The condition on points that have normals, where its residual asks for them."""
        jets, p = self._probe(condition.region, 1, set())
        try:
            condition.residual(self.assemble(jets, p), p)
        except NoNormalsError as error:
            try:
                return replace(condition, region=condition.region.with_normals())
            except ValueError as reason:
                raise ValueError(f"Condition({condition.name!r}): {reason}") from error
        except Exception:  # told by the next run, with its place
            return condition
        return condition

    def _record(self, condition: Condition) -> Signature:
        """Run the residual on recording outputs: which derivatives, how many components.

        A second run on fewer points tells whether a residual mixes them, which would make every row of the
        Jacobian wrong without a sign of it.
        """
        log: set[Channel] = set()

        def run(n: int) -> Tensor:
            jets, p = self._probe(condition.region, n, log)
            return evaluate_residual(condition, self.assemble(jets, p), p)

        probes = min(_PROBES, condition.points)
        more, fewer = run(probes), run(max(1, probes - 1))
        if not torch.allclose(more[: len(fewer)], fewer, rtol=1e-9, atol=0.0, equal_nan=True):
            raise ValueError(
                f"residual of condition {condition.name!r} mixes points: its value at one point changes when "
                "another is left out; write it pointwise, without mean, sum or sort over the points"
            )
        return Signature(close(log), more.shape[1], condition.region.columns)

    def _record_fields(self) -> tuple[Channel, ...]:
        """Derivatives of the network's outputs that values of the fields consist of."""
        log: set[Channel] = set()
        jets, p = self._probe(self.domain.interior, 1, log)
        u = self.assemble(jets, p)
        for jet in u if isinstance(u, tuple) else (u,):
            _ = jet.value
        return close(log)

    def reference(self, points: Tensor) -> Tensor:
        """The known solution at points (n, d) → (n, fields).

        Raises:
            ValueError: there is none, it fails, or it returns another shape.
        """
        if self.solution is None:
            raise ValueError(f"problem {self.name!r} has no solution to compare with")
        try:
            found = self.solution(Points(points))
        except Exception as error:
            if is_machine_failure(error):
                raise
            raise ValueError(f"solution failed{failure(error)}") from error
        return stack(found, len(points), "solution", len(self.fields))


def _names(what: str, names: Any) -> tuple[str, ...]:
    """Names in a tuple, of one as of several.

    Raises:
        ValueError: they are none.
    """
    given = (names,) if isinstance(names, str) else names
    if not (isinstance(given, (tuple, list)) and all(isinstance(name, str) and name for name in given)):
        raise ValueError(f'Problem: {what}={told(names)} must be a tuple of names, e.g. ("u", "v")')
    return tuple(given)


def _listed(what: str, given: Any, kind: type) -> tuple[Any, ...]:
    """Things of one kind in a tuple. A set has no order that all ranks agree on.

    Raises:
        ValueError: they are none.
    """
    ordered = isinstance(given, Iterable) and not isinstance(given, (set, frozenset))
    listed = tuple(given) if ordered else (None,)
    if not all(isinstance(one, kind) for one in listed):
        raise ValueError(f"Problem: {what}={told(given):.80} must be a list of {kind.__name__}(...)")
    return listed
