"""Bad input of every kind is refused in one line; no traceback, no hang, no value changed in silence."""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.judging import Tally, surroundings
from tests.fuzz.properties import PROPERTIES, workplace

# How many in all; `make fuzz` takes 10,000.
EXAMPLES = int(os.environ.get("SNGD_FUZZ_EXAMPLES", "500"))


@pytest.fixture(scope="module", autouse=True)
def _workplace(tmp_path_factory):
    with workplace(tmp_path_factory.mktemp("fuzz")):
        yield


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", PROPERTIES)
def test_bad_input_is_refused_and_good_input_is_kept(kind):
    run_property(kind, Tally(), EXAMPLES)


def run_property(kind: str, tally: Tally, examples: int) -> Tally:
    """Try the property of one kind on its share of the examples."""
    check, strategy, share = PROPERTIES[kind]

    @settings(
        max_examples=max(1, round(share * examples)),
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if tally.strict else [Phase.generate],
    )
    @given(st.deferred(strategy))
    def tried(example):
        with surroundings():
            check(tally, example)

    tried()
    return tally
