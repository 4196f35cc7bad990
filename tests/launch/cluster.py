"""A real Slurm of several nodes on this machine, for as long as a context lasts.

    with Cluster(nodes=2) as slurm:
        job = slurm.submit("job.sbatch", "--nodes=2")
        slurm.wait(job)

Own daemons (munged, slurmctld, one slurmd a node), own key, own folder, free ports: several clusters may run
at once. Needs root, and the Debian packages slurmctld, slurmd, munge and slurm-client; neither systemd nor
cgroups.

Two partitions share the nodes: `main`, whose jobs come first and are never preempted, and `preempt`, whose
jobs are sent SIGTERM when one of `main` needs their place, and are requeued GRACE seconds later if they still
run.
Pretended GPUs (copies of /dev/null) can be asked for: Slurm counts and assigns them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from types import TracebackType

from sngd.bench.netns import Hosts
from sngd.bench.netns import obstacle as no_namespaces
from tests.launch.processes import (
    HOSTS,
    alive,
    edit_hosts,
    execute,
    free_ports,
    kill,
    parent,
    read_pid,
    until,
)

GRACE = 20
_SUBNET = "10.214.0"
_GPUS, _CORES = 2, 4
_numbers = itertools.count()

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}({address})
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=100000
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=3
KillWait=8
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
"""


