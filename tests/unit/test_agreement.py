"""θ compared over ranks, bit for bit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sngd import MLP
from sngd import agreement as module
from sngd.agreement import DivergedRanksError, compare, fingerprint
from sngd.collectives import LocalRanks
from sngd.composite import build_network
from tests.dense import random
from tests.problems import CASES
from tests.thread_ranks import on_ranks

INTEGERS = {torch.float64: torch.int64, torch.float32: torch.int32}
BITS = {torch.float64: 64, torch.float32: 32}
DTYPES = list(BITS)
ALL = (1 << 64) - 1


def reference(theta: torch.Tensor) -> int:
    """The fingerprint by Python's whole numbers."""
    total = 0
    for place, bits in enumerate(theta.view(INTEGERS[theta.dtype]).tolist(), start=1):
        x = (bits + place * 0x9E3779B97F4A7C15) & ALL
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & ALL
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & ALL
        total += x ^ (x >> 31)
    return total & ALL


def flipped(theta: torch.Tensor, place: int, bit: int) -> torch.Tensor:
    """θ with another bit."""
    bits = theta.clone().view(INTEGERS[theta.dtype])
    mask = 1 << bit
    bits[place] ^= mask - (1 << BITS[theta.dtype]) if bit == BITS[theta.dtype] - 1 else mask
    return bits.view(theta.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [0, 1, 7, 20, 21])
def test_the_fingerprint_is_that_of_whole_numbers_whatever_the_chunk(monkeypatch, dtype, length) -> None:
    theta = torch.cat([random(18), torch.tensor([math.nan, -0.0, math.inf], dtype=torch.float64)])
    theta = theta.flip(0)[:length].to(dtype).contiguous()
    whole = int(fingerprint(theta))
    assert whole & ALL == reference(theta)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert int(fingerprint(theta)) == whole


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit_of_every_entry_counts_and_so_do_places(dtype) -> None:
    theta = random(5).to(dtype)
    marks = {int(fingerprint(flipped(theta, place, bit))) for place in range(5) for bit in range(BITS[dtype])}
    assert len(marks | {int(fingerprint(theta))}) == 5 * BITS[dtype] + 1
    assert fingerprint(theta) != fingerprint(theta.flip(0).contiguous())
    assert fingerprint(theta) != fingerprint(torch.cat([theta, theta[:1] * 0]))


@pytest.mark.parametrize("bit", [63, 62, 52, 51, 1, 0])
def test_the_same_bit_in_two_entries_does_not_cancel(bit) -> None:
    """In a sum of bits times odd numbers two signs would."""
    theta = random(12)
    marks = {int(fingerprint(flipped(flipped(theta, a, bit), b, bit))) for a in range(12) for b in range(a)}
    assert len(marks) == 12 * 11 // 2


def test_minus_zero_and_the_payload_of_a_nan_count() -> None:
    zero = torch.zeros(3, dtype=torch.float64)
    nan = torch.full((3,), math.nan, dtype=torch.float64)
    assert fingerprint(zero) != fingerprint(-zero)
    assert fingerprint(nan) == fingerprint(nan.clone())
    assert fingerprint(nan) != fingerprint(flipped(nan, 1, 3))


def test_parameters_that_are_a_view_are_taken_as_they_stand() -> None:
    wide = random(6, 2)
    assert fingerprint(wide[:, 1]) == fingerprint(wide[:, 1].contiguous())


values = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(values, max_size=40), st.sampled_from(DTYPES), st.integers(1, 4))
def test_equal_parameters_are_never_told_apart(numbers, dtype, size) -> None:
    theta = torch.tensor(numbers, dtype=dtype)
    assert on_ranks(size, lambda ranks: compare(ranks, theta.clone(), 3)) == [None] * size


def test_one_process_gathers_nothing(monkeypatch) -> None:
    monkeypatch.delattr(LocalRanks, "gather")
    compare(LocalRanks(), random(4), 1)


def test_a_comparison_gathers_one_number_of_each_rank() -> None:
    def work(ranks):
        compare(ranks, random(1000), 1)
        return ranks.traffic["check"].bytes

    assert on_ranks(3, work) == [3 * 8] * 3


def told(size: int, thetas: list[torch.Tensor], network=None) -> str:
    """What all ranks raise."""

    def work(ranks) -> str:
        with pytest.raises(DivergedRanksError) as caught:
            compare(ranks, thetas[ranks.rank], 17, network)
        return str(caught.value)

    first, *others = on_ranks(size, work)
    assert others == [first] * (size - 1)
    assert "\n" not in first
    return first


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [3, 4])
def test_the_rank_that_differs_is_named_with_where_and_how_much(monkeypatch, size, dtype) -> None:
    monkeypatch.setattr(module, "_GATHERED", 11 * size)  # in several chunks
    theta = random(50).to(dtype)
    other = flipped(flipped(theta, 23, 7), 41, 2)
    gap = float((other.double() - theta.double()).abs().max())
    text = told(size, [theta] * (size - 1) + [other])
    assert f"at step 17: rank {size - 1} differs from the majority of {size}; " in text
    assert f"2 of 50 entries differ, by at most {gap:.3g}, the first is parameter 23." in text


def test_two_ranks_that_differ_are_not_judged() -> None:
    theta = random(9)
    text = told(2, [theta, flipped(theta, 0, 63)])
    assert "rank 1 differs from rank 0, and which of them are right cannot be told; 1 of 9 entries" in text


def test_two_against_two_and_all_different() -> None:
    a, b = random(4), random(4, seed=1)
    assert "ranks 1, 3 differ from rank 0, and which" in told(4, [a, b, a, b])
    assert "ranks 1, 2 differ from rank 0, and which" in told(3, [a, b, a + b])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_difference_that_is_no_number_is_told_as_infinite(bad) -> None:
    theta = random(4)
    other = theta.clone()
    other[2] = bad
    assert "1 of 4 entries differ, by at most inf, the first is parameter 2" in told(2, [theta, other])


@pytest.mark.parametrize(("place", "layer"), [(0, "a weight of layer 1"), (-1, "a bias of layer 3")])
def test_the_layer_is_named(place, layer) -> None:
    problem = CASES["heat"]().collocation().problem
    network = build_network(problem, MLP((5, 4)), 0)
    theta = random(network.parameters)
    text = told(2, [theta, flipped(theta, place, 1)], network)
    assert f"the first is parameter {place % network.parameters}, {layer}." in text
