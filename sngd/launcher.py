"""Which launcher started this process, and as which rank of how many: read from the environment alone.

What launchers set (seen with torch 2.13, DeepSpeed 0.19, Open MPI 5.0, MPICH 5.0, Slurm 22.05):

    torchrun   RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, GROUP_WORLD_SIZE, TORCHELASTIC_*
    deepspeed  RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_SIZE, CROSS_RANK, CROSS_SIZE
    sngd       as torchrun up to LOCAL_WORLD_SIZE, and SNGD_LOCAL_RANKS
    Open MPI   OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE
    MPICH      PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS
    srun       SLURM_STEP_ID, SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NUM_TASKS, SLURM_STEP_TASKS_PER_NODE

The first of them that is there counts: a torchrun inside of srun is a torchrun. A batch script has
SLURM_PROCID and SLURM_NTASKS, too, although nobody else runs it: only a step has SLURM_STEP_ID.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

__all__ = ["MARK", "Launch", "detect", "job_deadline", "unlaunched"]

# Set by `sngd --ranks` for the ranks that it starts.
MARK = "SNGD_LOCAL_RANKS"
_SET_BY_LAUNCHERS = frozenset(
    "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE LOCAL_SIZE CROSS_RANK "
    f"CROSS_SIZE MASTER_ADDR MASTER_PORT {MARK}".split()
)
_PREFIXES = ("TORCHELASTIC_", "OMPI_COMM_", "PMI_", "PMIX_", "MPI_LOCAL", "SLURM_STEP_")
_TITLES = {
    "sngd": "sngd --ranks",
    "variables": "RANK and WORLD_SIZE of the environment",
    "openmpi": "mpirun (Open MPI)",
    "mpich": "mpirun (MPICH)",
}


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Args:
        launcher: "alone", "sngd", "torchrun", "deepspeed", "openmpi", "mpich", "srun", or "variables" where
            RANK and WORLD_SIZE were set by hand.
        rank: of this process, 0 ≤ rank < size.
        size: processes.
        local_rank: of this process among those on its node.
        local_size: processes on its node.
        nodes: machines; where the launcher does not tell, as if all had as many processes as this one.
        restart: times that these ranks were started before, by torchrun or by Slurm.
        deadline: when Slurm ends the job, in seconds since 1970; None if that is not known.
        job: Slurm's job, "123" or "123_4" of an array.
        elastic: torchrun starts the ranks again when one is lost.
    """

    launcher: str
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    nodes: int = 1
    restart: int = 0
    deadline: float | None = None
    job: str | None = None
    elastic: bool = False

    @property
    def rendezvous_given(self) -> bool:
        """Whether the launcher names the rendezvous: MASTER_ADDR and MASTER_PORT."""
        return self.launcher in ("sngd", "torchrun", "deepspeed", "variables")

    @property
    def title(self) -> str:
        """The launcher as users know it."""
        return _TITLES.get(self.launcher, self.launcher)

    def describe(self, device: str, backend: str, timeout_seconds: float, rendezvous: str) -> str:
        """One line on what was found; empty for a process alone, of which there is nothing to say."""
        if self.launcher == "alone":
            return ""
        found = [f"{_count(self.size, 'rank')} on {_count(self.nodes, 'node')}"]
        if self.size > 1 or self.rendezvous_given:
            found += [f"{backend} on {device}", f"time-out {timeout_seconds:g} s", f"rendezvous {rendezvous}"]
        if self.restart:
            found.append(f"restart {self.restart}")
        if self.job:
            found.append(f"Slurm job {self.job}")
        return f"launched by {self.title}: {', '.join(found)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def unlaunched(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what launchers set, for a program that is to be nobody's rank."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _SET_BY_LAUNCHERS and not name.startswith(_PREFIXES)
    }


def detect(environment: Mapping[str, str]) -> Launch:
    """What an environment says, of torchrun, deepspeed, sngd --ranks, MPI, srun, or nothing.

    Args:
        environment: os.environ.

    Raises:
        ValueError: variables are missing, no numbers, out of range, or two launchers disagree.
    """
    seen = _Variables(environment)
    if "TORCHELASTIC_RUN_ID" in environment:
        found = _from_torchrun(seen)
    elif "CROSS_RANK" in environment and "CROSS_SIZE" in environment and "RANK" in environment:
        nodes = seen.whole("CROSS_SIZE", least=1)
        found = replace(_from_rank(seen, "deepspeed", "LOCAL_SIZE"), nodes=nodes)
    elif MARK in environment:
        found = _from_rank(seen, "sngd", "LOCAL_WORLD_SIZE")
    else:
        found = _from_mpi(seen) or _from_srun(seen) or _by_hand(seen)
    if not found.local_rank < found.local_size <= found.size:
        raise ValueError(
            f"local rank {found.local_rank} of {found.local_size} on this node, {found.size} ranks in all: "
            f"{found.launcher}'s variables contradict each other; were some exported by hand? unset them"
        )
    end = environment.get("SLURM_JOB_END_TIME", "")
    return replace(
        found,
        restart=found.restart + seen.whole("SLURM_RESTART_COUNT", default=0),
        deadline=float(end) if end.isdecimal() else None,
        job=_job(environment),
    )


