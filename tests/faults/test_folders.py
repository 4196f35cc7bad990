"""Several starts on one folder, clocks that jump, a residual that is NaN on one rank."""

from __future__ import annotations

import json
import time

import pytest

from sngd.exit_codes import RESUME, SUPERSEDED, USER_ERROR
from tests.faults.kills import check_end, command
from tests.faults.looks import EQUAL, at_step, files, go_on
from tests.histories import losses, steps

pytestmark = pytest.mark.launch

SLOW = "0.002"


def new(folder) -> list[str]:
    return [part for part in command(folder) if part != "--resume"]


def test_two_new_runs_at_the_same_moment(forks, folder, reference, table):
    ended = sorted(start.wait() for start in [forks.start(new(folder), SLOW=SLOW) for _ in range(2)])
    (_, nothing), (code, said) = ended
    assert (ended[0][0], code, nothing) == (0, USER_ERROR, "")
    assert "exists; nothing is overwritten" in said
    assert len(said.strip().splitlines()) == 1
    check_end(folder, reference)
    line = said.replace("go on with the run in it by --resume, ", "")  # if it has a checkpoint by then
    table.row("two new runs on one folder at the same moment", line, code, "one of them runs undisturbed")


def test_a_new_run_on_the_folder_of_another(forks, folder, reference, table):
    assert forks.start(new(folder)).wait() == (0, "")
    left = files(folder)
    code, said = forks.start(new(folder)).wait()
    assert code == USER_ERROR
    assert files(folder) == left
    table.row("a new run on the folder of an earlier one", said, code, "the earlier one is untouched")


def test_a_resume_while_the_run_still_runs(forks, folder, reference, table):
    first = forks.start(command(folder), SLOW="0.2")  # the second is there before it has ended
    at_step(folder, 4)
    second = forks.start(command(folder))
    code, said = first.wait()
    assert code == SUPERSEDED
    assert second.wait() == (0, "")
    check_end(folder, reference)
    after = "the first ends after its step and writes nothing; the second goes on and ends with the same θ"
    table.row("`sngd resume` while the run still runs", said, code, after)


def test_two_resumes_at_the_same_moment(forks, folder, reference):
    assert forks.start([*command(folder), "--max-steps", "9"]).wait() == (0, "")
    ended = [start.wait() for start in [forks.start(command(folder), SLOW=SLOW) for _ in range(2)]]
    assert sorted(code for code, _ in ended) == [0, SUPERSEDED], ended
    check_end(folder, reference)


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_jumps(forks, folder, reference, table, tmp_path, jump):
    trigger = tmp_path / "trigger"
    start = forks.start(command(folder), faults={"jump": jump, "at": str(trigger)})
    at_step(folder, 4)
    trigger.touch()
    assert start.wait() == (0, "")
    check_end(folder, reference)
    if jump > 0:
        table.row("the clock jumps by three years, forwards or backwards", "", 0, "nothing depends on it")


def test_a_clock_that_jumps_over_the_end_of_a_job(forks, folder, reference, table, tmp_path):
    trigger, end = tmp_path / "trigger", str(int(time.time()) + 3600)
    start = forks.start(command(folder), faults={"jump": 1e8, "at": str(trigger)}, SLURM_JOB_END_TIME=end)
    at_step(folder, 4)
    trigger.touch()
    code, said = start.wait()
    assert (code, said) == (RESUME, "")
    assert json.loads((folder / "result.json").read_text())["stop_reason"] == "time_limit"
    assert steps(folder)[-1] < len(reference.losses)
    go_on(forks, folder, reference)
    after = f"stops as at the end of the job, with a checkpoint; {EQUAL}"
    table.row("the clock jumps beyond the end of the Slurm job", said, code, after)


def test_a_residual_that_is_nan_on_one_rank(forks, folder, reference, table, tmp_path):
    trigger = tmp_path / "trigger"
    start = forks.start(command(folder), FAULT_IN_RESIDUAL=f"1:nan:{trigger}")
    at_step(folder, 4)
    trigger.touch()
    code, said = start.wait()
    assert code == USER_ERROR
    assert said.count("error: ") == 1
    assert "condition 'equation' has residual nan at " in said
    assert "(rank 1)" in said
    assert forks.start(command(folder)).wait() == (0, "")
    assert steps(folder) == list(range(1, len(reference.losses) + 1))
    assert losses(folder)[:4] == reference.losses[:4]  # the step that met NaN may have ended early
    assert losses(folder)[-1] < losses(folder)[3]
    after = "the last finite state is kept, from which a run with a mended residual goes on"
    told = "error: … " + said[said.index("condition 'equation'") :]  # the matrix that was met first is chance
    table.row("NaN in the residual of one rank, at some step", told, code, after)
