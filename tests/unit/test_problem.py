import pytest
import torch

from sngd.calculus import d, laplacian
from sngd.condition import Condition
from sngd.domain import Box
from sngd.points import Points
from sngd.problem import Problem
from sngd.taylor import Laplacian

DOMAIN = Box(x=(0, 1), t=(0, 2))
X, T = DOMAIN.axes


def condition(residual=lambda u, p: u, name: str = "c", **changes) -> Condition:
    return Condition(name, residual, **{"region": DOMAIN.interior, "points": 10} | changes)


def test_points_give_coordinates_as_fields() -> None:
    values = torch.rand(4, 2, dtype=torch.float64)
    p = Points(values)
    assert len(p) == 4
    assert torch.equal(p[T].value, values[:, 1])
    assert d(p[T], T).value.tolist() == [1.0] * 4
    assert d(p[T], X).value.tolist() == [0.0] * 4
    assert d(p[X] * p[T] ** 2, X, T).value.tolist() == (2 * values[:, 1]).tolist()
    with pytest.raises(ValueError, match=r"coefficient .x. does not exist"):
        p["x"]
    for axis in (2, -1, Box(a=(0, 1), b=(0, 1), c=(0, 1)).axes[2]):
        with pytest.raises(ValueError, match=r"axis .* does not exist: the domain has 2 axes"):
            p[axis]


def test_a_condition_is_recorded_as_channels_and_components() -> None:
    three = lambda u, p: (u, d(u, X), laplacian(u))  # noqa: E731
    problem = Problem(
        DOMAIN,
        [
            condition(lambda u, p: d(u, T) - d(u, X, X), "heat"),
            condition(three, "three"),
            condition(lambda u, p: p[X] - 1.0, "no field"),
            condition(lambda u, p: u * d(u, X, T), "mixed"),
        ],
    )
    channels = [s.channels for s in problem.signatures]
    assert channels == [
        ((), (0,), (1,), (0, 0)),
        ((), (0,), (1,), Laplacian((0, 1))),
        ((),),
        ((), (0,), (1,), (0, 1)),
    ]
    assert [s.components for s in problem.signatures] == [1, 3, 1, 1]


def test_fields_of_a_system_are_unpacked() -> None:
    def residual(w, p):
        u, v, q = w
        return d(u, X) + d(v, T), q

    problem = Problem(DOMAIN, [condition(residual)], fields=("u", "v", "q"))
    assert problem.signatures[0].channels == ((), (0,), (1,))
    assert problem.signatures[0].components == 2
    assert Problem(DOMAIN, [condition()], fields="temperature").fields == ("temperature",)
    with pytest.raises(
        ValueError, match=r"condition 'c' failed at test_problem.py:\d+: .*cannot be unpacked"
    ):
        Problem(DOMAIN, [condition(residual)])


def test_reference_solution_has_one_column_per_field() -> None:
    points = torch.rand(5, 2, dtype=torch.float64)
    scalar = Problem(DOMAIN, [condition()], solution=lambda p: torch.sin(p[X]) * p[T])
    assert torch.equal(scalar.reference(points), (points[:, 0].sin() * points[:, 1]).unsqueeze(1))
    pair = {"fields": ("u", "v"), "solution": lambda p: (p[X], p.values[:, 1])}
    assert torch.equal(Problem(DOMAIN, [condition(lambda w, p: w[0])], **pair).reference(points), points)
    with pytest.raises(ValueError, match=r"problem 'poisson' has no solution to compare with"):
        Problem(DOMAIN, [condition()], name="poisson").reference(points)
    with pytest.raises(ValueError, match=r"solution must return 1 component\(s\), got 2"):
        Problem(DOMAIN, [condition()], solution=lambda p: (p[X], p[T])).reference(points)
    with pytest.raises(
        ValueError, match=r"solution must return one number per point, shape \(5,\).*\(5, 2\)"
    ):
        Problem(DOMAIN, [condition()], solution=lambda p: p.values).reference(points)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            lambda u, p: u.value.sum(),
            r"residual of condition 'c' must return one number per point, shape \(3,\)",
        ),
        (lambda u, p: u.value.unsqueeze(1), r"it returned \(3, 1\)"),
        (lambda u, p: 0.0, "it returned float"),
        (lambda u, p: None, "it returned NoneType"),
        (lambda u, p: (u, 1), "it returned int"),
        (lambda u, p: (), r"at least one component\(s\), got 0"),
    ],
)
def test_a_residual_that_is_not_one_number_per_point_is_refused(returned, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Problem(DOMAIN, [condition(returned)])


def test_derivatives_along_axes_of_another_domain_are_refused() -> None:
    stranger = Box(a=(0, 1), b=(0, 1), c=(0, 1)).axes[2]
    with pytest.raises(ValueError, match="does not exist: the domain has 2 axes"):
        Problem(DOMAIN, [condition(lambda u, p: d(u, stranger))])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name='' must be a non-empty string"),
        ({"residual": 3}, r"Condition\('c'\): residual=3 must be a function"),
        ({"region": DOMAIN}, "must be a region of the domain, e.g. domain.interior"),
        ({"points": 0}, "points=0 must be a whole number ≥ 1"),
        ({"points": 2.5}, r"points=2\.5"),
        ({"points": True}, "points=True"),
        ({"weight": 0}, "weight=0 must be finite and > 0"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"weight": "1"}, "weight='1'"),
        ({"sampling": "halton"}, "sampling='halton' must be one of"),
    ],
)
def test_bad_conditions_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        condition(**changes)


def test_bad_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="conditions is empty"):
        Problem(DOMAIN, [])
    with pytest.raises(ValueError, match=r"condition names must differ, \['c'\] appear more than once"):
        Problem(DOMAIN, [condition(), condition(), condition(name="e")])
    with pytest.raises(ValueError, match=r"field names must differ, \['v'\]"):
        Problem(DOMAIN, [condition()], fields=("v", "v"))
    with pytest.raises(ValueError, match="fields is empty"):
        Problem(DOMAIN, [condition()], fields=())
    with pytest.raises(ValueError, match="outputs is empty"):
        Problem(DOMAIN, [condition()], outputs=(), ansatz=lambda u, p: p[X])
    with pytest.raises(ValueError, match=r"conditions=Condition\(name='c'.* must be a list of Condition"):
        Problem(DOMAIN, condition())
    with pytest.raises(ValueError, match=r"must be a list of Condition\(\.\.\.\)"):
        Problem(DOMAIN, [DOMAIN.interior])
    with pytest.raises(ValueError, match="its region belongs to Box"):
        Problem(DOMAIN, [condition(region=Box(x=(0, 1), t=(0, 2)).interior)])


@pytest.mark.parametrize(
    "residual",
    [
        lambda u, p: u - u.value.mean(),
        lambda u, p: d(u, X).value.cumsum(0).flip(0),
        lambda u, p: u.value / u.value.norm(),
        lambda u, p: u * p.values[:, 0].sum(),
    ],
)
def test_a_residual_that_mixes_points_is_refused(residual) -> None:
    with pytest.raises(ValueError, match="residual of condition 'c' mixes points"):
        Problem(DOMAIN, [condition(residual)])


def test_a_solution_that_fails_is_told_with_its_place() -> None:
    problem = Problem(DOMAIN, [condition()], solution=lambda p: p.data["u"])
    with pytest.raises(ValueError, match=r"solution failed at test_problem\.py:\d+: KeyError: 'u'"):
        problem.reference(torch.zeros(3, 2))
