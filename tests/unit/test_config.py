"""Run configs: every bad field is named with its value; flags replace fields."""

import json
import math
from pathlib import Path

import pytest

from sngd import MLP, SNGD, Problem, RunConfig
from sngd.config import describe, load_source, parse_overrides
from sngd.problems import heat

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("problem", "heat"),
        ("network", 3),
        ("optimizer", None),
        ("seed", -1),
        ("resample_every", -1),
        ("max_steps", 0),
        ("max_seconds", 0.0),
        ("max_seconds", math.nan),
        ("target_error", -1e-3),
        ("evaluate_every", 0),
        ("evaluate_points", 0),
        ("device", "tpu"),
        ("dtype", "float16"),
        ("memory_gb", 0.0),
        ("checkpoint_seconds", 0.0),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(ValueError, match=rf"^{field}=.*must be"):
        RunConfig(**{"problem": heat(10, 2, 2), field: value})


def test_a_target_error_needs_a_solution():
    known = heat(10, 2, 2)
    with pytest.raises(ValueError, match=r"target_error=0\.001 needs a known solution"):
        RunConfig(Problem(known.domain, known.conditions), target_error=1e-3)


def test_flags_replace_fields_and_leave_the_rest():
    run = RunConfig(heat(10, 2, 2), MLP(hidden=(5,)), SNGD(rank=3), max_seconds=7.0)
    flags = "--network.hidden 32 32 --optimizer.rank 128 --seed 1 --device cpu --balance --target-error 1e-4"
    changed = parse_overrides(run, flags.split(), "sngd train x.py")
    assert changed.network == MLP(hidden=(32, 32))
    assert changed.optimizer == SNGD(rank=128)
    assert (changed.seed, changed.device, changed.balance, changed.target_error) == (1, "cpu", True, 1e-4)
    assert changed.max_seconds == 7.0
    assert changed.problem is run.problem
    assert parse_overrides(run, [], "p") == run


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_loads_and_says_what_it_is(path):
    run, text = load_source(path)
    fields = json.loads(json.dumps(describe(run)))
    assert fields["problem"]["name"] == run.problem.name == path.stem
    assert fields["network"]["hidden"] == list(run.network.hidden)
    assert "Source: " in text.split('"""')[1]


def test_the_configs_are_those_of_the_method():
    counts = {
        "heat": (1297, 1440),
        "poisson2d": (1297, 1440),
        "burgers": (1361, 10240),
    }
    for name, (parameters, points) in counts.items():
        run, _ = load_source(CONFIGS / f"{name}.py")
        assert run.network.build(run.problem.domain, 1, 0).parameters == parameters
        assert sum(c.points for c in run.problem.conditions) == points
