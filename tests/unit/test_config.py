"""A run's configuration: what is refused, what flags replace, how it is written down."""

import dataclasses
import json
from pathlib import Path

import pytest

from sngd import (
    LBFGS,
    MLP,
    R3,
    RAD,
    SIREN,
    SNGD,
    SOAP,
    Adam,
    Causal,
    Curriculum,
    Marching,
    PirateNet,
    Problem,
    RunConfig,
    Separable,
    SSBroyden,
    Tracking,
)
from sngd.config import describe, parse_overrides
from sngd.problems import heat

PROBLEM = heat(10, 4, 4)

BAD_RUN = [
    *[("warmup", value) for value in (None, "adam", SNGD(), Adam)],
    *[("warmup_steps", value) for value in (-1, 0.5, None, True)],
    *[("seed", value) for value in (-1, 2**31, 1.5, "1", True, None)],
    *[("balance", value) for value in (1, "yes", None)],
    *[("resample_every", value) for value in (-1, 0.5, None, "1")],
    *[("adaptive_points", value) for value in ("rad", RAD, Causal(), 10)],
    *[("causal", value) for value in (1.0, Causal, True)],
    *[("curriculum", value) for value in ("nu", Curriculum, R3())],
    *[("marching", value) for value in (4, Marching, Causal())],
    *[("max_steps", value) for value in (0, -3, 2.0, None, "10", float("inf"))],
    *[("max_seconds", value) for value in (0, -1.0, float("nan"), "10")],
    *[("target_error", value) for value in (0.0, -1e-3, float("nan"), "1e-3")],
    *[("evaluate_every", value) for value in (0, -1, 1.5, None)],
    *[("evaluate_points", value) for value in (0, -1, 1e3, None)],
    *[("device", value) for value in ("gpu", "", None, 0)],
    *[("precision", value) for value in ("float16", "double", None, 64)],
    *[("memory_gb", value) for value in (0, -1, float("nan"), "4")],
    *[("timeout_seconds", value) for value in (0, -1.0, float("nan"), None)],
    *[("checkpoint_seconds", value) for value in (0, -1.0, float("nan"), None)],
    ("keep_checkpoints", 0),
    ("check_every", 0),
    ("pictures", None),
    ("holdout_every", -1),
    ("holdout_points", 0),
    *[("problem", value) for value in (None, "heat", heat)],
    *[("network", value) for value in (None, "mlp", MLP)],
    *[("optimizer", value) for value in (None, "sgdn", SNGD)],
    *[("tracking", value) for value in ("offline", None)],
    *[("run_dir", value) for value in ("runs/a", 3)],
]
BAD_SNGD = [
    *[("rank", value) for value in (0, -1, 2.5, "64", None, True)],
    *[("max_rank", value) for value in (63, 0, 100.5, "100")],
    *[("adaptive_rank", value) for value in (1, None)],
    *[("subspace", value) for value in ("rows", None)],
    *[("test_matrix", value) for value in ("normal", None)],
    *[("recycle", value) for value in (0, "no")],
    *[("basis", value) for value in ("split", None, True)],
    *[("globalization", value) for value in ("trust", None)],
    *[("corrections", value) for value in (-1, 1.5, None)],
    *[("acceptance", value) for value in (0, 1, -0.1, float("nan"), None)],
    *[("damping", value) for value in (0, -1, float("inf"), float("nan"), "1")],
    *[("cutoff", value) for value in (-1e-3, 1, float("nan"), "small")],
    *[("halvings", value) for value in (-1, 0.5, None)],
]
BAD_RATE = [
    *[("rate", value) for value in (0, -1e-3, float("inf"), float("nan"), "1")],
    *[("schedule", value) for value in ("linear", None)],
    *[("decay_steps", value) for value in (0, 1.5, None)],
    *[("decay_factor", value) for value in (0, 1.1, float("nan"), None)],
    *[("ramp_steps", value) for value in (-1, 0.5, None)],
    *[("beta1", value) for value in (1, -0.1, float("nan"), None)],
    *[("beta2", value) for value in (1, -0.1, float("nan"), None)],
]
BAD_TRACKING = [
    *[("wandb", value) for value in ("on", "shared", None, True)],
    *[("project", value) for value in ("", " ", "a/b", "a#b", "x" * 129, 3)],
    *[(field, value) for field in ("entity", "group", "name") for value in ("", "x" * 129, 3)],
    *[("tags", value) for value in ("heat", ["heat"], ("",), ("x" * 65,), (None,), (3,))],
    *[("notes", value) for value in (3, ("a",))],
    *[(field, value) for field in ("artifacts", "tensorboard") for value in (None, 1, "yes")],
]

