"""A run that goes on with more ranks, and with fewer: the losses of one that had one rank all the time."""

from __future__ import annotations

import json

import pytest

from tests.faults.starts import CONFIG
from tests.histories import losses, steps

pytestmark = pytest.mark.launch

STEPS = 4  # with each number of ranks; longer runs drift apart by rounding (METHOD.md)


def command(folder, ranks: int, last: int, optimizer: str) -> list[str]:
    shared = ["--quiet", "--resume", "--run-dir", str(folder), "--max-steps", str(last)]
    return ["train", CONFIG, "--ranks", str(ranks), *shared, "--optimizer", optimizer]


@pytest.mark.parametrize("optimizer", ["sngd", "adam"])
@pytest.mark.parametrize("sizes", [(2, 3, 1), (1, 4, 2)])
def test_the_number_of_ranks_changes(forks, tmp_path, sizes, optimizer):
    alone, changing = tmp_path / "alone", tmp_path / "changing"
    assert forks.start(command(alone, 1, STEPS * len(sizes), optimizer)).wait() == (0, "")
    for number, size in enumerate(sizes, 1):
        assert forks.start(command(changing, size, STEPS * number, optimizer)).wait() == (0, "")
        assert json.loads((changing / "config.json").read_text())["world_size"] == size
    assert steps(changing) == steps(alone) == list(range(1, STEPS * len(sizes) + 1))
    assert losses(changing) == pytest.approx(losses(alone), rel=1e-10)
    assert losses(changing)[-1] < 0.9 * losses(changing)[0]
