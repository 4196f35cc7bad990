"""What a run decides before it starts."""

import pytest
import torch

from sngd import MLP, RunConfig
from sngd.problems import burgers, heat
from sngd.run import _pick_threads


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
        _pick_threads(RunConfig(problem, MLP(hidden=(20, 20, 20, 20))), torch.device("cpu"))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
