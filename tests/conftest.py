import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# The same examples in every run: a failure in CI is a failure on the desk.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _default_dtype():
    """A test that changes torch's default dtype does not change the next one's."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-reliability",
        action="store_true",
        help="write what tests/faults finds into the table of docs/reliability.md",
    )