def obstacle(netns: bool = False) -> str:
    """Why no cluster can be brought up here; empty where it can."""
    missing = [tool for tool in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found: install slurmctld, slurmd, munge and slurm-client"
    if os.geteuid() != 0:
        return "the daemons of Slurm need root"
    if not os.access(HOSTS, os.W_OK):
        return f"{HOSTS} cannot be written to, where the nodes get their names"
    return no_namespaces() if netns else ""


class Cluster:
    """Nodes 0 … nodes−1 under one controller.

    Args:
        nodes: how many.
        netns: every node in a network namespace of its own, with links of a limited rate between them.
        rate: of those links, bits per second; 10 Gbit/s when absent.

    Raises:
        OSError: on entering, when a daemon does not start; what was started is ended.
    """

    def __init__(self, nodes: int = 2, netns: bool = False, rate: float | None = None) -> None:
        tag = f"s{os.getpid()}x{next(_numbers)}"
        self.nodes = [f"{tag}n{number}" for number in range(nodes)]
        self._spaces = Hosts(nodes, rate or 1e10) if netns else None
        self._daemons: dict[str, int] = {}
        self._jobs: list[str] = []

    # -----------------------------------------------------------------------------------------
    # Up and down
    # -----------------------------------------------------------------------------------------

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix="sngd-slurm-", dir="/tmp"))  # a socket's path is short
        self.folder.chmod(0o755)
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End jobs, daemons and what they have started; leave /etc/hosts as it was."""
        for pid in self._processes():
            kill(pid, signal.SIGKILL)
        for pid in reversed(self._daemons.values()):
            kill(pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            until(lambda: not any(alive(pid) for pid in self._daemons.values()), 5, "the daemons end")
        for pid in [*self._processes(), *filter(alive, self._daemons.values())]:
            kill(pid, signal.SIGKILL)
        if self._spaces:
            self._spaces.__exit__(None, None, None)
        edit_hosts([], self.nodes)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        if self._spaces:
            self._spaces.__enter__()
            execute("ip", "-n", self._spaces.switch, "address", "add", f"{_SUBNET}.254/24", "dev", "bridge")
            execute("ip", "-n", self._spaces.switch, "link", "set", "lo", "up")
        edit_hosts([f"{self._address(i)} {name}" for i, name in enumerate(self.nodes)], self.nodes)
        self._configure()
        self._start_munge()
        for name in ("state", *(f"spool.{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        self.call("slurmctld", "-i", "-f", str(self.folder / "slurm.conf"))
        self._daemons["slurmctld"] = read_pid(self.folder / "slurmctld.pid")
        for number in range(len(self.nodes)):
            self.start_node(number)
        until(lambda: self.states() == ["idle"] * len(self.nodes), 30, "all nodes are idle")

    def _address(self, node: int | None) -> str:
        """Of a node, None for the controller."""
        if not self._spaces:
            return "127.0.0.1"
        return f"{_SUBNET}.254" if node is None else f"{_SUBNET}.{node + 1}"

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        ports = free_ports(len(self.nodes) + 1)
        text = _CONFIGURATION.format(
            host=host, address=self._address(None), port=ports[-1], folder=self.folder
        )
        shape = f"CPUs={_CORES} Sockets=1 CoresPerSocket={_CORES} ThreadsPerCore=1 RealMemory=4000"
        for number, (name, port) in enumerate(zip(self.nodes, ports[:-1], strict=True)):
            text += (
                f"NodeName={name} NodeHostname={host} NodeAddr={self._address(number)} Port={port} "
                f"{shape} Gres=gpu:{_GPUS} State=UNKNOWN\n"
            )
        text += "PartitionName=main Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF\n"
        text += f"PartitionName=preempt Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime={GRACE}\n"
        (self.folder / "slurm.conf").write_text(text)
        for number in range(_GPUS):
            os.mknod(self.folder / f"gpu{number}", 0o020666, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-{_GPUS - 1}]\n")

    def _start_munge(self) -> None:
        place = self.folder / "munge"
        place.mkdir(mode=0o700)
        (place / "key").write_bytes(os.urandom(1024))
        (place / "key").chmod(0o400)
        files = {"key-file": "munge/key", "log-file": "munge/log", "seed-file": "munge/seed"}
        files |= {"pid-file": "munge/pid", "socket": "munge.socket"}
        execute("munged", "--force", *(f"--{name}={self.folder / path}" for name, path in files.items()))
        self._daemons["munged"] = read_pid(place / "pid")

    # -----------------------------------------------------------------------------------------
    # Commands and jobs
    # -----------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """For every command of Slurm: this cluster, and nothing of another job around this process."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        return kept | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def prefix(self, node: int | None = None) -> list[str]:
        """What runs a command where a node is, None for the controller.

        `ip netns exec` would hide /sys/fs/cgroup, without which slurmd does not start.
        """
        if not self._spaces:
            return []
        name = self._spaces.switch if node is None else self._spaces.nodes[node]
        return ["nsenter", f"--net=/run/netns/{name}"]

    def call(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        """Output of a command of Slurm.

        Raises:
            OSError: it failed; the message is its own.
        """
        return execute(*self.prefix(), *command, cwd=cwd, env=self.environment | variables)

    def submit(self, script: Path | str, *arguments: str, options: tuple[str, ...] = (), **more: str) -> str:
        """Submit a batch script; the number of the job. `more`: cwd, and variables of its environment."""
        cwd = Path(more.pop("cwd", "."))
        job = self.call("sbatch", "--parsable", *options, str(script), *arguments, cwd=cwd, **more).strip()
        self._jobs.append(job)
        return job

    def show(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says: JobState, Restarts, ExitCode, Reason, NodeList, …"""
        return _fields(self.call("scontrol", "show", "job", job, "--oneliner"))

    def wait(self, job: str, seconds: float = 60, states: tuple[str, ...] = ()) -> dict[str, str]:
        """Wait until a job is in one of the states, or else in any from which it does not come back."""
        over = states or (
            "COMPLETED",
            "FAILED",
            "CANCELLED",
            "TIMEOUT",
            "NODE_FAIL",
            "PREEMPTED",
            "BOOT_FAIL",
        )
        shown = self.show(job)
        end = time.monotonic() + seconds
        while shown["JobState"] not in over:
            if time.monotonic() > end:
                raise TimeoutError(f"job {job} is not {' or '.join(over)} after {seconds} s: {shown}")
            time.sleep(0.1)
            shown = self.show(job)
        return shown

    def cancel(self, job: str, *options: str) -> None:
        """`scancel`, e.g. with --signal=USR1."""
        self.call("scancel", *options, job)

    def requeue(self, job: str) -> None:
        """`scontrol requeue`."""
        self.call("scontrol", "requeue", job)

    # -----------------------------------------------------------------------------------------
    # Nodes
    # -----------------------------------------------------------------------------------------

    def states(self) -> list[str]:
        """Of the nodes: idle, mixed, alloc, down*, …"""
        listed = self.call("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %t")
        found = dict(line.split() for line in listed.splitlines())
        return [found.get(name, "") for name in self.nodes]

    def start_node(self, number: int) -> None:
        """Start a node's slurmd."""
        name = self.nodes[number]
        pid_file = self.folder / f"slurmd.{name}.pid"
        pid_file.unlink(missing_ok=True)
        daemon = ["slurmd", "-N", name, "-f", str(self.folder / "slurm.conf")]
        execute(*self.prefix(number), *daemon, env=self.environment)
        self._daemons[name] = read_pid(pid_file)

    def kill_node(self, number: int, processes: bool = True) -> None:
        """SIGKILL a node's slurmd, and with it all processes of its jobs, as if the power had failed.

        Args:
            number: of the node.
            processes: False kills the daemon alone and leaves the jobs' processes to themselves.
        """
        name = self.nodes[number]
        kill(self._daemons.pop(name), signal.SIGKILL)
        while processes and (left := self._processes(name)):
            for pid in left:
                kill(pid, signal.SIGKILL)

    def _processes(self, node: str | None = None) -> list[int]:
        """Of this cluster's jobs, the step daemons first: they would report the end of the others."""
        place = os.fsencode(f"SLURM_CONF={self.folder}/slurm.conf")
        where = None if node is None else os.fsencode(f"SLURMD_NODENAME={node}")
        tasks, keepers = set(), set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError, IndexError, StopIteration):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if place in variables and b"SLURM_JOB_ID" in b"".join(variables):
                    if where is not None and where not in variables:
                        continue
                    tasks.add(int(entry.name))
                    keeper = parent(int(entry.name))
                    if Path(f"/proc/{keeper}/comm").read_text().startswith("slurmstepd"):
                        keepers.add(keeper)
        return [*keepers, *(tasks - keepers)]

    def processes(self, node: int, word: str) -> list[int]:
        """Processes of jobs on a node whose command line holds a word, in order of their numbers."""
        found = []
        for pid in self._processes(self.nodes[node]):
            with contextlib.suppress(OSError):
                if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return sorted(found)


def _fields(line: str) -> dict[str, str]:
    return dict(re.findall(r"(\S+?)=(.*?)(?= \S+?=|\s*$)", line))
