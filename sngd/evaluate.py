"""How far a network is from the known solution: relative L2 and largest error on fixed points.

The points are the same for every run of a problem, whatever its seed, and no run trains on them.

Letters
    m        evaluation points
    d        coordinates
    u, u*    the network's fields and the known ones, (m, fields)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sngd.networks import AnyNetwork
from sngd.problem import Problem

__all__ = ["Evaluation", "predict"]

# Names the evaluation points; apart from the keys (seed, epoch, condition) of training points.
_KEY = (0x5EED, 0xE7A1, 0)

# Points that go through the network at once: bounds memory, 65,536 · width numbers per layer.
_CHUNK = 65_536


def predict(network: AnyNetwork, theta: Tensor, x: Tensor, chunk: int = _CHUNK) -> Tensor:
    """The network's fields at many points, without gradients and in bounded memory.

    Args:
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        x: (m, d) points of any dtype, on the device of theta.
        chunk: points that go through the network at once.

    Returns:
        (m, fields) float64.
    """
    with torch.no_grad():
        parts = [network(theta, part.to(theta)).double() for part in x.split(chunk)]
    return torch.cat(parts)


class Evaluation:
    """Errors of a network against the known solution, on points that no run trains on.

    Args:
        problem: its `solution` is evaluated once, here; None makes every error nan.
        network: built for the problem.
        points: m, number of points of the interior (low discrepancy), all of equal weight.
        dtype: of the network's evaluation; differences and norms are taken in float64.
        device: where the network is evaluated.

    Raises:
        ValueError: points < 1, or the solution is not finite at one of them.
    """

    def __init__(
        self,
        problem: Problem,
        network: AnyNetwork,
        points: int = 10_000,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(points, int) or isinstance(points, bool) or points < 1:
            raise ValueError(f"Evaluation: points={points!r} must be a whole number ≥ 1")
        self.problem, self.network = problem, network.to(dtype, device)
        self.dtype, self.device = dtype, torch.device(device)
        self.points = problem.domain.interior.sample(0, points, _KEY, "kronecker", device)
        self.reference = None if problem.solution is None else self._reference()

    def _reference(self) -> Tensor:
        parts = [self.problem.reference(x).double() for x in self.points.split(_CHUNK)]
        reference = torch.cat(parts)
        bad = (~reference.isfinite().all(dim=1)).nonzero()
        if len(bad):
            first = int(bad[0])
            pairs = zip(self.problem.domain.names, self.points[first].tolist(), strict=True)
            where = ", ".join(f"{name}={value:.17g}" for name, value in pairs)
            raise ValueError(
                f"problem {self.problem.name!r}: its solution must be finite inside the domain, it is "
                f"{reference[first].tolist()} at {where} (and not finite at {len(bad)} of "
                f"{len(reference)} evaluation points)"
            )
        return reference

    def relative_l2(self, theta: Tensor) -> float:
        """‖u − u*‖ / ‖u*‖ over all points and fields; nan without a solution or where u* vanishes.

        Args:
            theta: (P,) parameters.
        """
        if self.reference is None:
            return math.nan
        difference = self._difference(theta)
        return _ratio(float(difference.norm()), float(self.reference.norm()))

    def errors(self, theta: Tensor) -> dict[str, float | dict[str, float]]:
        """Every error of one set of parameters.

        Args:
            theta: (P,) parameters.

        Returns:
            relative_l2: ‖u − u*‖ / ‖u*‖ over all points and fields.
            max_error: max |u − u*| over all points and fields.
            fields: the relative L2 error of each field by its name.
            Each is nan without a solution; a relative error also where u* vanishes at every point.
        """
        if self.reference is None:
            nothing = dict.fromkeys(self.problem.fields, math.nan)
            return {"relative_l2": math.nan, "max_error": math.nan, "fields": nothing}
        difference = self._difference(theta)
        error, known = difference.norm(dim=0).tolist(), self.reference.norm(dim=0).tolist()
        names = zip(self.problem.fields, error, known, strict=True)
        return {
            "relative_l2": _ratio(math.hypot(*error), math.hypot(*known)),
            "max_error": float(difference.abs().max()),
            "fields": {name: _ratio(e, k) for name, e, k in names},
        }

    def _difference(self, theta: Tensor) -> Tensor:
        assert self.reference is not None
        theta = theta.detach().to(dtype=self.dtype, device=self.device)
        return predict(self.network, theta, self.points) - self.reference


def _ratio(error: float, known: float) -> float:
    return error / known if known > 0 else math.nan
