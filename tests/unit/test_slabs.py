"""Slabs of a problem in time: their conditions, what one hands to the next, their networks as one."""

from itertools import pairwise

import pytest
import torch

from sngd import MLP, Box, Condition, Data, Problem, d
from sngd.composite import build_network
from sngd.fields import fields_at
from sngd.jacobian import FactoredJacobian
from sngd.marching import Continued, restricted
from sngd.piecewise import Piecewise
from sngd.residual import Collocation
from tests.marched import heat, wave
from tests.problems import heat as heat_case

# ---------------------------------------------------------------------------------------------
# The problem of a slab
# ---------------------------------------------------------------------------------------------


def _before(problem, axis, low, high, network=None):
    slab = restricted(problem, axis, low, high, None)
    built = build_network(slab, network or MLP((5, 4)), 3)
    generator = torch.Generator().manual_seed(0)
    theta = built.initial + 0.3 * torch.randn(built.parameters, generator=generator, dtype=torch.float64)
    return Continued(slab, built, theta, axis), built, theta


def test_the_first_slab_is_the_problem_on_fewer_times():
    slab = restricted(heat(), 1, 0.0, 0.5, None)
    assert dict(zip(slab.domain.names, slab.domain.bounds, strict=True)) == {"x": (0, 1), "t": (0, 0.5)}
    assert [c.name for c in slab.conditions] == ["equation", "initial", "walls"]
    for condition in slab.conditions:
        t = condition.region.sample(0, 50, (1, 0, 0))[:, 1]
        assert float(t.min()) >= 0
        assert float(t.max()) <= 0.5
        assert condition.name == "initial" or float(t.max()) > 0.4
    x = slab.conditions[1].region.sample(0, 5, (1, 0, 0))
    assert bool((x[:, 1] == 0).all())


def test_a_later_slab_begins_with_the_fields_of_the_one_before():
    problem = heat()
    before, network, theta = _before(problem, 1, 0.0, 0.5)
    slab = restricted(problem, 1, 0.5, 1.0, before)
    assert [(c.name, c.points, c.weight) for c in slab.conditions] == [
        ("equation", 40, 1.0),
        ("initial", 10, 3.0),
        ("walls", 10, 1.0),
    ]
    region = slab.conditions[1].region
    rows = region.sample(2, 8, (4, 0, 1))
    assert torch.equal(rows[:, :2], slab.domain.face(t=0.5).sample(2, 8, (4, 0, 1)))
    torch.testing.assert_close(rows[:, 2:], network(theta, rows[:, :2]))


def test_derivatives_in_time_go_on_where_they_are_asked_for():
    """Against central differences of the fields."""
    problem = wave()
    before, network, theta = _before(problem, 0, 0.0, 0.4)
    slab = restricted(problem, 0, 0.4, 1.0, before)
    assert [c.name for c in slab.conditions] == ["equations", "place", "speed", "late"]
    place, speed = (slab.conditions[i].region.sample(0, 5, (0, 0, i)) for i in (1, 2))
    fields = lambda x: fields_at(before.problem, network, theta, x)  # noqa: E731
    torch.testing.assert_close(place[:, 2:], fields(place[:, :2]))
    step = torch.tensor([1e-5, 0.0], dtype=torch.float64)
    x = speed[:, :2]
    difference = (fields(x + step) - fields(x - step))[:, 0] / 2e-5
    torch.testing.assert_close(speed[:, 2], difference, rtol=1e-7, atol=1e-8)
    assert bool((place[:, 0] == 0.4).all())


def test_a_slab_network_that_equals_the_one_before_meets_the_handoff():
    """The network of the slab before itself; one of the new slab with the same θ is another function."""
    problem = wave()
    before, network, theta = _before(problem, 0, 0.0, 0.5)
    slab = restricted(problem, 0, 0.5, 1.0, before)
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(slab.conditions)]
    same = Collocation(slab, network, points, torch.ones(4, dtype=torch.float64))
    for number in (1, 2):
        rows = same.condition_rows[number]
        assert float(same.residual(theta)[rows].abs().max()) < 1e-12
    other = Collocation(slab, build_network(slab, MLP((5, 4)), 3), points, torch.ones(4, dtype=torch.float64))
    assert float(other.residual(theta)[other.condition_rows[1]].abs().max()) > 1e-3


