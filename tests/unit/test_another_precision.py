"""A run that goes on in another precision: the loss continues to the rounding of the coarser one."""

import dataclasses

import pytest
import torch

from sngd import (
    ENGD,
    ENGDW,
    LBFGS,
    MLP,
    R3,
    RAD,
    SNGD,
    SOAP,
    SPRING,
    Adam,
    Auto,
    Causal,
    RunConfig,
    SSBroyden,
)
from sngd.checkpoint import Checkpoint
from sngd.collectives import LocalRanks
from sngd.problems import heat
from sngd.training import train
from tests.ranks.harness import Collect

CPU = torch.device("cpu")
PART = 5  # steps in each precision


def _run(optimizer, **changes):
    fields = {"network": MLP((6, 6)), "evaluate_points": 50, "max_steps": PART, "memory_gb": 1.0}
    return RunConfig(heat(60, 20, 20), optimizer=optimizer, **{**fields, **changes})


RUNS = {
    "sngd": _run(SNGD(rank=24)),
    "landmarks": _run(SNGD(rank=24, subspace="landmarks")),
    "line search": _run(SNGD(rank=24, globalization="line_search", halvings=6)),
    "auto": _run(Auto()),
    "engd": _run(ENGD()),
    "engd, trust region": _run(ENGD(globalization="trust_region")),
    "engd-w": _run(ENGDW(fixed_damping=1e-4)),
    "spring": _run(SPRING(fixed_damping=1e-4)),
    "spring, trust region": _run(SPRING(globalization="trust_region")),
    "adam": _run(Adam(rate=0.01), balance=True),
    "soap": _run(SOAP()),
    "lbfgs": _run(LBFGS()),
    "ssbroyden": _run(SSBroyden()),
    "rad": _run(SNGD(rank=24), adaptive_points=RAD(every=3, candidates=3)),
    "r3": _run(Adam(rate=0.01), adaptive_points=R3(every=2)),
    "causal": _run(SNGD(rank=24), causal=Causal(bins=5)),
}


def _go_on(run, folder, precision, parts):
    hook = Collect()
    run = dataclasses.replace(run, precision=precision, max_steps=PART * parts)
    earlier = Checkpoint.load(folder) if parts > 1 else None
    trained = train(run, LocalRanks(), CPU, hooks=[hook], folder=folder, earlier=earlier)
    return hook.records, trained


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("others", [("float32", "float64"), ("mixed", "float32")])
def test_every_optimizer_goes_on_in_another_precision(tmp_path, name, others):
    if name == "soap":
        pytest.importorskip("pytorch_optimizer")
    run, before = RUNS[name], "float64"
    records, _ = _go_on(run, tmp_path, before, 1)
    for parts, precision in enumerate(others, start=2):
        loss = float(Checkpoint.load(tmp_path).losses.sum())
        records, trained = _go_on(run, tmp_path, precision, parts)
        assert trained.theta.dtype == dataclasses.replace(run, precision=precision).dtype
        (told,) = [text for text in records[0]["warnings"] if text.startswith("precision was")]
        assert told.startswith(
            f"precision was {before} up to step {PART * (parts - 1)} and is {precision} from"
        )
        assert "\n" not in told
        found = [f for f in trained.result["warnings"] if f["kind"] == "precision"]
        assert len(found) == parts - 1
        falling = run.adaptive_points is None and run.causal is None and not run.balance
        if falling and not isinstance(run.optimizer, (Adam, SOAP)):
            assert records[-1]["loss"] <= loss * (1 + 1e-4)
        else:
            assert records[-1]["loss"] < 3 * loss
        before = precision


def test_the_loss_at_which_it_goes_on_is_that_of_its_own_rounding(tmp_path):
    """float64 has come below float32's rounding: against that loss every step would be refused."""
    run = _run(SNGD(rank=40), network=MLP((12, 12)), max_steps=40)
    run = dataclasses.replace(run, problem=heat(200, 50, 50))
    train(run, LocalRanks(), CPU, folder=tmp_path)
    earlier = Checkpoint.load(tmp_path)
    hook = Collect()
    longer = dataclasses.replace(run, precision="float32", max_steps=43)
    train(longer, LocalRanks(), CPU, hooks=[hook], folder=tmp_path, earlier=earlier)
    assert float(earlier.losses.sum()) < 1e-10
    assert hook.records[0]["loss"] > float(earlier.losses.sum())


def test_in_the_same_precision_nothing_is_told(tmp_path):
    run = RUNS["sngd"]
    _go_on(run, tmp_path, "float64", 1)
    records, trained = _go_on(run, tmp_path, "float64", 2)
    assert not records[0]["warnings"]
    assert trained.result["warnings"] == []


def test_a_sketch_that_began_in_float64_begins_in_float32_where_that_is_asked_for(tmp_path):
    run = RUNS["sngd"]
    _go_on(run, tmp_path, "float64", 1)
    assert Checkpoint.load(tmp_path).optimizer["escalated"] is False
    _go_on(run, tmp_path, "mixed", 2)
    assert Checkpoint.load(tmp_path).optimizer["escalated"] is False
