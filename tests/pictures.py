"""What tests of pictures have in common."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch import Tensor

from sngd.condition import Condition
from sngd.domain import Box
from sngd.networks import MLP, Network
from sngd.problem import Problem


class Ring(Box):
    """The points of a box in the plane whose distance from its middle (0.5, 0.5) is between 0.2 and 0.5."""

    def contains(self, x: Tensor) -> Tensor:
        radius = (x[:, :2] - 0.5).norm(dim=1)
        return super().contains(x) & (radius > 0.2) & (radius < 0.5)


def check(path: Path, returned: Path) -> np.ndarray:
    """The picture is a PNG of a sensible size that shows something."""
    assert returned == path
    image = imread(path)
    height, width = image.shape[:2]
    assert 300 < width < 3000
    assert 200 < height < 3000
    assert image[..., :3].std() > 0.02
    assert (image[0, 0, :3] == 1).all(), "white paper"
    return image


def curves(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    lines = [line for axes in figure.axes for line in axes.lines]
    return {str(n.get_label()): (list(n.get_xdata()), list(n.get_ydata())) for n in lines}  # type: ignore[arg-type]


def build(domain: Box, solution: Any, fields: tuple[str, ...] = ("u",)) -> tuple[Problem, Network]:
    first = lambda w, p: w if len(fields) == 1 else w[0]  # noqa: E731
    conditions = [Condition("equation", first, domain.interior, points=4)]
    problem = Problem(domain, conditions, fields=fields, solution=solution)
    return problem, MLP((5,)).build(domain, len(fields), seed=1)