BAD_RIVALS = [
    *[(Adam, *bad) for bad in BAD_RATE],
    *[(SOAP, *bad) for bad in BAD_RATE],
    *[(Adam, "zero_stage", value) for value in (-1, 4, 1.5, True)],
    *[(SOAP, "refresh", value) for value in (0, 2.5, None)],
    *[(LBFGS, "history", value) for value in (0, 1.5, None)],
    *[(SSBroyden, "variant", value) for value in ("dfp", None)],
    *[(SSBroyden, "initial_scaling", value) for value in (1, None)],
    *[(SSBroyden, "armijo", value) for value in (0, 1, float("nan"), None)],
    *[(SSBroyden, "curvature", value) for value in (1e-4, 1, float("nan"), None)],
]


@pytest.mark.parametrize(("field", "value"), BAD_RUN)
def test_a_bad_field_of_a_run_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as caught:
        RunConfig(**{"problem": PROBLEM, field: value})
    assert str(caught.value).startswith(f"{field}={value!r} must be ")


@pytest.mark.parametrize(("field", "value"), BAD_TRACKING)
def test_a_bad_field_of_tracking_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as caught:
        Tracking(**{field: value})
    assert str(caught.value).startswith(f"tracking.{field}={value!r} must be ")


@pytest.mark.parametrize(("field", "value"), BAD_SNGD)
def test_a_bad_field_of_the_optimizer_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as caught:
        SNGD(**{field: value})
    assert str(caught.value).startswith(f"optimizer.{field}={value!r} must be ")


@pytest.mark.parametrize(("kind", "field", "value"), BAD_RIVALS)
def test_a_bad_field_of_a_rival_is_named_with_its_value(kind, field, value):
    with pytest.raises(ValueError) as caught:
        kind(**{field: value})
    assert str(caught.value).startswith(f"optimizer.{field}={value!r} must be ")


def test_every_field_has_a_bad_value_above():
    for kind in (Adam, SOAP, LBFGS, SSBroyden):
        assert {f.name for f in dataclasses.fields(kind)} == {f for k, f, _ in BAD_RIVALS if k is kind}
    assert {f.name for f in dataclasses.fields(RunConfig)} == {field for field, _ in BAD_RUN}
    assert {f.name for f in dataclasses.fields(SNGD)} == {field for field, _ in BAD_SNGD}
    assert {f.name for f in dataclasses.fields(Tracking)} == {field for field, _ in BAD_TRACKING}


def test_a_target_needs_a_solution():
    unknown = Problem(PROBLEM.domain, PROBLEM.conditions, name="unknown")
    with pytest.raises(ValueError, match=r"target_error=0\.001 needs a known solution.*'unknown'"):
        RunConfig(unknown, target_error=1e-3)


def test_a_warmup_needs_its_steps_and_leaves_some_to_the_optimizer():
    with pytest.raises(ValueError, match=r"warmup=Adam\(rate=0\.1.* needs warmup_steps ≥ 1"):
        RunConfig(PROBLEM, warmup=Adam(rate=0.1))
    with pytest.raises(ValueError, match=r"warmup_steps=10 must be below max_steps=10"):
        RunConfig(PROBLEM, warmup_steps=10, max_steps=10)
    RunConfig(PROBLEM, warmup=Adam(rate=0.1), warmup_steps=9, max_steps=10)


