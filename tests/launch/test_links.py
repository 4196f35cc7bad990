"""Two hosts behind a limited link, made of network namespaces: the same training as in one process."""

import dataclasses
import json
import re
import subprocess

import pytest

from sngd.bench.definition import LINKS, Entry, Suite, Task, jobs_of
from sngd.bench.links import probe_links
from sngd.bench.netns import INTERFACE, Hosts, obstacle
from sngd.bench.runner import run_job
from sngd.networks import MLP
from sngd.run import start_local_ranks

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


@pytest.mark.parametrize("link", [name for name in LINKS if name != "loopback"])
def test_training_over_a_limited_link_takes_the_same_steps(link):
    alone, linked = run_job(job()), run_job(job(link, 2))
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
