"""Closed surfaces of triangles from CAD files.

Letters
    n        points
    F        triangles
    ν        outward unit normal
    Ω        solid angle that a triangle subtends at a point; ΣΩ is 4π inside of a closed surface, 0 outside
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sngd.geometry.pieces import Piece
from sngd.geometry.shape import Shape

__all__ = ["Mesh"]

# Solid angles that are worked out at a time.
_ANGLES = 2**20


class Mesh(Shape):
    """The inside of a closed surface of triangles: Mesh("part.stl").

    A point is inside when the triangles wind around it (solid angles by Van Oosterom and Strackee, IEEE
    Trans. Biomed. Eng. 30, 1983), so a draw from the interior costs candidates × F; one from the surface does
    not. There is no smooth distance function: boundary values are imposed by conditions. Needs the extra
    "mesh".

    Args:
        source: a file (STL, OBJ, PLY and what else trimesh and meshio read), or a `trimesh.Trimesh`.
        names: of the three axes.

    Raises:
        ValueError: the file cannot be read, or the surface is empty or not closed.
            Or trimesh is not installed.
    """

    def __init__(self, source: Any, names: tuple[str, str, str] = ("x", "y", "z")) -> None:
        self.names = tuple(names)
        if len(self.names) != 3 or len(set(self.names)) != 3:
            raise ValueError(f"Mesh names={names!r} must be three different names")
        self.title = str(source) if isinstance(source, (str, Path)) else "surface"
        surface = _load(source)
        if not len(surface.faces):
            raise ValueError(f"Mesh {self.title}: it holds no triangles")
        if not (surface.is_watertight and surface.is_winding_consistent):
            raise ValueError(
                f"Mesh {self.title}: its surface of {len(surface.faces)} triangles is not closed, so that "
                "inside and outside cannot be told apart; repair it first, e.g. by trimesh.repair, or "
                "use its points as a PointCloud"
            )
        triangles = torch.tensor(surface.triangles, dtype=torch.float64)
        if surface.volume < 0:  # inside out
            triangles = triangles.flip(1)
        self.triangles = triangles  # (F, 3 corners, 3), counter-clockwise seen from outside
        corners = triangles.flatten(0, 1)
        self.bounds = tuple(zip(corners.amin(0).tolist(), corners.amax(0).tolist(), strict=True))

    def __repr__(self) -> str:
        return f"Mesh({self.title}, {len(self.triangles)} triangles, names={self.names})"

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, 3) lie in it, (n,) bool; on the surface itself the answer is left open."""
        parts = [self._winds(part) for part in x.double().split(max(1, _ANGLES // len(self.triangles)))]
        return torch.cat(parts)

    def _winds(self, x: Tensor) -> Tensor:
        corners = self.triangles.to(x.device) - x[:, None, None]  # (n, F, 3, 3)
        a, b, c = corners.unbind(2)
        la, lb, lc = corners.norm(dim=3).unbind(2)
        volume = (a * torch.linalg.cross(b, c)).sum(2)
        ab, bc, ca = ((p * q).sum(2) for p, q in ((a, b), (b, c), (c, a)))
        half = torch.atan2(volume, la * lb * lc + ab * lc + bc * la + ca * lb)  # Ω/2
        return half.sum(1) > math.pi

    def pieces(self) -> tuple[Piece, ...]:
        """The surface."""
        return (Piece((self,), None, float(self._areas().sum()), self._draw),)

    def _crosses(self) -> Tensor:
        a, b, c = self.triangles.unbind(1)
        return torch.linalg.cross(b - a, c - a)

    def _areas(self) -> Tensor:
        return self._crosses().norm(dim=1) / 2

    def _draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        crosses = self._crosses()
        ends = self._areas().cumsum(0)
        number = torch.bucketize(u[:, 0] * ends[-1], ends[:-1], right=True)
        a, b, c = self.triangles[number].unbind(1)
        root, share = u[:, 1:2].sqrt(), u[:, 2:]  # uniform on the triangle
        points = (1 - root) * a + root * ((1 - share) * b + share * c)
        normals = crosses[number]
        return points, normals / normals.norm(dim=1, keepdim=True)

    def distance(self, p: Any) -> Any:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self!r} has no smooth distance function; impose boundary values by a condition on "
            "its boundary()"
        )

    signed_distance = distance


def _load(source: Any) -> Any:
    try:
        import trimesh
    except ImportError as error:
        raise ValueError("Mesh needs trimesh, which is not installed: pip install 'sngd[mesh]'") from error
    if isinstance(source, trimesh.Trimesh):
        return source
    if not isinstance(source, (str, Path)):
        raise ValueError(f"Mesh source must be a file or a trimesh.Trimesh, got {type(source).__name__}")
    if not Path(source).is_file():
        raise ValueError(f"Mesh file {str(source)!r} does not exist")
    try:
        surface = trimesh.load_mesh(source)
    except Exception as error:  # readers raise anything on bad files
        raise ValueError(
            f"Mesh file {str(source)!r} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(surface, trimesh.Trimesh):
        raise ValueError(f"Mesh file {str(source)!r} holds no triangles but {type(surface).__name__}")
    return surface
