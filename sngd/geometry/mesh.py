"""Closed surfaces of triangles from CAD files.

Letters
    n        points
    F        triangles
    ν        outward unit normal
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sngd.geometry.pieces import Piece
from sngd.geometry.shape import Shape, axis_names

__all__ = ["Mesh"]

# Files that trimesh reads by itself; others are meshio's.
_NATIVE = (".stl", ".obj", ".ply", ".off", ".glb", ".gltf")


class Mesh(Shape):
    """The inside of a closed surface of triangles: Mesh("part.stl").

    A point is inside when a ray from it meets an odd number of triangles. There is no smooth distance
    function: boundary values are imposed by conditions. Needs the extra "mesh".

    Args:
        source: a file (STL, OBJ, PLY and what else trimesh and meshio read), or a `trimesh.Trimesh`.
        names: of the three axes.

    Raises:
        ValueError: the file cannot be read, the surface is empty or not closed, or trimesh is not installed.
    """

    def __init__(self, source: Any, names: tuple[str, str, str] = ("x", "y", "z")) -> None:
        self.names = axis_names("Mesh", names, 3)
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
        self._columns = _Columns(triangles)
        corners = triangles.flatten(0, 1)
        self.bounds = tuple(zip(corners.amin(0).tolist(), corners.amax(0).tolist(), strict=True))

    def __repr__(self) -> str:
        return f"Mesh({self.title}, {len(self.triangles)} triangles, names={self.names})"

    def contains(self, x: Tensor) -> Tensor:
        """Which of the points (n, 3) lie in it, (n,) bool; on the surface itself the answer is left open."""
        return self._columns.odd(x.to("cpu", torch.float64)).to(x.device)

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


class _Columns:
    """Triangles by the columns along the first axis that they reach into, G × G of them.

    An edge is crossed or not by the same numbers for both of its triangles, and its range is half open, so
    that none slips through between two triangles.

    Args:
        triangles: (F, 3, 3).
    """

    def __init__(self, triangles: Tensor) -> None:
        self.triangles = triangles
        self.across = torch.linalg.cross(
            triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
        )  # (F, 3), normal to the triangle
        flat = triangles[:, :, 1:]  # (F, 3, 2), seen along the columns
        self.low, high = flat.amin((0, 1)), flat.amax((0, 1))
        self.grid = math.ceil(math.sqrt(len(triangles)))
        self.cell = (high - self.low) / self.grid
        first, last = self._cells(flat.amin(1)), self._cells(flat.amax(1))
        wide = last - first + 1  # (F, 2)
        owner = torch.repeat_interleave(torch.arange(len(flat)), wide.prod(1))
        place = _places(wide.prod(1))
        start, width = first[owner], wide[owner, 1]
        column = (start[:, 0] + place // width) * self.grid + start[:, 1] + place % width
        order = column.argsort(stable=True)
        self.members = owner[order]
        self.counts = torch.bincount(column, minlength=self.grid**2)
        self.starts = self.counts.cumsum(0) - self.counts
        a, b = flat, flat.roll(-1, 1)
        swap = (a[..., 0] > b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] > b[..., 1]))
        self.lower = torch.where(swap[..., None], b, a)  # (F, 3 edges, 2)
        self.upper = torch.where(swap[..., None], a, b)

    def _cells(self, flat: Tensor) -> Tensor:
        return ((flat - self.low) / self.cell).long().clamp(0, self.grid - 1)

    def odd(self, x: Tensor) -> Tensor:
        """Whether a ray from each point (n, 3) along the first axis meets an odd number of them."""
        cells = self._cells(x[:, 1:])
        column = cells[:, 0] * self.grid + cells[:, 1]
        counts = self.counts[column]
        point = torch.repeat_interleave(torch.arange(len(x)), counts)
        triangle = self.members[self.starts[column][point] + _places(counts)]
        at, low, high = x[point], self.lower[triangle], self.upper[triangle]
        y, z = at[:, 1:2], at[:, 2:]
        spans = (low[..., 0] <= y) & (y < high[..., 0])  # never where low and high are one
        rise = (high[..., 1] - low[..., 1]) / torch.where(spans, high[..., 0] - low[..., 0], 1.0)
        crossed = spans & (z < low[..., 1] + (y - low[..., 0]) * rise)
        normal, corner = self.across[triangle], self.triangles[triangle, 0]
        ahead = ((corner - at) * normal).sum(1) * normal[:, 0] > 0  # the plane is met at a larger x
        hit = (crossed.sum(1) % 2 == 1) & ahead
        return torch.bincount(point[hit], minlength=len(x)) % 2 == 1


def _places(counts: Tensor) -> Tensor:
    """0 … counts[0] − 1, 0 … counts[1] − 1, and so on."""
    ends = counts.cumsum(0)
    return torch.arange(int(ends[-1]) if len(ends) else 0) - torch.repeat_interleave(ends - counts, counts)


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
        native = Path(source).suffix.lower() in _NATIVE
        surface = trimesh.load_mesh(source) if native else _load_other(Path(source), trimesh)
    except Exception as error:  # readers raise anything on bad files
        raise ValueError(f"Mesh file {str(source)!r} cannot be read: {error}") from error
    if not isinstance(surface, trimesh.Trimesh):
        raise ValueError(f"Mesh file {str(source)!r} holds no triangles but {type(surface).__name__}")
    return surface


def _load_other(path: Path, trimesh: Any) -> Any:
    """The triangles of a file that meshio reads (VTK, VTU, Gmsh and others)."""
    import meshio

    if path.suffix.lower() not in meshio.extension_to_filetypes:
        raise ValueError(f"no reader is known for {path.suffix!r}; convert it to .stl, .obj or .ply")
    try:
        mesh = meshio.read(path)
    except SystemExit as error:  # meshio's way of saying so
        raise ValueError(f"it is no {path.suffix} file") from error
    triangles = mesh.cells_dict.get("triangle", [])
    return trimesh.Trimesh(mesh.points, triangles) if len(triangles) else trimesh.Trimesh()
