"""How far a network is from the known solution together with its first derivatives: errors in H¹.

Derivatives of the network's fields are Taylor channels; those of the known solution come from the jets that
it returns, or else from autograd.

Letters
    m        points
    d        coordinates
    u, u*    the network's fields and the known ones, (m, fields); e = u − u*
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sngd.allocation import first_line
from sngd.device_errors import is_machine_failure
from sngd.jet import Jet
from sngd.leaves import field, recorder
from sngd.networks import AnyNetwork
from sngd.points import Points
from sngd.problem import Problem
from sngd.taylor import Channel, TaylorRules, close

__all__ = ["SobolevError", "quantities_at", "sobolev_errors"]

# (fields, points) → one number per point for each of some quantities
Quantities = Callable[[Any, Points], Sequence[Any]]

# Points that go through the known solution at once, and points times channels that go through the network.
_CHUNK, _CHANNEL_CHUNK = 8192, 65_536

# Slopes of a known solution are compared with differences at so many points, over this part of the domain.
# They must agree to this part of the largest slope at more than half of the points: a kink may lie between.
_PROBES, _STEP, _AGREEMENT = 32, 1e-5, 1e-3


def quantities_at(
    problem: Problem,
    network: AnyNetwork,
    theta: Tensor,
    x: Tensor,
    quantities: Quantities,
    known: Mapping[str, float] | None = None,
    chunk: int = _CHANNEL_CHUNK,
) -> Tensor:
    """Functions of a problem's fields and their derivatives, without gradients and in bounded memory.

    Args:
        problem: fields, ansatz and coefficients.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        x: (m, d) points of any dtype, on the device of theta.
        quantities: (u, p) → one number per point for each quantity, jets or tensors (n,).
        known: values of known coefficients, where they differ from the problem's.
        chunk: points times derivatives that go through the network at once.

    Returns:
        (m, quantities) float64.
    """
    rules = TaylorRules(_channels(problem, quantities))
    count, dim = len(problem.outputs), problem.domain.dim
    parts = []
    with torch.no_grad():
        for part in x.split(max(1, chunk // len(rules.channels))):
            some = part.to(theta)
            z = network.forward(theta, network.embed(some, rules.channels), rules)
            p = Points(some, (), problem.coefficients_at(z[0, :, count:], known))
            outputs = [field(z, rules.channels, j, dim) for j in range(count)]
            parts.append(_table(quantities(problem.assemble(outputs, p), p), len(some)))
    return torch.cat(parts)


def _channels(problem: Problem, quantities: Quantities) -> tuple[Channel, ...]:
    """Derivatives of the network's outputs that quantities consist of."""
    log: set[Channel] = set()
    probe = problem.domain.interior.sample(0, 1, (0, 0, 0))
    raw = probe.new_tensor([c.start for c in problem.unknowns.values()]).expand(1, -1)
    jets = [recorder(1, problem.domain.dim, log, probe.dtype, probe.device) for _ in problem.outputs]
    p = Points(probe, (), problem.coefficients_at(raw))
    _table(quantities(problem.assemble(jets, p), p), 1)
    return close(log)


def _table(columns: Sequence[Any], n: int) -> Tensor:
    """One number per point and quantity, (n, quantities) float64."""
    values = [column.value if isinstance(column, Jet) else column for column in columns]
    for value in values:
        if not isinstance(value, Tensor) or value.shape != (n,):
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"a quantity must be one number per point, shape ({n},), got {found}")
    return torch.stack(values, dim=1).double()


# ---------------------------------------------------------------------------------------------
# H¹
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SobolevError:
    """Relative errors of one field with its first derivatives.

    Args:
        seminorm: ‖∇e‖ / ‖∇u*‖, None where the known slopes are not to be had or vanish.
        norm: √(‖e‖² + ‖∇e‖²) / √(‖u*‖² + ‖∇u*‖²), None likewise.
        reason: why they are None; empty where they are not.
    """

    seminorm: float | None
    norm: float | None
    reason: str = ""


