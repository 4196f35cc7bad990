"""Where a rendezvous listens and which network ranks talk over."""

import errno
import os
import socket
from datetime import timedelta

import pytest

from sngd import addresses
from sngd.addresses import listener, on_one_machine, pick_interfaces, source_towards
from sngd.bootstrap import host_store
from sngd.launcher import Launch
from tests.listeners import listening

EVERYWHERE = ("::", "0.0.0.0")
ELSEWHERE = "203.0.113.7"  # of the block for documentation: no machine has it


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_a_loopback_rendezvous_listens_there_alone(address):
    before = listening(os.getpid())
    store = host_store(address, 0, True, timedelta(seconds=5))
    opened = [where for where in listening(os.getpid()) if where not in before]
    assert opened == [("127.0.0.1", store.port)]
    store.set("key", "value")
    assert store.get("key") == b"value"


def test_an_address_of_this_machine_is_listened_at_alone():
    own = source_towards(ELSEWHERE)
    if own is None:
        pytest.skip("this machine has no network but loopback")
    with listener(own, 0, alone=False) as opened:
        assert opened.getsockname()[0] == own


@pytest.mark.parametrize(("address", "alone"), [(ELSEWHERE, False), (ELSEWHERE, True), ("here", False)])
def test_an_address_that_others_may_see_otherwise_is_listened_for_everywhere(monkeypatch, address, alone):
    """That of a service before this machine; a name that is loopback in this machine's own host file."""
    monkeypatch.setattr(addresses, "resolved", lambda host: "127.0.1.1" if host == "here" else host)
    with listener(address, 0, alone) as opened:
        assert opened.getsockname()[0] in EVERYWHERE
        port = opened.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_port_that_is_taken_is_no_reason_to_listen_everywhere():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as refused:
        listener("127.0.0.1", taken.getsockname()[1], alone=True)
    assert refused.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("launcher", "nodes", "address", "expected"),
    [
        ("sngd", 1, "127.0.0.1", True),
        ("sngd", 1, "10.214.0.1", False),  # ranks in network namespaces
        ("torchrun", 1, "node1", True),
        ("torchrun", 2, "node1", False),
        ("srun", 1, "127.0.0.1", True),
        ("variables", 1, "node1", False),  # nobody has counted the nodes
        ("variables", 1, "localhost", True),
    ],
)
def test_ranks_are_on_one_machine_where_that_is_known(launcher, nodes, address, expected):
    assert on_one_machine(Launch(launcher, 0, 2, 0, 2, nodes), address) is expected


def test_ranks_of_one_machine_talk_over_loopback_unless_the_user_names_another():
    environment = {"GLOO_SOCKET_IFNAME": "eth7"}
    pick_interfaces(environment, "127.0.0.1", alone=True)
    assert environment["GLOO_SOCKET_IFNAME"] == "eth7"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, environment["NCCL_SOCKET_IFNAME"].encode()
        )
        probe.connect(("127.0.0.1", 9))
        assert probe.getsockname()[0] == "127.0.0.1"


def test_ranks_of_several_machines_take_the_network_of_the_rendezvous(monkeypatch):
    monkeypatch.setattr(addresses, "source_towards", lambda host: "10.0.0.1")
    monkeypatch.setattr(addresses, "_address_of", lambda name: "10.0.0.1" if name != "lo" else "127.0.0.1")
    for own, named in (("127.0.1.1", True), (None, True), ("10.9.0.1", False)):
        monkeypatch.setattr(addresses, "resolved", lambda host, own=own: own)
        environment: dict[str, str] = {}
        pick_interfaces(environment, "node1", alone=False)
        assert set(environment) == ({"GLOO_SOCKET_IFNAME"} if named else set())
        assert environment.get("GLOO_SOCKET_IFNAME") != "lo"
