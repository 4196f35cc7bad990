"""The suites as they are: tasks agree with the configs of the same name, names of pictures do not collide."""

from pathlib import Path

import pytest

from sngd import problems
from sngd.bench.definition import Entry, Suite, build, jobs_of
from sngd.bench.figures import picture_name
from sngd.bench.suites import SUITES, TASKS
from sngd.config import describe
from sngd.config_files import load_source

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize("name", [name for name in TASKS if (CONFIGS / f"{name}.py").exists()])
def test_a_task_is_the_config_of_its_name(name):
    suite = Suite("", {name: TASKS[name]}, {"sngd": Entry("sngd")}, 1)
    (job,) = jobs_of(suite)
    mine, config = build(job.spec), load_source(CONFIGS / f"{name}.py")[0]
    for field in ("problem", "network", "balance", "resample_every", "target_error", "precision"):
        assert describe(mine)[field] == describe(config)[field], field


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_tasks_and_entries_and_pictures_of_their_own(name):
    suite = SUITES[name]
    assert suite.tasks
    assert suite.entries
    assert len({picture_name(task) for task in suite.tasks}) == len(suite.tasks)
    for task in suite.tasks.values():
        assert set(task.tuned) <= {label for other in SUITES.values() for label in other.entries}


@pytest.mark.parametrize("name", SUITES)
def test_what_this_package_has_can_be_built(name):
    suite = SUITES[name]
    there = [task for task, what in suite.tasks.items() if what.problem in problems.__all__]
    jobs = list(jobs_of(suite, tasks=there, labels=["sngd"], seeds=1))
    assert [job.task for job in jobs] == there
