"""What an environment says of the launcher; the environments are copies of real ones."""

import subprocess

import pytest

from sngd import launcher
from sngd.launcher import Launch, detect, job_deadline

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "36483",
    "TORCHELASTIC_RUN_ID": "15e1a497",
    "TORCHELASTIC_MAX_RESTARTS": "0",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}
SNGD = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "40001",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "SNGD_LOCAL_RANKS": "2",
}
DEEPSPEED = {
    "CROSS_RANK": "0",
    "CROSS_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "RANK": "1",
    "WORLD_SIZE": "4",
}
OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_SIZE": "6",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_NODE_RANK": "1",
    "PMIX_RANK": "5",
}
MPICH = {
    "MPI_LOCALNRANKS": "2",
    "MPI_LOCALRANKID": "1",
    "PMI_FD": "9",
    "PMI_RANK": "1",
    "PMI_SIZE": "2",
}
BATCH = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_LOCALID": "0",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_TASKS_PER_NODE": "2(x2)",
}
SRUN = BATCH | {
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
HYDRA_IN_SLURM = SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"} | MPICH

FOUND = {
    "nothing": ({}, Launch("alone")),
    "one rank by hand": ({"WORLD_SIZE": "1"}, Launch("alone")),
    "torchrun": (TORCHRUN, Launch("torchrun", 3, 4, 1, 2, 2)),
    "elastic": (
        TORCHRUN | {"TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_RESTART_COUNT": "2"},
        Launch("torchrun", 3, 4, 1, 2, 2, restart=2, elastic=True),
    ),
    "sngd": (SNGD, Launch("sngd", 1, 2, 1, 2, 1)),
    "deepspeed": (DEEPSPEED, Launch("deepspeed", 1, 4, 1, 2, 2)),
    "Open MPI": (OPENMPI, Launch("openmpi", 5, 6, 1, 2, 3)),
    "MPICH": (MPICH, Launch("mpich", 1, 2, 1, 2, 1)),
    "by hand": (
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "9"},
        Launch("variables", 1, 2, 1, 2, 1),
    ),
    "a batch script": (BATCH, Launch("alone", job="17")),
    "srun": (SRUN, Launch("srun", 3, 4, 1, 2, 2, job="17")),
    "an array that was requeued": (
        SRUN
        | {
            "SLURM_ARRAY_JOB_ID": "15",
            "SLURM_ARRAY_TASK_ID": "2",
            "SLURM_RESTART_COUNT": "1",
            "SLURM_JOB_END_TIME": "1790000000",
        },
        Launch("srun", 3, 4, 1, 2, 2, restart=1, deadline=1790000000.0, job="15_2"),
    ),
    "uneven nodes": (
        SRUN | {"SLURM_STEP_TASKS_PER_NODE": "2,1(x2)", "SLURM_NODEID": "2", "SLURM_LOCALID": "0"},
        Launch("srun", 3, 4, 0, 1, 2, job="17"),
    ),
    "torchrun in srun": (
        BATCH | SRUN | TORCHRUN | {"SLURM_RESTART_COUNT": "1", "TORCHELASTIC_RESTART_COUNT": "1"},
        Launch("torchrun", 3, 4, 1, 2, 2, restart=2, job="17"),
    ),
    "torchrun in mpirun": (OPENMPI | TORCHRUN, Launch("torchrun", 3, 4, 1, 2, 2)),
    "sngd in a step of one task": (
        SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"} | SNGD,
        Launch("sngd", 1, 2, 1, 2, 1, job="17"),
    ),
    "mpirun in srun": (HYDRA_IN_SLURM, Launch("mpich", 1, 2, 1, 2, 1, job="17")),
    "srun with PMI": (SRUN | {"PMI_RANK": "3", "PMI_SIZE": "4"}, Launch("srun", 3, 4, 1, 2, 2, job="17")),
    "srun whose script exports as much": (
        SRUN | {"RANK": "3", "WORLD_SIZE": "4"},
        Launch("srun", 3, 4, 1, 2, 2, job="17"),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_launcher_is_recognised(name):
    environment, want = FOUND[name]
    assert detect(environment) == want


HAND = {"MASTER_ADDR": "host", "MASTER_PORT": "29500"}
REFUSED = {
    "a size exported before mpirun": (
        OPENMPI | {"WORLD_SIZE": "4"},
        "WORLD_SIZE=4 disagrees with OMPI_COMM_WORLD_SIZE=6 (start 6 ranks): unset",
    ),
    "a rank exported before mpirun": (
        MPICH | {"RANK": "0", "WORLD_SIZE": "2"},
        "RANK=0 disagrees with PMI_RANK=1",
    ),
    "a size exported before srun": (
        SRUN | {"WORLD_SIZE": "2"},
        "WORLD_SIZE=2 disagrees with SLURM_STEP_NUM_TASKS=4 (srun starts 4 tasks)",
    ),
    "a size alone": ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set but RANK is missing: start the ranks by"),
    "a rank alone": (HAND | {"RANK": "0"}, "WORLD_SIZE is missing from the environment beside RANK=0"),
    "too high a rank": (
        HAND | {"RANK": "2", "WORLD_SIZE": "2"},
        "RANK=2 must be below WORLD_SIZE=2: ranks are counted from 0",
    ),
    "no number": (HAND | {"RANK": "one", "WORLD_SIZE": "2"}, "RANK='one' in the environment must be a whole"),
    "negative": (HAND | {"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1' in the environment must be a whole"),
    "no ranks": (HAND | {"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE='0' in the environment must be"),
    "no rendezvous": (
        {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "host"},
        "RANK=0 and WORLD_SIZE=2 are set but MASTER_PORT missing",
    ),
    "torchrun without its rank": ({"TORCHELASTIC_RUN_ID": "x"}, "RANK is missing from the environment"),
    "too high a local rank": (
        TORCHRUN | {"LOCAL_RANK": "2"},
        "local rank 2 of 2 on this node, 4 ranks in all: torchrun's variables contradict each other",
    ),
    "a node that does not exist": (
        SRUN | {"SLURM_NODEID": "2"},
        "SLURM_NODEID=2 is not among SLURM_STEP_TASKS_PER_NODE='2(x2)'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_contradiction_is_told_with_variables_and_values(name):
    environment, message = REFUSED[name]
    with pytest.raises(ValueError) as refused:
        detect(environment)
    assert str(refused.value).startswith(message)


def test_one_line_says_what_was_found():
    found = detect(OPENMPI)
    assert found.describe("cpu", "gloo", 600.0, "10.0.0.1:43211") == (
        "launched by mpirun (Open MPI): 6 ranks on 3 nodes, gloo on cpu, time-out 600 s, "
        "rendezvous 10.0.0.1:43211"
    )
    again = detect(SRUN | {"SLURM_RESTART_COUNT": "1"}).describe("cuda", "nccl", 60.0, "node1:20017")
    assert again.endswith("restart 1, Slurm job 17")
    assert detect(BATCH).describe("cpu", "", 600.0, "") == ""


def answering(text):
    def run(command, **options):
        assert command[:1] == ["squeue"]
        if isinstance(text, Exception):
            raise text
        return subprocess.CompletedProcess(command, 0, text, "")

    return run


def test_slurm_is_asked_when_it_ends_a_job(monkeypatch):
    monkeypatch.setattr(launcher.subprocess, "run", answering("2026-11-24T14:41:06\n"))
    first = job_deadline("1")
    monkeypatch.setattr(launcher.subprocess, "run", answering("2026-11-24T14:42:36\n"))
    assert first is not None
    assert job_deadline("1") == first + 90


@pytest.mark.parametrize(
    "answer", ["", "N/A", FileNotFoundError("squeue"), subprocess.TimeoutExpired("squeue", 5)]
)
def test_a_slurm_that_does_not_answer_leaves_the_deadline_open(monkeypatch, answer):
    monkeypatch.setattr(launcher.subprocess, "run", answering(answer))
    assert job_deadline("1") is None
