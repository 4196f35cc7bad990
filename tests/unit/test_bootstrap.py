"""Where ranks meet, as far as it is decided without other hosts; the rest is tried under real launchers."""

import subprocess
import sys
import types

import pytest

from sngd import bootstrap
from sngd.bootstrap import meet
from sngd.launcher import Launch


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """The environment as it was before, whatever a rendezvous sets."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "MPI4PY_MPIABI", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


class World:
    """mpi4py.MPI of one rank."""

    def __init__(self, rank, size, hosts=("here",)):
        self.rank, self.size, self.hosts = rank, size, list(hosts)
        self.COMM_WORLD = self

    def allgather(self, mine):
        return self.hosts

    def bcast(self, x):
        return x

    def get_vendor(self):
        return "Another MPI", (1, 0)


def install(monkeypatch, world):
    module = types.ModuleType("mpi4py")
    module.MPI = world
    monkeypatch.setitem(sys.modules, "mpi4py", module)


def test_mpi_gives_an_address_and_a_free_port_and_libraries_find_them(monkeypatch):
    install(monkeypatch, World(0, 1))
    met = meet(Launch("openmpi", 0, 1), 10.0)
    assert met.address == "127.0.0.1"
    met.store.set("key", "value")
    assert met.connection().get("key") == b"value"
    assert bootstrap.os.environ["MASTER_PORT"] == str(met.port)
    assert (bootstrap.os.environ["RANK"], bootstrap.os.environ["WORLD_SIZE"]) == ("0", "1")


def test_two_mpis_that_disagree_are_told(monkeypatch):
    install(monkeypatch, World(0, 1))
    with pytest.raises(ValueError) as refused:
        meet(Launch("mpich", 1, 2, 1, 2), 10.0)
    assert str(refused.value).startswith(
        "mpirun (MPICH) started rank 1 of 2, but mpi4py's Another MPI counts rank 0 of 1: both must be"
    )


def test_without_mpi4py_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ValueError, match=r"pip install 'sngd\[mpi\]'"):
        meet(Launch("openmpi", 0, 2, 0, 2), 10.0)


def test_an_address_that_others_can_reach_is_chosen(monkeypatch):
    known = {"first": "127.0.1.1", "second": "10.0.0.2"}
    monkeypatch.setattr(bootstrap, "resolved", known.get)
    monkeypatch.setattr(bootstrap, "source_towards", lambda host: {"second": "10.0.0.1"}.get(host))
    assert bootstrap._own_address(["first", "first"]) == "127.0.0.1"
    assert bootstrap._own_address(["first", "second"]) == "10.0.0.1"
    assert bootstrap._own_address(["second", "first"]) == "10.0.0.2"
    with pytest.raises(ValueError, match=r"'first' resolves to a loopback address .* set MASTER_ADDR"):
        bootstrap._own_address(["first", "third"])


def test_slurm_gives_the_first_host_and_a_port_of_the_step(monkeypatch):
    def run(command, **options):
        assert command == ["scontrol", "show", "hostnames", "node[3-4]"]
        return subprocess.CompletedProcess(command, 0, "node3\nnode4\n", "")

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    ports = set()
    for job, step in (("7", "0"), ("7", "1"), ("8", "0")):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_STEP_ID", step)
        monkeypatch.setenv("SLURM_STEP_NODELIST", "node[3-4]")
        host, port = bootstrap._slurm_rendezvous(Launch("srun", 0, 2, 0, 1, 2))
        assert host == "node3"
        ports.add(port)
    assert len(ports) == 3
    assert all(20_000 <= port < 32_000 for port in ports)
    assert bootstrap._slurm_rendezvous(Launch("srun", 0, 2, 0, 2, 1))[0] == "127.0.0.1"


def test_without_scontrol_the_node_of_the_batch_script_is_the_first(monkeypatch):
    def absent(*arguments, **options):
        raise FileNotFoundError("scontrol")

    monkeypatch.setattr(bootstrap.subprocess, "run", absent)
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[3-4]")
    monkeypatch.delenv("SLURM_LAUNCH_NODE_IPADDR", raising=False)
    with pytest.raises(ValueError, match=r"first host of 'node\[3-4\]' is unknown"):
        bootstrap._first_host()
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.3")
    assert bootstrap._first_host() == "10.0.0.3"


def test_a_port_that_is_taken_or_none_is_told(monkeypatch):
    with bootstrap.socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(
            ValueError, match=f"127.0.0.1:{port} cannot be hosted: choose another MASTER_PORT"
        ):
            meet(Launch("deepspeed", 0, 2, 0, 2), 2.0)
    monkeypatch.setenv("MASTER_PORT", "none")
    with pytest.raises(ValueError, match="MASTER_PORT='none' in the environment must be a port"):
        meet(Launch("deepspeed", 0, 2, 0, 2), 2.0)


def test_a_rendezvous_that_nobody_hosts_is_told(monkeypatch, capfd):
    monkeypatch.setattr(bootstrap, "_PATIENCE_SECONDS", 0.1)
    with bootstrap.socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", str(port))
    with pytest.raises(ValueError, match=f"rank 1 on .*: the rendezvous localhost:{port} cannot be reached"):
        meet(Launch("torchrun", 1, 2, 0, 1, 2), 1.0)
    assert (
        "still looks for rank 0 at localhost = 127.0.0.1, which is this machine itself"
        in capfd.readouterr().err
    )
