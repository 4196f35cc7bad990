"""Rules that read losses: when they find something and when not, and that they go on from numbers alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sngd.progress import FALL, GROWTH, RATIO, WINDOW, Generalization, Stagnation


def _looks(pairs, rule=None):
    rule = rule or Generalization()
    return [rule.look(10 * n, h, t) for n, (h, t) in enumerate(pairs)]


def test_a_hold_out_loss_that_stays_while_the_training_loss_falls_is_found():
    found = _looks([(1.0, 1.0), (0.9, 0.5), (0.8, 1e-3), (0.8, 1e-6)])
    assert found == [None, None, (0, 1.0, 1.0), (0, 1.0, 1.0)]


def test_a_hold_out_loss_that_rises_is_found_since_it_was_there_before():
    found = _looks([(1.0, 1.0), (1e-2, 1e-2), (1e-4, 1e-4), (1e-2, 1e-6)])
    assert found == [None, None, None, (10, 1e-2, 1e-2)]


def test_a_hold_out_loss_that_creeps_down_is_found():
    found = _looks([(0.95**n, 10.0**-n) for n in range(8)])
    assert found[0] is found[1] is None
    assert found[-1] == (0, 1.0, 1.0)


@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=30), st.floats(0.01, RATIO))
def test_losses_that_go_together_are_never_found(losses, ratio):
    assert set(_looks([(ratio * t, t) for t in losses])) == {None}


@given(st.floats(RATIO * 2, 1e6))
def test_a_hold_out_loss_that_falls_as_fast_is_no_finding_however_far_above(ratio):
    falling = [10.0**-n for n in range(12)]
    assert set(_looks([(ratio * t, t) for t in falling])) == {None}


def test_a_training_loss_of_zero_is_overfitting_and_no_division():
    assert _looks([(1.0, 1.0), (1.0, 0.0)]) == [None, (0, 1.0, 1.0)]
    assert _looks([(0.0, 0.0), (0.0, 0.0)]) == [None, None]


@given(st.lists(st.tuples(st.floats(1e-9, 1e3), st.floats(1e-9, 1e3)), min_size=2, max_size=20), st.data())
def test_the_rule_of_overfitting_goes_on_from_its_numbers(pairs, data):
    cut = data.draw(st.integers(1, len(pairs) - 1))
    before = Generalization()
    _looks(pairs[:cut], before)
    after = Generalization([tuple(low) for low in before.lows])
    whole = Generalization()
    assert _looks(pairs, whole)[cut:] == [
        after.look(10 * (cut + n), *pair) for n, pair in enumerate(pairs[cut:])
    ]
    assert whole.lows == after.lows


def test_growth_alone_or_a_ratio_alone_does_not_do():
    assert _looks([(0.01, 1.0), (0.01, 0.9e-2 / RATIO)])[-1] is not None
    assert _looks([(0.01, 1.0), (0.01, 0.011 / RATIO)])[-1] is None, "the ratio is small still"
    assert _looks([(10 * RATIO, 1.0), (10 * RATIO, 1.1 / GROWTH)])[-1] is None, "it was as large before"


# ---------------------------------------------------------------------------------------------
# Stagnation
# ---------------------------------------------------------------------------------------------


def _found(losses, rule=None):
    """Steps at which the rule finds something."""
    rule = rule or Stagnation()
    return [n for n, loss in enumerate(losses, 1) if rule.after(loss, True)]


def test_a_constant_loss_is_found_once_the_window_is_over():
    found = _found([1.0] * (2 * WINDOW))
    assert WINDOW <= found[0] <= WINDOW + 15
    assert found == list(range(found[0], 2 * WINDOW + 1))


@pytest.mark.parametrize("per_window", [1.2 * FALL, 0.5, 1 - 1e-6])
def test_a_loss_that_falls_enough_in_every_window_is_not(per_window):
    rate = (1 - per_window) ** (1 / (WINDOW - 12))
    assert _found([rate**n for n in range(20 * WINDOW)]) == []


def test_the_longer_a_run_the_more_time_it_has():
    falls = [0.97**n for n in range(400)]
    flat = [falls[-1]] * 400
    since = _found(falls + flat)[0]
    assert 400 + 150 < since < 400 + 250


@pytest.mark.parametrize("loss", [0.0, 1e-320])
def test_a_loss_of_nothing_has_a_logarithm(loss):
    assert math.isfinite(_after([loss] * 3).smoothed)


def _after(losses):
    rule = Stagnation()
    for loss in losses:
        rule.after(loss, True)
    return rule


def test_noise_is_no_progress_and_no_stagnation():
    """Losses that go up and down by half, around a level that stays or halves in every window."""
    noise = [1.5 if n % 3 else 0.5 for n in range(6 * WINDOW)]
    assert _found(noise)[0] < 2 * WINDOW
    assert _found([x * 0.5 ** (n / WINDOW) for n, x in enumerate(noise)]) == []


def test_a_finding_is_over_when_the_loss_falls_again():
    losses = [1.0] * (WINDOW + 20) + [0.1] * 10
    found = _found(losses)
    assert WINDOW < found[-1] < len(losses)


def test_refused_steps_are_counted_since_the_loss_fell():
    rule = Stagnation()
    for n in range(30):
        rule.after(1.0, n % 2 == 0)
    assert rule.refused == (rule.steps - rule.since) / 2 == 10
    rule.after(1e-3, True)
    assert rule.refused == 0


def test_stagnation_goes_on_from_its_numbers():
    losses = [1 / n for n in range(1, 50)] + [0.02] * 150
    whole, first = Stagnation(), Stagnation()
    for loss in losses[:120]:
        first.after(loss, True)
    second = Stagnation(**vars(first))
    assert [s for s in _found(losses, whole) if s > 120] == [120 + s for s in _found(losses[120:], second)]
    assert vars(second) == vars(whole)
