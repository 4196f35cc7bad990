"""Network namespaces: why there are none, and that none is left behind; commands are recorded, not run."""

import os

import pytest

from sngd.bench import netns
from sngd.bench.netns import Hosts, obstacle


@pytest.fixture
def machine(monkeypatch):
    """A machine that only keeps account of its namespaces, and of all commands."""
    state = {"there": {"other"}, "commands": [], "fails": None}

    def run(*command):
        state["commands"].append(command)
        if state["fails"] and state["fails"] in command:
            raise OSError(f"`{' '.join(command)}` failed: no")
        if command[:3] == ("ip", "netns", "add"):
            state["there"].add(command[3])
        if command[:3] == ("ip", "netns", "delete"):
            state["there"].remove(command[3])
        return "\n".join(f"{name} (id: 1)" for name in sorted(state["there"]))

    monkeypatch.setattr(netns, "_run", run)
    monkeypatch.setattr(netns.shutil, "which", lambda tool: f"/sbin/{tool}")
    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)
    return state


def test_what_is_missing_is_named(machine, monkeypatch):
    assert obstacle() == ""
    assert machine["there"] == {"other"}
    machine["fails"] = "tbf"
    assert "tbf" in obstacle()
    assert machine["there"] == {"other"}
    monkeypatch.setattr(netns.os, "geteuid", lambda: 1000)
    assert "root" in obstacle()
    monkeypatch.setattr(netns.shutil, "which", lambda tool: None if tool == "tc" else tool)
    assert obstacle().startswith("tc (iproute2) not found")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_nodes_and_switch_come_and_go(machine, count):
    with Hosts(count, 1e8) as hosts:
        assert machine["there"] == {"other", hosts.switch, *hosts.nodes}
        assert len(hosts.nodes) == count
        placement = hosts.placement()
        assert [prefix[-1] for prefix in placement.prefixes] == hosts.nodes
        assert placement.variables["GLOO_SOCKET_IFNAME"] == netns.INTERFACE
    assert machine["there"] == {"other"}
    limits = [command for command in machine["commands"] if "tbf" in command]
    assert len(limits) == 2 * count, "both directions of every link"
    assert {command[command.index("rate") + 1] for command in limits} == {"100000000bit"}


def test_nothing_is_left_behind_by_an_error(machine):
    with pytest.raises(RuntimeError), Hosts(2, 1e9):
        raise RuntimeError
    assert machine["there"] == {"other"}
    machine["fails"] = "veth"
    with pytest.raises(OSError), Hosts(2, 1e9):
        pass
    assert machine["there"] == {"other"}


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(machine):
    dead = next(pid for pid in range(2**22, 2**23) if not os.path.exists(f"/proc/{pid}"))
    alive = f"sngd-{os.getppid()}-0-switch"
    machine["there"] |= {f"sngd-{dead}-0-switch", f"sngd-{dead}-0-1", alive}
    with Hosts(1, 1e9):
        assert not any(str(dead) in name for name in machine["there"])
    assert machine["there"] == {"other", alive}