class _Variables:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self.given = environment

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def whole(self, name: str, *, least: int = 0, default: int | None = None) -> int:
        """The number that a variable holds."""
        text = self.given.get(name)
        if text is None and default is not None:
            return default
        if text is None:
            raise ValueError(f"{name} is missing from the environment beside {self._beside()}")
        if not text.isdecimal() or int(text) < least:
            raise ValueError(f"{name}={text!r} in the environment must be a whole number ≥ {least}")
        return int(text)

    def rank_of(self, rank_name: str, size_name: str) -> tuple[int, int]:
        rank, size = self.whole(rank_name), self.whole(size_name, least=1)
        if rank >= size:
            raise ValueError(
                f"{rank_name}={rank} must be below {size_name}={size}: ranks are counted from 0; "
                "was one of them exported by hand? unset it"
            )
        return rank, size

    def _beside(self) -> str:
        known = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_ID")
        there = [f"{name}={self.given[name]}" for name in known if name in self.given]
        return ", ".join(there) or "what the launcher sets"


def _from_rank(seen: _Variables, launcher: str, local_size: str) -> Launch:
    """RANK, WORLD_SIZE and a rendezvous, as torchrun began it."""
    rank, size = seen.rank_of("RANK", "WORLD_SIZE")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in seen]
    if missing:
        raise ValueError(
            f"RANK={rank} and WORLD_SIZE={size} are set but {' and '.join(missing)} missing: set the address "
            "and a free port of rank 0, or unset RANK and WORLD_SIZE to train in one process"
        )
    here = seen.whole(local_size, least=1, default=size)
    local = seen.whole("LOCAL_RANK", default=rank % here)
    return Launch(launcher, rank, size, local, here, -(-size // here))


def _from_torchrun(seen: _Variables) -> Launch:
    found = _from_rank(seen, "torchrun", "LOCAL_WORLD_SIZE")
    return replace(
        found,
        nodes=seen.whole("GROUP_WORLD_SIZE", least=1, default=found.nodes),
        restart=seen.whole("TORCHELASTIC_RESTART_COUNT", default=0),
        elastic=seen.whole("TORCHELASTIC_MAX_RESTARTS", default=0) > 0,
    )


def _by_hand(seen: _Variables) -> Launch:
    if "RANK" in seen:
        return _from_rank(seen, "variables", "LOCAL_WORLD_SIZE")
    if seen.whole("WORLD_SIZE", least=1, default=1) > 1:
        raise ValueError(
            f"WORLD_SIZE={seen.given['WORLD_SIZE']} is set but RANK is missing: start the ranks by torchrun, "
            "mpirun or --ranks, which set both, or unset WORLD_SIZE to train in one process"
        )
    return Launch("alone")


def _from_mpi(seen: _Variables) -> Launch | None:
    if "OMPI_COMM_WORLD_SIZE" in seen:
        names = [f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")]
        launcher = "openmpi"
    elif "PMI_SIZE" in seen and ("MPI_LOCALNRANKS" in seen or "SLURM_STEP_ID" not in seen):
        names = ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"]
        launcher = "mpich"
    else:  # PMI_SIZE in a step without Hydra's names is srun --mpi=pmi2, where Slurm knows more
        return None
    rank, size = seen.rank_of(names[0], names[1])
    _check_agreement(seen, {"RANK": names[0], "WORLD_SIZE": names[1]}, f"start {size} ranks")
    here = seen.whole(names[3], least=1, default=seen.whole("LOCAL_WORLD_SIZE", least=1, default=size))
    local = seen.whole(names[2], default=seen.whole("LOCAL_RANK", default=rank % here))
    return Launch(launcher, rank, size, local, here, -(-size // here))


def _from_srun(seen: _Variables) -> Launch | None:
    if "SLURM_STEP_ID" not in seen or "SLURM_STEP_NUM_TASKS" not in seen:
        return None
    rank, size = seen.rank_of("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    agreed = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS"}
    _check_agreement(seen, agreed, f"srun starts {size} tasks")
    nodes = seen.whole("SLURM_STEP_NUM_NODES", least=1, default=1)
    here = _tasks_here(seen, size)
    return Launch("srun", rank, size, seen.whole("SLURM_LOCALID"), here, nodes)


def _tasks_here(seen: _Variables, size: int) -> int:
    """Tasks on this node, of a list like 4(x2),1."""
    text = seen.given.get("SLURM_STEP_TASKS_PER_NODE", str(size))
    counts: list[int] = []
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(tasks)] * int(times or 1)
    node = seen.whole("SLURM_NODEID", default=0)
    if node >= len(counts):
        raise ValueError(f"SLURM_NODEID={node} is not among SLURM_STEP_TASKS_PER_NODE={text!r}")
    return counts[node]


def _check_agreement(seen: _Variables, names: Mapping[str, str], what: str) -> None:
    """RANK and WORLD_SIZE may be exported beside a launcher's own variables if they say the same."""
    for ours, theirs in names.items():
        if ours in seen and seen.given[ours] != seen.given[theirs]:
            raise ValueError(
                f"{ours}={seen.given[ours]} disagrees with {theirs}={seen.given[theirs]} ({what}): "
                "unset RANK and WORLD_SIZE, the launcher sets what is needed"
            )


def _job(environment: Mapping[str, str]) -> str | None:
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")


def job_deadline(job: str, patience_seconds: float = 5.0) -> float | None:
    """When Slurm will end a job, in seconds since 1970; None when Slurm does not say.

    Slurm before 23.02 does not put it into the environment, so that `squeue` is asked.

    Args:
        job: as `Launch.job`.
        patience_seconds: how long an answer may take.
    """
    try:
        asked = subprocess.run(
            ["squeue", "--noheader", "--jobs", job, "--format", "%e"],
            capture_output=True,
            text=True,
            timeout=patience_seconds,
        )
        return datetime.fromisoformat(asked.stdout.strip()).timestamp()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
