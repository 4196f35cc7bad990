"""A server that forks starts, the run that nobody disturbs, and the table of docs/reliability.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.kills import Undisturbed, undisturbed
from tests.faults.reliability import Table
from tests.faults.starts import Forks

TABLE = pytest.StashKey[Table]()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with Forks(hurry=0.2) as server:
        yield server


@pytest.fixture(scope="session")
def reference(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Two ranks, undisturbed."""
    return undisturbed(forks, tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run; others than root may write beside it."""
    os.chmod(tmp_path, 0o777)
    return tmp_path / "run"


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    """What the tests find, for docs/reliability.md."""
    return request.config.stash.setdefault(TABLE, Table(request.config.getoption("--write-reliability")))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if TABLE in session.config.stash:
        session.config.stash[TABLE].write()
