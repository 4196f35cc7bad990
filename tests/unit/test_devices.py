"""Which device a rank takes, and how many ranks `--ranks` starts, under launchers."""

import pytest
import torch

from sngd import MLP, RunConfig
from sngd.commands.runs import rank_count
from sngd.devices import pick_device, pick_threads
from sngd.launcher import Launch
from sngd.problems import burgers, heat

ALONE = Launch("alone")


@pytest.fixture
def gpus(monkeypatch):
    """A machine that shows so many GPUs; what is set as the current one."""
    current = []

    def show(count, restricted=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", current.append)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if restricted is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", restricted)
        return current

    return show


def test_a_local_rank_takes_its_own_gpu(gpus):
    current = gpus(4)
    assert pick_device("auto", Launch("torchrun", 6, 8, 2, 4, 2)) == torch.device("cuda", 2)
    assert current == [torch.device("cuda", 2)]
    assert pick_device("cpu", Launch("torchrun", 6, 8, 2, 4, 2)) == torch.device("cpu")


def test_a_task_that_is_shown_one_gpu_takes_it(gpus):
    gpus(1, restricted="1")
    assert pick_device("cuda", Launch("srun", 1, 2, 1, 2, 1)) == torch.device("cuda", 0)
    with pytest.raises(ValueError, match="local rank 1 has no GPU of its own: this machine shows 1"):
        pick_device("cuda", Launch("torchrun", 1, 2, 1, 2, 1))


def test_more_ranks_than_gpus_are_refused(gpus):
    gpus(2)
    with pytest.raises(ValueError, match="local rank 2 has no GPU of its own: this machine shows 2"):
        pick_device("auto", Launch("srun", 2, 4, 2, 4, 1))
    gpus(0)
    with pytest.raises(ValueError, match="torch finds no CUDA device here"):
        pick_device("cuda", ALONE)


def test_ranks_are_started_by_one_of_both(gpus):
    gpus(3)
    assert rank_count("auto", "auto", ALONE) == 3
    assert rank_count("4", "cpu", ALONE) == 4
    # a step of one task has started nobody else; torchrun with one rank has its own rendezvous
    assert rank_count("auto", "cuda", Launch("srun")) == 3
    assert rank_count("auto", "auto", Launch("torchrun")) == 1
    assert rank_count("1", "auto", Launch("openmpi", 1, 2, 1, 2)) == 1
    with pytest.raises(ValueError) as refused:
        rank_count("2", "auto", Launch("openmpi", 1, 2, 1, 2))
    told = "--ranks=2, but mpirun (Open MPI) has already started 2 ranks: leave --ranks out"
    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("problem", "set_by_user", "threads"),
    [(heat(60, 10, 20), None, 1), (burgers(), None, 2), (heat(60, 10, 20), "2", 2)],
    ids=["small", "large", "chosen by the user"],
)
def test_small_problems_take_one_thread_unless_told_otherwise(monkeypatch, problem, set_by_user, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pick_threads(RunConfig(problem, MLP(hidden=(20, 20, 20, 20))), torch.device("cpu"))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