def sobolev_errors(
    problem: Problem,
    network: AnyNetwork,
    theta: Tensor,
    x: Tensor,
    axes: Sequence[Any] | None = None,
    known: Mapping[str, float] | None = None,
) -> dict[str, SobolevError]:
    """Relative errors in the H¹ norm and seminorm of each field, all points of equal weight.

    Args:
        problem: with a solution.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        x: (m, d) float64 points on the device of theta.
        axes: of the gradient; all axes of the domain, time among them, when absent.
        known: values of known coefficients, where they differ from the problem's.

    Returns:
        By names of the fields.

    Raises:
        ValueError: the problem has no solution.
    """
    chosen = [getattr(a, "index", a) for a in (range(problem.domain.dim) if axes is None else axes)]
    wanted: list[Channel] = [(), *((i,) for i in chosen)]

    def jets_of(u: Any, p: Points) -> list[Tensor]:
        return [jet.derivative(alpha) for jet in (u if isinstance(u, tuple) else (u,)) for alpha in wanted]

    mine = quantities_at(problem, network, theta.detach(), x, jets_of, known)
    mine = mine.view(len(x), len(problem.fields), len(wanted))
    exact = problem.reference(x).double()
    result = {}
    for number, name in enumerate(problem.fields):
        slopes, reason = _known_slopes(problem, number, x, chosen)
        if slopes is None:
            result[name] = SobolevError(None, None, reason)
            continue
        want = torch.cat([exact[:, number, None], slopes], dim=1)
        squares = (mine[:, number] - want).square().sum(0), want.square().sum(0)
        (e, e_slopes), (w, w_slopes) = ((float(s[0]), float(s[1:].sum())) for s in squares)
        if w_slopes > 0:
            ratios = math.sqrt(e_slopes / w_slopes), math.sqrt((e + e_slopes) / (w + w_slopes))
            result[name] = SobolevError(*ratios)
        else:
            result[name] = SobolevError(None, None, "the known solution is constant")
    return result


def _known_slopes(problem: Problem, number: int, x: Tensor, axes: Sequence[int]) -> tuple[Tensor | None, str]:
    """First derivatives (m, axes) of a field of the known solution, or None and the reason."""
    try:
        slopes = torch.cat([_slopes(problem, number, part)[:, axes] for part in x.split(_CHUNK)])
    except (RuntimeError, TypeError, ValueError) as error:
        if is_machine_failure(error):
            raise
        # autograd's or numpy's own words for a solution that is not made of torch functions
        return None, f"the known solution has no derivatives: {first_line(error)}"
    if not slopes.isfinite().all():
        return None, "derivatives of the known solution are not finite at every point"
    few = x[:_PROBES]
    differences = _differences(problem, number, few)[:, axes]
    apart = (slopes[: len(few)] - differences).abs().amax(1)
    agree = apart <= _AGREEMENT * max(float(slopes.abs().max()), float(differences.abs().max()))
    if 2 * int(agree.sum()) <= len(few):
        return None, (
            "derivatives of the known solution differ from its differences: parts of it are not made of "
            "p[X] or of torch functions of p.values"
        )
    return slopes, ""


def _solution(problem: Problem, number: int, x: Tensor) -> Any:
    """One field of the known solution as it is returned, a jet or a tensor."""
    assert problem.solution is not None
    result = problem.solution(Points(x))
    return result[number] if isinstance(result, (tuple, list)) else result


def _slopes(problem: Problem, number: int, x: Tensor) -> Tensor:
    """(m, d) by jets or else by autograd."""
    if isinstance(_solution(problem, number, x[:1]), Jet):
        part = _solution(problem, number, x)
        return torch.stack([part.derivative((i,)) for i in range(x.shape[1])], dim=1)
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        part = _solution(problem, number, leaf)
        if not isinstance(part, Tensor) or not part.requires_grad:
            raise ValueError("it is not made of p[X] or of torch functions of p.values")
        return torch.autograd.grad(part.sum(), leaf)[0]


def _differences(problem: Problem, number: int, x: Tensor) -> Tensor:
    """Central differences (m, d) of the known solution, one-sided at the bounds."""
    columns = []
    for axis, (low, high) in enumerate(problem.domain.bounds):
        ends = []
        for sign in (-1, 1):
            end = x.clone()
            end[:, axis] = (end[:, axis] + sign * _STEP * (high - low)).clamp(low, high)
            ends.append(end)
        a, b = (problem.reference(end)[:, number] for end in ends)
        columns.append((b - a) / (ends[1] - ends[0])[:, axis])
    return torch.stack(columns, dim=1)
