"""Two hosts behind a limited link, made of network namespaces: the same training as in one process."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sngd.bench.definition import LINKS, Entry, Suite, Task, jobs_of
from sngd.bench.links import probe_links
from sngd.bench.netns import INTERFACE, Hosts, obstacle
from sngd.bench.runner import run_job
from sngd.interconnect import Link, Ring, payload_seconds, ring_bytes, sketched_payloads
from sngd.launcher import unlaunched
from sngd.local_ranks import start_local_ranks
from sngd.networks import MLP

pytestmark = pytest.mark.launch

POINTS, RANK = {"interior": 200, "initial": 30, "walls": 40}, 32
LIMITS = {"max_steps": 4, "evaluate_points": 200}


@pytest.fixture(autouse=True, scope="module")
def _namespaces_can_be_made():
    if why := obstacle():
        pytest.skip(why)


def job(link="loopback", ranks=1):
    task = Task("heat", POINTS, MLP((16, 16)), 60.0, 1e-12, LIMITS, ranks, link)
    (made,) = jobs_of(Suite("", {"heat": task}, {"sngd": Entry("sngd", {"rank": RANK})}, 1), device="cpu")
    return made


def namespaces():
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith("sngd-")]


def sent(hosts, node):
    """Bytes that have left a node through its limited link."""
    command = ["tc", "-n", hosts.nodes[node], "-s", "qdisc", "show", "dev", INTERFACE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Sent (\d+) bytes", said)
    assert "qdisc tbf" in said
    assert found
    return int(found.group(1))


def test_training_over_a_limited_link_takes_the_same_steps():
    slowest = min(LINKS, key=lambda name: LINKS[name])
    alone, linked = run_job(job()), run_job(job(slowest, 2))
    assert not linked.failure, linked.message
    assert [row[3] for row in linked.rows] == pytest.approx([row[3] for row in alone.rows], rel=1e-10)
    assert linked.pace["traffic"]["sketch"]["bytes"] > 0
    assert namespaces() == []


def test_what_is_counted_passes_through_the_link(tmp_path):
    asked, lines = tmp_path / "job.json", tmp_path / "lines.jsonl"
    with Hosts(2, 1e8) as hosts:
        where = dataclasses.asdict(hosts.placement())
        asked.write_text(json.dumps({"spec": job().spec, "ranks": 2}))
        before = sent(hosts, 0)
        assert start_local_ranks(2, [str(asked), str(lines)], module="sngd.bench.worker", **where) == 0
        passed = sent(hosts, 0) - before
    start = json.loads(lines.read_text().splitlines()[0])["start"]
    assert start["world_size"] == 2
    sketch = LIMITS["max_steps"] * start["parameters"] * RANK * 8
    assert passed > sketch, "on two ranks an all-reduce sends its bytes once each way"
    assert namespaces() == []


def test_the_link_is_measured():
    lines = probe_links([job("100mbit", 2)])
    assert {line["kind"] for line in lines} == {"all-reduce", "reduce-scatter", "all-gather"}
    assert {(line["link"], line["ranks"]) for line in lines} == {("100mbit", 2)}
    assert namespaces() == []


# ---------------------------------------------------------------------------------------------
# Two nodes that torchrun joins
# ---------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
BITS_PER_SECOND = 1e8
WIDE = """
from sngd import MLP, SNGD, RunConfig
from sngd.problems import heat

run = RunConfig(
    heat(60, 10, 20), MLP((100, 100)), SNGD(rank=64), max_steps=5, device="cpu",
    holdout_every=0, pictures=False,
)
"""


def start(prefix, config, folder):
    """One node's part, with nothing said of interfaces: the host's own name means loopback here."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = unlaunched(os.environ) | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    given = [str(config), "--quiet", "--run-dir", str(folder)]
    return subprocess.Popen(
        [*prefix, str(ROOT / "launch" / "torchrun.sh"), *given],
        env=environment | {"RANKS": "1", **({"NODES": "2", "HEAD": "10.214.0.1:29400"} if prefix else {})},
        stderr=subprocess.PIPE,
        text=True,
    )


def followed(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def payloads_of(record, parameters):
    """What the model says that a step has sent, for the trials that it made."""
    calls = {what: account["calls"] for what, account in record["traffic"].items()}
    known = 0 if record["step"] == 1 else 1  # columns of the basis: the last displacement
    rank, trials = record["rank"], record["evaluations"]
    return sketched_payloads(
        parameters, rank, 2, 3, evaluations=trials, projections=calls["projections"], given=known
    )


def test_two_nodes_joined_by_torchrun_train_as_one_process_at_the_speed_of_their_link(tmp_path):
    config = tmp_path / "wide.py"
    config.write_text(WIDE)
    with Hosts(2, BITS_PER_SECOND) as hosts:
        before = sent(hosts, 0)
        nodes = [start(hosts.command(node), config, tmp_path / "linked") for node in range(2)]
        said = [node.communicate(timeout=120)[1] for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0], said
        passed = sent(hosts, 0) - before
    alone = start([], config, tmp_path / "alone")
    assert alone.communicate(timeout=120)[1] == ""
    records = followed(tmp_path / "linked")
    assert [r["loss"] for r in records] == pytest.approx(
        [r["loss"] for r in followed(tmp_path / "alone")], rel=1e-10
    )

    parameters = json.loads((tmp_path / "linked" / "result.json").read_text())["parameters"]
    link = Ring(Link(0.0, BITS_PER_SECOND / 8), dict.fromkeys(("all-reduce", "all-gather"), 0.0), 2)
    wire, pace = 0.0, []
    for record in records:
        payloads = payloads_of(record, parameters)
        counted = {what: account["bytes"] for what, account in record["traffic"].items()}
        forecast = {p.what: 0.0 for p in payloads}
        for p in payloads:
            forecast[p.what] += p.bytes * p.calls
            wire += p.calls * ring_bytes(p.kind, p.bytes, 2)
        assert counted.pop("check", 16) == 16  # the marks of two θ, at the end
        assert counted == forecast
        pace.append(record["step_seconds"] / sum(payload_seconds(payloads, link, 2).values()))
    assert wire < passed < 1.25 * wire, "headers, acknowledgements, and what is sent before the first step"
    assert min(pace) > 0.9, "a full bucket of tokens passes at once, a fortieth of what a step sends"
    assert min(pace) < 2
    assert namespaces() == []
