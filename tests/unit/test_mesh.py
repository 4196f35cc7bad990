import math

import pytest
import torch
from scipy import stats

from sngd.domain import Box
from sngd.geometry import Mesh
from sngd.points import Points

trimesh = pytest.importorskip("trimesh")

KEY = (7, 3, 1)


def ring():
    """A closed surface with a hole through it: 64-sided, between the radii 0.5 and 1, of height 0.5."""
    return trimesh.creation.annulus(r_min=0.5, r_max=1.0, height=0.5)


def winds_around(triangles: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Whether triangles wind around points: solid angles (Van Oosterom and Strackee 1983) that sum to 4π."""
    corners = triangles - x[:, None, None]
    a, b, c = corners.unbind(2)
    la, lb, lc = corners.norm(dim=3).unbind(2)
    ab, bc, ca = ((p * q).sum(2) for p, q in ((a, b), (b, c), (c, a)))
    volume = (a * torch.linalg.cross(b, c)).sum(2)
    return torch.atan2(volume, la * lb * lc + ab * lc + bc * la + ca * lb).sum(1) > math.pi


@pytest.mark.parametrize(
    "surface",
    [ring(), trimesh.creation.icosphere(subdivisions=2), trimesh.creation.box((1, 1, 1))],
    ids=["ring", "ball", "cube"],
)
def test_inside_is_where_the_surface_winds_around(surface) -> None:
    shape = Mesh(surface)
    around = Box(x=(-1.2, 1.2), y=(-1.2, 1.2), z=(-1.2, 1.2)).interior.sample(0, 1000, KEY)
    # rays from here run along edges and through corners of the cube's faces and of the ball's triangles
    steps = torch.tensor([-0.625, -0.25, 0.0, 0.25, 0.375], dtype=torch.float64)
    x = torch.cat([around, torch.cartesian_prod(steps, steps, steps)])
    if surface.volume == pytest.approx(
        ring().volume
    ):  # its bottom and top hold no such points, its axis does
        assert float(x[:, 2].abs().sub(0.25).abs().min()) == 0
        x = x[x[:, 2].abs() != 0.25]
    assert torch.equal(shape.contains(x), winds_around(shape.triangles, x))


def test_points_are_inside_and_fill_it() -> None:
    shape = Mesh(ring())
    assert shape.names == ("x", "y", "z")
    for (low, high), want in zip(shape.bounds, (1.0, 1.0, 0.25), strict=True):
        assert (low, high) == pytest.approx((-want, want), abs=3e-3)
    x = shape.interior.sample(0, 500, KEY)
    radius = x[:, :2].norm(dim=1)
    assert 0.5 * math.cos(math.pi / 32) < float(radius.min()) < 0.52
    assert 0.98 < float(radius.max()) < 1
    n = 10_000
    inside = int(shape.interior.candidates(0, n, KEY, "uniform", None)[1].sum())
    share = ring().volume / math.prod(high - low for low, high in shape.bounds)
    assert stats.binomtest(inside, n, share).pvalue > 1e-7
    assert torch.equal(x[100:300], shape.interior.sample(100, 300, KEY))


def test_surface_points_have_outward_normals_and_are_spread_by_area() -> None:
    shape = Mesh(ring())
    x, normals = shape.boundary().with_normals().sample(0, 2000, KEY, "uniform").split(3, dim=1)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2000, dtype=torch.float64))
    assert not bool(shape.contains(x + 1e-6 * normals).any())
    assert bool(shape.contains(x - 1e-6 * normals).all())
    flat = int((normals[:, 2].abs() > 0.99).sum())
    want = ring().area_faces[abs(ring().face_normals[:, 2]) > 0.99].sum() / ring().area
    assert stats.binomtest(flat, 2000, want).pvalue > 1e-7


@pytest.mark.parametrize("suffix", ["stl", "obj", "ply", "vtk"])
def test_files_give_the_same_shape(tmp_path, suffix: str) -> None:
    source, path = ring(), tmp_path / f"ring.{suffix}"
    if suffix == "vtk":
        meshio = pytest.importorskip("meshio")
        meshio.Mesh(source.vertices, [("triangle", source.faces)]).write(path)
    else:
        source.export(path)
    shape, same = Mesh(str(path)), Mesh(source)
    for mine, other in zip(shape.bounds, same.bounds, strict=True):
        assert mine == pytest.approx(other, abs=1e-6)
    x = Box(x=(-1, 1), y=(-1, 1), z=(-0.3, 0.3)).interior.sample(0, 500, KEY)
    assert torch.equal(shape.contains(x), same.contains(x))


def test_a_surface_that_is_inside_out_is_turned() -> None:
    source = ring()
    source.invert()
    x, normals = Mesh(source).boundary().with_normals().sample(0, 100, KEY).split(3, dim=1)
    assert bool(Mesh(ring()).contains(x - 1e-6 * normals).all())


def test_it_can_be_combined() -> None:
    solid = Box(x=(-2, 2), y=(-2, 2), z=(-1, 1))
    inner = Mesh(ring())
    domain = (solid - inner).over(t=(0, 1))
    points, normals = domain.boundary(inner).with_normals().sample(0, 100, KEY).split(4, dim=1)
    assert bool((normals[:, 3] == 0).all())
    assert bool(inner.contains((points + 1e-5 * normals)[:, :3]).all())


def test_bad_surfaces_are_refused(tmp_path) -> None:
    source = ring()
    source.update_faces(list(range(1, len(source.faces))))
    with pytest.raises(ValueError, match=r"its surface of 2\d\d triangles is not closed, .* repair it first"):
        Mesh(source)
    with pytest.raises(ValueError, match=r"Mesh file 'none\.stl' does not exist"):
        Mesh("none.stl")
    with pytest.raises(ValueError, match=r"Mesh source must be a file or a trimesh\.Trimesh, got int"):
        Mesh(3)
    with pytest.raises(ValueError, match="must be three different names"):
        Mesh(ring(), names=("x", "y"))
    for name, why in (
        ("broken.unknown", "no reader is known for '.unknown'"),
        ("broken.ply", ""),
        ("b.vtk", "it is no .vtk file"),
    ):
        broken = tmp_path / name
        broken.write_text("no mesh\n")
        with pytest.raises(ValueError, match=f"{name}' cannot be read: {why}"):
            Mesh(broken)
    shape = Mesh(ring())
    with pytest.raises(ValueError, match="has no smooth distance function; impose boundary values by"):
        shape.distance(Points(shape.interior.sample(0, 3, KEY)))


def test_the_package_that_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    with pytest.raises(ValueError, match=r"Mesh needs trimesh.*: pip install 'sngd\[mesh\]'"):
        Mesh("part.stl")
