"""Ranks that have ended at about the same time: which of them is told as the cause."""

from types import SimpleNamespace

import pytest

from sngd.exit_codes import DEVICE, LOST_RANK, USER_ERROR
from sngd.local_ranks import _wait


def ended(code):
    return SimpleNamespace(poll=lambda: code, wait=lambda timeout: code)


@pytest.mark.parametrize(
    ("codes", "code", "said"),
    [
        ((DEVICE, -9), 137, "error: rank 1 ended with signal 9; the other ranks were stopped\n"),
        ((1, -15), 143, "error: rank 1 ended with signal 15; the other ranks were stopped\n"),
        ((LOST_RANK, 1), 1, "error: rank 1 ended with exit code 1; the other ranks were stopped\n"),
        ((LOST_RANK, DEVICE), DEVICE, ""),
        ((-9, USER_ERROR), USER_ERROR, ""),
        ((0, LOST_RANK), LOST_RANK, "error: rank 1 ended with exit code 69; the other ranks were stopped\n"),
        ((0, 0), 0, ""),
    ],
)
def test_the_cause_comes_before_what_followed_from_it(codes, code, said, capsys):
    assert _wait([ended(one) for one in codes]) == code
    assert capsys.readouterr().err == said
