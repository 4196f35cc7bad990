"""The model of collectives: its limits, and the bytes of a step against those that a step counts."""

import math

import pytest
import torch

from sngd import MLP, SNGD, RunConfig
from sngd.interconnect import Cluster, Link, Payload, Ring, payload_seconds, sketched_payloads
from sngd.problems import heat
from sngd.training import train
from tests.ranks.harness import Collect
from tests.thread_ranks import on_ranks

KINDS = ("all-reduce", "reduce-scatter", "all-gather")
FREE = dict.fromkeys(KINDS, 0.0)
WIRE = Link(1e-4, 1e8)
RING = Ring(WIRE, FREE, cores=64)
GPUS = Cluster(Link(2e-6, 4e11), Link(1e-5, 5e10), per_node=8)
NETWORKS = {"ring": RING, "cluster": GPUS}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_rank_sends_nothing_and_more_never_take_less(name, kind):
    network = NETWORKS[name]
    assert network.seconds(kind, 1e9, 1) == 0.0
    for size in (8.0, 1e9):
        times = [network.seconds(kind, size, ranks) for ranks in (1, 2, 4, 8, 64, 512)]
        assert times == sorted(times)
        assert len(set(times)) == len(times)
    assert network.seconds(kind, 2e9, 8) > network.seconds(kind, 1e9, 8)


@pytest.mark.parametrize("ranks", [2, 3, 16])
def test_a_large_all_reduce_is_bound_by_the_wire_and_a_small_one_by_latency(ranks):
    large, small = 1e12, 1.0
    assert RING.seconds("all-reduce", large, ranks) == pytest.approx(2 * (ranks - 1) / ranks * large / 1e8)
    assert RING.seconds("all-reduce", small, ranks) == pytest.approx(2 * (ranks - 1) * 1e-4, rel=1e-3)
    assert RING.seconds("all-gather", large, ranks) == pytest.approx((ranks - 1) / ranks * large / 1e8)


def test_ranks_that_share_cores_take_turns_but_wires_do_not():
    handled = Ring(Link(0.0, math.inf), dict.fromkeys(KINDS, 1e-9), cores=2)
    assert handled.seconds("all-gather", 4e9, 2) == pytest.approx(2.0)
    assert handled.seconds("all-gather", 4e9, 4) == pytest.approx(2 * 3.0)
    wired = Ring(Link(0.0, 1e9), FREE, cores=2)
    assert wired.seconds("all-gather", 4e9, 4) == pytest.approx(3.0)
    waiting = Ring(Link(1e-4, math.inf), FREE, cores=2, turn_seconds=1e-3)
    assert waiting.seconds("all-reduce", 8.0, 2) == pytest.approx(2 * 1e-4)
    assert waiting.seconds("all-reduce", 8.0, 4) == pytest.approx(6 * 1.1e-3)


def test_a_cluster_within_one_node_is_a_ring_and_beyond_it_shares_out_its_ports():
    ring = Ring(GPUS.inside, FREE, cores=8)
    assert GPUS.seconds("all-reduce", 1e9, 8) == pytest.approx(ring.seconds("all-reduce", 1e9, 8))
    inside = GPUS.seconds("all-gather", 1e9, 8)
    across = GPUS.seconds("all-gather", 1e9, 16) - inside
    assert across == pytest.approx(1e-5 + (1e9 / 8) / 2 / 5e10)
    small = GPUS.seconds("all-reduce", 8.0, 1024) - GPUS.seconds("all-reduce", 8.0, 8)
    assert small == pytest.approx(2 * 7 * 1e-5, rel=1e-3), "a tree of depth log₂ 128"
    with pytest.raises(ValueError) as raised:
        GPUS.seconds("all-reduce", 8.0, 12)
    assert str(raised.value).startswith("ranks=12 must be a multiple of per_node=8")


@pytest.mark.parametrize(
    ("field", "values"), [("latency_seconds", (-1.0, 1.0)), ("bytes_per_second", (0, 0))]
)
def test_a_link_refuses_what_is_no_link(field, values):
    with pytest.raises(ValueError) as raised:
        Link(*values)
    assert str(raised.value).startswith(field)


def test_seconds_of_a_label_are_those_of_all_its_calls():
    payloads = [
        Payload("a", "all-gather", 1e8, 2.0),
        Payload("a", "all-gather", 2e8),
        Payload("b", "all-gather", 8),
    ]
    found = payload_seconds(payloads, Ring(Link(0.0, 1e8), FREE, 8), 2)
    assert found["a"] == pytest.approx(2.0)
    assert set(found) == {"a", "b"}


@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_bytes_are_those_that_a_step_counts(ranks, sharded):
    rank = 20
    run = RunConfig(
        heat(101, 13, 18),
        MLP((8, 8)),
        SNGD(rank=rank, adaptive_rank=False, basis="sharded" if sharded else "replicated"),
        max_steps=3,
        evaluate_points=100,
        device="cpu",
        memory_gb=0.5,
    )
    hook = Collect()

    def work(mine):
        return train(run, mine, torch.device("cpu"), hooks=[hook]).network.parameters

    parameters = on_ranks(ranks, work)[0]
    record = hook.records[-1]
    payloads = sketched_payloads(
        parameters, rank, ranks, 3, evaluations=record["evaluations"], sharded=sharded
    )
    said = {}
    for p in payloads:
        calls, moved = said.get(p.what, (0, 0))
        said[p.what] = calls + p.calls, moved + p.calls * p.bytes
    counted = {what: (t["calls"], t["bytes"]) for what, t in record["traffic"].items()}
    assert counted.keys() - said.keys() == {"check", "holdout"}, (
        "of the last step, and not of the step itself"
    )
    counted = {what: counted[what] for what in said}
    # a projection that shows no progress ends the corrections: it is followed by no evaluation
    calls, moved = counted.pop("projections")
    most, of_most = said.pop("projections")
    assert 0 < calls <= most
    assert moved / calls == of_most / most
    assert counted == said


def test_sharding_moves_the_basis_once_more_and_nothing_travels_alone():
    assert sketched_payloads(1000, 10, 1, 2, evaluations=3, sharded=True) == []
    whole = {p.what: p for p in sketched_payloads(1000, 10, 4, 2, evaluations=3)}
    assert whole["sketch"].kind == "all-reduce"
    assert whole["sketch"].bytes == 1000 * 9 * 8, "the last displacement is known"
    shared = sketched_payloads(1000, 10, 4, 2, evaluations=3, sharded=True, number_bytes=4)
    by_label = {p.what: p for p in shared}
    assert by_label["sketch"].kind == "reduce-scatter"
    assert (by_label["sketch"].bytes, by_label["basis"].bytes) == (1000 * 9 * 4, 1000 * 10 * 4)
    assert by_label["displacement"].bytes == 1000 * 4
    assert sum(p.calls for p in shared if p.what == "triangles") == 3
