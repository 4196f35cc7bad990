import pytest
import torch

from sngd import MLP, Box, Coefficient, Condition, Problem, d
from sngd.composite import build_network
from sngd.fields import coefficient_values, fields_at
from tests import reference
from tests.problems import inverse, parameters
from tests.reference import relative_error

DOMAIN = Box(x=(0, 1), y=(0, 2))
X, Y = DOMAIN.axes


def problem(**given) -> Problem:
    return Problem(DOMAIN, [Condition("zero", lambda w, p: w[0] + w[1], DOMAIN.interior, 5)], **given)


def test_parts_stand_one_after_the_other() -> None:
    case = inverse()
    network = build_network(case.problem, case.network, 3)
    first, second, constants = network.parts
    assert network.outputs == 4
    assert network.parameters == first.parameters + second.parameters + 2
    assert torch.equal(
        network.initial[: first.parameters], MLP((6, 5)).build(case.problem.domain, 1, 3).initial
    )
    assert torch.equal(second.initial, MLP((4,), "sin").build(case.problem.domain, 1, 4).initial)
    assert constants.initial.tolist() == [c.start for c in case.problem.unknowns.values()]
    theta = torch.arange(network.parameters, dtype=torch.float64)
    weights, biases = network.split(theta)
    stacked = torch.cat([*(w.flatten() for w in weights), *biases])
    assert sorted(stacked.tolist()) == theta.tolist()
    assert repr(network).startswith("Composite(Network(2-6-5-1, tanh, P=")
    assert network.to(torch.float32, "cpu").parts[0].embedding.scale.dtype == torch.float32


@pytest.mark.parametrize("names", ["u", "v, u", "u, v, w"])
def test_networks_must_give_each_output_once(names: str) -> None:
    with pytest.raises(
        ValueError, match=r"must name the outputs \('u', 'v'\) of problem 'problem', each once"
    ):
        build_network(problem(fields=("u", "v")), {names: MLP()}, 0)


def test_one_network_may_give_several_outputs() -> None:
    network = build_network(problem(fields=("u", "v")), {"u, v": MLP((3,))}, 0)
    assert network.outputs == 2


def test_fields_are_the_ansatz_of_outputs() -> None:
    """A stream function: the fields are derivatives of the output, and free of divergence."""

    def ansatz(psi, p):
        return d(psi, Y), -d(psi, X), p["c"] + 0 * psi

    unknown = {"a": Coefficient(2.0), "c": Coefficient(1.5, lower=1)}
    flow = problem(fields=("u", "v", "k"), outputs="psi", ansatz=ansatz, coefficients=unknown)
    network = build_network(flow, MLP((5,)), 0)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, 2, generator=generator, dtype=torch.float64)
    got = fields_at(flow, network, network.initial, x)
    leaf = x.clone().requires_grad_()
    psi = reference.network_function(network)(network.initial, leaf)[:, 0]
    want = [reference.partial(psi, leaf, 1), -reference.partial(psi, leaf, 0)]
    assert relative_error(got[:, :2], torch.stack(want, dim=1).detach()) < 1e-13
    assert got[:, 2].tolist() == pytest.approx([1.5] * 6, rel=1e-14)
    assert coefficient_values(flow, network.initial) == pytest.approx({"a": 2.0, "c": 1.5}, rel=1e-14)


def test_a_hard_constraint_holds_to_rounding_whatever_the_parameters() -> None:
    case = inverse()
    collocation = case.collocation()
    walls = case.problem.domain.boundary("x").sample(0, 50, (1,))
    u = fields_at(case.problem, collocation.network, parameters(collocation), walls)[:, 0]
    assert float(u.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"ansatz": lambda u, p: u[0].value},
            r"ansatz must return one field \(Jet\) for each of \('u', 'v'\)",
        ),
        ({"ansatz": lambda u, p: 1 / 0}, r"ansatz failed at test_composite.py:\d+: ZeroDivisionError"),
        ({"outputs": ("n",)}, r"outputs=\('n',\) differ from fields=\('u', 'v'\), which then need an ansatz"),
        (
            {"coefficients": {"a": "one"}},
            r"coefficients\['a'\]='one' must be a finite number, or Coefficient\(...\)",
        ),
        ({"coefficients": {"a": True}}, r"coefficients\['a'\]=True must be a finite number"),
        ({"outputs": ("n", "n"), "ansatz": lambda u, p: u}, r"output names must differ, \['n'\] appear"),
    ],
)
def test_mistakes(given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(fields=("u", "v"), **given)