def test_good_extremes_are_taken():
    RunConfig(PROBLEM, seed=0, max_seconds=float("inf"), max_steps=1, target_error=1e-300, memory_gb=1)
    SNGD(rank=1, max_rank=1, corrections=0, cutoff=0, halvings=0)


def test_a_run_cannot_be_changed_after_it_was_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig(PROBLEM).seed = -1


# ---------------------------------------------------------------------------------------------
# Flags
# ---------------------------------------------------------------------------------------------


def _parse(*flags, run=None):
    return parse_overrides(run or RunConfig(PROBLEM, seed=7), list(flags), "sngd")


def test_without_flags_nothing_changes():
    run = RunConfig(PROBLEM, SIREN((5,)), SNGD(rank=9), seed=7, balance=True, max_seconds=3.0)
    assert _parse(run=run) == run


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--seed", "3"], "seed", 3),
        (["--max-steps", "12"], "max_steps", 12),
        (["--max_steps", "12"], "max_steps", 12),
        (["--max-seconds", "1.5"], "max_seconds", 1.5),
        (["--target-error", "1e-6"], "target_error", 1e-6),
        (["--balance"], "balance", True),
        (["--precision", "float32"], "precision", "float32"),
        (["--run-dir", "a/b"], "run_dir", Path("a/b")),
        (
            ["--tracking.wandb", "offline", "--tracking.project=heat", "--tracking.tags", "a", "b"],
            "tracking",
            Tracking(wandb="offline", project="heat", tags=("a", "b")),
        ),
        (["--resample-every=5"], "resample_every", 5),
        (["--warmup-steps", "500"], "warmup_steps", 500),
        (["--optimizer", "lbfgs"], "optimizer", LBFGS()),
    ],
)
def test_a_flag_replaces_a_field_and_no_other(flags, field, value):
    run = RunConfig(PROBLEM, seed=7)
    assert _parse(*flags, run=run) == dataclasses.replace(run, **{field: value})


def test_flags_reach_into_the_network_and_the_optimizer():
    run = _parse("--network.hidden", "32", "32", "--network.activation", "sin", "--optimizer.rank", "128")
    assert run.network == MLP((32, 32), activation="sin")
    assert run.optimizer == SNGD(rank=128)
    assert run.seed == 7


@pytest.mark.parametrize(
    ("network", "flags", "wanted"),
    [
        (PirateNet(6), ["--network.blocks", "3"], PirateNet(6, blocks=3)),
        (Separable(), ["--network.hidden", "5", "4"], Separable((5, 4))),
        (
            MLP((6,)),
            ["--network.axes", "x", "--network.weight-factorization"],
            MLP((6,), weight_factorization=True, axes=("x",)),
        ),
    ],
)
def test_flags_reach_into_every_architecture(network, flags, wanted):
    run = RunConfig(PROBLEM, network)
    assert _parse(*flags, run=run) == dataclasses.replace(run, network=wanted)


def test_flags_reach_into_the_warmup_and_another_optimizer():
    run = _parse(
        "--warmup-steps", "5", "--warmup.rate", "0.5", "--optimizer", "adam", "--optimizer.beta1", "0"
    )
    assert (run.warmup, run.warmup_steps, run.optimizer) == (Adam(rate=0.5), 5, Adam(beta1=0))


def test_flags_reach_into_what_changes_on_the_way_where_the_file_has_it():
    problem = Problem(PROBLEM.domain, PROBLEM.conditions, coefficients={"nu": 0.1})
    run = RunConfig(
        problem,
        adaptive_points=RAD(power=2.0),
        causal=Causal(),
        curriculum=Curriculum("nu", (1.0,)),
    )
    flags = "--adaptive-points.every 10 --causal.tolerance 0.5 5 --causal.bins 8 --curriculum.steps 7"
    new = _parse(*flags.split(), "--curriculum.values", "2", "1", run=run)
    assert new.adaptive_points == RAD(every=10, power=2.0)
    assert new.causal == Causal((0.5, 5.0), bins=8)
    assert new.curriculum == Curriculum("nu", (2.0, 1.0), 7)
    assert _parse("--causal.tolerance", "2", run=run).causal == Causal(2.0)
    marching = RunConfig(PROBLEM, marching=Marching())
    assert _parse("--marching.slabs", "0.2", "0.5", run=marching).marching == Marching((0.2, 0.5))
    assert _parse("--marching.slabs", "3", "--marching.network", "warm", run=marching).marching == Marching(
        3, "warm"
    )
    assert _parse(run=run) == run
    assert _parse("--adaptive-points.every", "3", run=RunConfig(PROBLEM, adaptive_points=R3())) == RunConfig(
        PROBLEM, adaptive_points=R3(3)
    )
    assert describe(new)["adaptive_points"]["type"] == "RAD"
    with pytest.raises(SystemExit):
        _parse("--causal.bins", "8")


