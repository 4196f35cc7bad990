import pytest
import torch

from sngd.domain import Box
from sngd.geometry import Ball, Polygon
from sngd.points import Points

KEY = (7, 3, 1)
HOLE = Ball(x=0.2, y=0.1, radius=0.5)
SQUARE = Box(x=(-1, 1), y=(-1, 1))
PLATE = SQUARE - HOLE
ELL = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 3), (0, 3)])

SHAPES = {
    "interval": Box(x=(1, 4)),
    "square": SQUARE,
    "disk": Ball(x=0.5, y=-1, radius=1.5),
    "ball": Ball(x=0, y=0, z=1, radius=2),
    "triangle": Polygon([(0, 0), (2, 0), (1, 1)]),
    "ell": ELL,
    "plate": PLATE,
    "union": SQUARE | Ball(x=1, y=0.5, radius=0.25),
    "polygon and disk": ELL | Ball(x=2, y=0.5, radius=0.25),
    "lens": Ball(x=0, y=0, radius=1) & Ball(x=1.1, y=0, radius=0.8),
    "plate over t": PLATE.over(t=(1, 3)),
}
NAMES = pytest.mark.parametrize("name", SHAPES)
# The product of a square's factors vanishes with another slope.
NORMALISED = [name for name in SHAPES if name != "square"]


def boundary(shape) -> tuple[torch.Tensor, torch.Tensor]:
    return shape.boundary().with_normals().sample(0, 500, KEY).split(shape.dim, dim=1)


def values(shape, points: torch.Tensor, *of, **faces) -> torch.Tensor:
    return shape.distance(Points(points), *of, **faces).value


@NAMES
def test_it_vanishes_on_the_boundary_and_nowhere_inside(name: str) -> None:
    shape = SHAPES[name]
    points, _ = boundary(shape)
    assert float(values(shape, points).abs().max()) < 1e-14
    assert float(values(shape, shape.interior.sample(0, 500, KEY)).min()) > 0


@pytest.mark.parametrize("name", NORMALISED)
def test_it_grows_inwards_with_slope_one(name: str) -> None:
    shape = SHAPES[name]
    points, normals = boundary(shape)
    step = 1e-6
    slopes = values(shape, points - step * normals) / step
    # beside corners, where normals jump, the slope is smaller
    assert float((slopes - 1).abs().median()) < 1e-4
    assert float(((slopes - 1).abs() < 0.02).double().mean()) > 0.97


@NAMES
def test_derivatives_are_those_of_its_values(name: str) -> None:
    """To fourth order, against automatic differentiation of the next lower one."""
    shape = SHAPES[name]
    x = shape.interior.sample(0, 50, KEY).requires_grad_()
    phi = shape.distance(Points(x))
    last = min(shape.dim, 2) - 1
    for alpha in ((0,), (0, last), (0, 0, last), (0, 0, last, last)):
        below = phi.derivative(alpha[:-1])
        (gradient,) = torch.autograd.grad(below.sum(), x, retain_graph=True, allow_unused=True)
        want = 0.0 if gradient is None else gradient[:, alpha[-1]]
        got = phi.derivative(alpha)
        scale = 1 + float(got.detach().abs().max())
        assert float((got - want).detach().abs().max()) < 1e-9 * scale, alpha


def test_signs_outside() -> None:
    x = Box(x=(-2, 4), y=(-2, 4)).interior.sample(0, 2000, KEY)
    for shape in (SQUARE, HOLE, ELL, PLATE, SHAPES["union"], SHAPES["lens"], PLATE | ELL, ELL & HOLE):
        phi = shape.signed_distance(Points(x)).value
        assert torch.equal(phi > 0, shape.contains(x)), shape


def test_of_one_part() -> None:
    p = Points(PLATE.interior.sample(0, 100, KEY))
    hole = PLATE.distance(p, HOLE).value
    assert float(hole.min()) > 0
    assert torch.equal(hole, -HOLE.distance(p).value)
    on_hole = PLATE.boundary(HOLE).sample(0, 100, KEY)
    on_wall = PLATE.boundary("x").sample(0, 100, KEY)
    assert float(values(PLATE, on_hole, HOLE).abs().max()) < 1e-15
    assert float(values(PLATE, on_wall, HOLE).min()) > 0.05
    assert float(values(PLATE, on_wall, SQUARE).abs().max()) < 1e-15
    assert float(values(PLATE, on_hole, SQUARE).min()) > 0.05
    other = Ball(x=-0.6, y=-0.6, radius=0.2)
    two = SQUARE - (HOLE | other)
    for part in (HOLE, other, two.b):
        assert float(values(two, two.boundary(part).sample(0, 100, KEY), HOLE, other).abs().max()) < 1e-15
    with pytest.raises(ValueError, match="is not cut out by this shape"):
        PLATE.distance(p, other)
    with pytest.raises(ValueError, match="is not cut out by this shape"):
        (SQUARE | other).distance(p, SQUARE)


def test_of_faces_of_a_box() -> None:
    domain = Box(x=(-1, 3), y=(0, 1), t=(0, 2), periodic="y")
    x = domain.interior.sample(0, 100, KEY)
    p = Points(x)
    a, t = x[:, 0], x[:, 2]
    torch.testing.assert_close(domain.distance(p).value, (a + 1) * (3 - a) / 4 * t * (2 - t) / 2)
    torch.testing.assert_close(domain.distance(p, "x").value, (a + 1) * (3 - a) / 4)
    torch.testing.assert_close(domain.distance(p, x=3).value, 3 - a)
    torch.testing.assert_close(domain.distance(p, "x", t=0).value, (a + 1) * (3 - a) / 4 * t)
    for arguments, message in (
        ({"x": 0}, r"distance\(p, x=0\) must name an end of x: -1.0 or 3.0"),
        ({"y": 0}, "axis 'y' is periodic and has no boundary"),
        ({"z": 0}, "axis 'z' does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            domain.distance(p, **arguments)


def test_of_an_extrusion_and_its_start() -> None:
    solid = PLATE.over(t=(1, 3))
    x = solid.interior.sample(0, 100, KEY)
    p = Points(x)
    phi = PLATE.distance(p).value
    torch.testing.assert_close(solid.distance(p, t=1).value, phi * (x[:, 2] - 1))
    torch.testing.assert_close(solid.distance(p, t=3).value, phi * (3 - x[:, 2]))
    torch.testing.assert_close(solid.distance(p, HOLE).value, PLATE.distance(p, HOLE).value)
    for arguments in ({"t": 2}, {"x": -1}):
        with pytest.raises(ValueError, match=r"must name an end of time, t=1\.0 or 3\.0"):
            solid.distance(p, **arguments)


def test_in_the_precision_of_the_points() -> None:
    for shape in SHAPES.values():
        x = shape.interior.sample(0, 10, KEY).float()
        assert shape.distance(Points(x)).derivative((0, 0)).dtype == torch.float32