@pytest.mark.parametrize(("low", "high", "kept"), [(0.0, 0.5, False), (0.5, 0.8, False), (0.8, 1.0, True)])
def test_a_condition_at_a_time_belongs_to_one_slab(low, high, kept):
    problem = wave()
    before = None if low == 0 else _before(problem, 0, 0.0, low)[0]
    names = [c.name for c in restricted(problem, 0, low, high, before).conditions]
    assert ("late" in names) == kept


def test_data_are_shared_out_by_time():
    domain = Box(x=(0, 1), t=(0, 1))
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points[0, 1], points[1, 1] = 0.0, 0.5
    data = Data(domain, points, {"u": points[:, 0] * 2})
    _, T = domain.axes
    problem = Problem(
        domain,
        [
            Condition("equation", lambda u, p: d(u, T), domain.interior, 9),
            Condition("initial", lambda u, p: u, domain.face(t=0), 3),
            Condition("data", lambda u, p: u - p.data["u"], data),
        ],
    )
    first = restricted(problem, 1, 0.0, 0.5, None).conditions[2]
    second = restricted(problem, 1, 0.5, 1.0, _before(problem, 1, 0.0, 0.5)[0]).conditions[2]
    early = points[:, 1] <= 0.5
    for condition, own in ((first, early), (second, ~early)):
        assert condition.points == int(own.sum())
        rows = condition.region.sample(0, condition.points, (0, 0, 0))
        assert torch.equal(rows, torch.cat([points[own], 2 * points[own][:, :1]], dim=1))


def test_walls_and_start_in_one_condition_are_told_apart():
    domain = Box(x=(0, 1), t=(0, 1))
    X, _ = domain.axes
    around = Condition("around", lambda u, p: u - p[X], domain.boundary(), 12)
    problem = Problem(domain, [around])
    first = restricted(problem, 1, 0.0, 0.5, None).conditions
    t = first[0].region.sample(0, 60, (0, 0, 0))
    assert {float(v) for v in t[:, 1] if v in (0.0, 0.5)} == {0.0}
    before = _before(problem, 1, 0.0, 0.5)[0]
    second = restricted(problem, 1, 0.5, 1.0, before).conditions
    assert [c.name for c in second] == ["around", "around, continued"]
    x = second[0].region.sample(0, 60, (0, 0, 0))
    assert not bool((x[:, 1] == 0.5).any())
    assert bool((x[:, 1] == 1.0).any())
    assert bool((second[1].region.sample(0, 9, (0, 0, 0))[:, 1] == 0.5).all())


# ---------------------------------------------------------------------------------------------
# The networks as one
# ---------------------------------------------------------------------------------------------


def _piecewise(problem, axis, edges):
    slabs = [restricted(problem, axis, a, b, None) for a, b in pairwise(edges)]
    parts = [build_network(slab, MLP((5, 4)), 7 + i) for i, slab in enumerate(slabs)]
    return Piecewise(parts, axis, edges[1:-1]), parts


def test_each_slab_has_the_values_of_its_network():
    whole, parts = _piecewise(heat(), 1, (0.0, 0.5, 1.5, 2.0))
    theta = whole.initial
    x = torch.tensor([[0.3, 0.2], [0.6, 0.5], [0.1, 1.4], [0.9, 2.0]], dtype=torch.float64)
    got, own = whole(theta, x), theta.split([part.parameters for part in parts])
    for row, slab in enumerate((0, 1, 1, 2)):
        torch.testing.assert_close(got[row], parts[slab](own[slab], x[row : row + 1])[0])


def test_rows_of_the_jacobian_are_those_of_the_own_slab():
    case = heat_case(20)
    whole, parts = _piecewise(case.problem, 1, (0.0, 0.4, 1.0))
    points = [c.region.sample(0, c.points, (0, 0, i)) for i, c in enumerate(case.problem.conditions)]
    weights = torch.ones(3, dtype=torch.float64)
    collocation = Collocation(case.problem, whole, points, weights)
    theta = whole.initial
    rows = FactoredJacobian(collocation, theta, collocation.scale).dense()
    direction = torch.randn(len(theta), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ahead, behind = (collocation.residual(theta + h * direction) for h in (1e-6, -1e-6))
    naive = collocation.scale * (ahead - behind) / 2e-6
    torch.testing.assert_close(rows @ direction, naive, rtol=1e-6, atol=1e-7)
    early = torch.cat([batch.points[:, 1] < 0.4 for batch in collocation.batches])
    first = parts[0].parameters
    assert float(rows[early][:, first:].abs().max()) == 0
    assert float(rows[~early][:, :first].abs().max()) == 0