def test_flags_keep_the_kind_of_network_of_the_file():
    run = _parse("--network.hidden", "16", "--network.omega", "9", run=RunConfig(PROBLEM, SIREN((5,))))
    assert run.network == SIREN((16,), omega=9.0)


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        (["--optimizer.rank", "0"], ["optimizer.rank=0"]),
        (["--seed", "-1"], ["seed=-1"]),
        (["--network.hidden", "0"], ["hidden", "0"]),
        (["--max-seconds", "0"], ["max_seconds=0"]),
    ],
)
def test_flags_out_of_range_are_refused_by_name(flags, texts, capsys):
    """By a ValueError, or by the parser, which says so itself and exits with 2."""
    try:
        with pytest.raises(ValueError) as caught:
            _parse(*flags)
        said = str(caught.value)
    except SystemExit as stopped:
        assert stopped.code == 2
        said = capsys.readouterr().err
    for text in texts:
        assert text in said


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        (["--no-such-flag", "3"], ["--no-such-flag"]),
        (["--optimizer.rnak", "3"], ["--optimizer.rnak"]),
        (["--seed", "three"], ["--seed", "three"]),
        (["--network.hidden", "wide"], ["--network.hidden", "wide"]),
        (["--precision", "float16"], ["--precision", "float16"]),
        (["--max-steps"], ["--max-steps"]),
        (["stray"], ["stray"]),
    ],
)
def test_flags_that_cannot_be_understood_exit_with_2_and_say_which(flags, texts, capsys):
    with pytest.raises(SystemExit) as stopped:
        _parse(*flags)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    for text in texts:
        assert text in said


# ---------------------------------------------------------------------------------------------
# Description
# ---------------------------------------------------------------------------------------------


def test_a_description_is_json_and_complete():
    run = RunConfig(
        PROBLEM,
        SIREN((5, 6), omega=3.0),
        SNGD(max_rank=70),
        run_dir=Path("a/b"),
        target_error=1e-3,
        tracking=Tracking(group="seeds", tags=("a", "b")),
    )
    told = json.loads(json.dumps(describe(run), allow_nan=False))
    assert told.keys() == {f.name for f in dataclasses.fields(run)}
    assert told["network"] == {"type": "SIREN", "hidden": [5, 6], "omega": 3.0, "modes": 1, "axes": []}
    assert told["optimizer"]["type"] == "SNGD"
    assert told["optimizer"]["max_rank"] == 70
    assert told["run_dir"] == "a/b"
    assert (told["tracking"]["group"], told["tracking"]["tags"]) == ("seeds", ["a", "b"])
    assert told["problem"]["fields"] == ["u"]
    assert [c["name"] for c in told["problem"]["conditions"]] == ["equation", "initial", "walls"]
    assert [c["points"] for c in told["problem"]["conditions"]] == [10, 4, 4]


def test_an_optimizer_may_be_given_by_name():
    run = RunConfig(PROBLEM, optimizer="sngd")
    assert run.optimizer == SNGD()
    assert _parse("--optimizer", "sngd", "--optimizer.rank", "7").optimizer == SNGD(rank=7)
    with pytest.raises(ValueError) as caught:
        _parse("--optimizer", "sgdn")
    assert str(caught.value).startswith("optimizer='sgdn' must be one of auto, sngd, ")
