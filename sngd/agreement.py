"""Whether all ranks still hold the same parameters, bit for bit.

    f(θ) = Σ_i mix(b_i + (i + 1) γ)   mod 2⁶⁴

with mix the finaliser of splitmix64 (Steele, Lea and Flood 2014), which is one to one: θ that differ in one
entry never have the same f, others by chance only, one in 2⁶⁴.

Letters
    P        parameters; R ranks
    b_i      the bits of θ_i as a whole number, so that −0 is not 0 and a NaN is known by its payload
    γ        an odd number, which tells the places of θ apart
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sngd.networks import AnyNetwork
    from sngd.ranks import Ranks

__all__ = ["DivergedRanksError", "compare", "fingerprint"]


def _signed(x: int) -> int:
    """A whole number mod 2⁶⁴, as int64 has it."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


_GAMMA = _signed(0x9E3779B97F4A7C15)
_FACTORS = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))
_SHIFTS = (30, 27, 31)
# Entries at once: what a chunk needs beside θ stays in the cache.
_CHUNK, _CHUNK_CUDA = 1 << 16, 1 << 21
# Numbers of all ranks that are gathered at once where they differ.
_GATHERED = 1 << 22


class DivergedRanksError(RuntimeError):
    """The ranks hold different parameters; raised on every rank with the same text."""


def fingerprint(theta: Tensor) -> Tensor:
    """f(θ), one int64; the same on any device.

    Args:
        theta: (P,) float64 or float32.
    """
    bits = _bits(theta.detach().contiguous())
    length = min(len(bits), _CHUNK_CUDA if theta.device.type == "cuda" else _CHUNK)
    places = torch.arange(1, length + 1, device=theta.device).mul_(_GAMMA)
    total = places.new_zeros(())
    for start in range(0, len(bits), max(length, 1)):
        part = bits[start : start + length]
        x = (part + places[: len(part)]).add_(_signed(start * _GAMMA))
        total += _mix(x).sum()
    return total


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.int64 if x.element_size() == 8 else torch.int32)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64, in place."""
    spare = torch.empty_like(x)
    for shift, factor in zip(_SHIFTS, (*_FACTORS, 1), strict=True):
        # int64 shifts its sign in: what came with it is cut off
        torch.bitwise_right_shift(x, shift, out=spare)
        x.bitwise_xor_(spare.bitwise_and_((1 << (64 - shift)) - 1))
        if factor != 1:
            x.mul_(factor)
    return x


def compare(ranks: Ranks, theta: Tensor, step: int, network: AnyNetwork | None = None) -> None:
    """Compare θ over ranks: one number of each is gathered, and θ itself where they differ.

    Args:
        ranks: who should hold the same.
        theta: (P,) this rank's.
        step: of the run, for the message.
        network: names the layer of the first parameter that differs.

    Raises:
        DivergedRanksError: they do not.
    """
    if ranks.size == 1:
        return
    marks = ranks.gather(fingerprint(theta), "check").tolist()
    if len(set(marks)) > 1:
        raise DivergedRanksError(_diagnosis(ranks, theta, step, marks, network))


def _diagnosis(ranks: Ranks, theta: Tensor, step: int, marks: list[int], network: AnyNetwork | None) -> str:
    """Who differs from whom, where and by how much, the same text on every rank."""
    (mark, count), *_ = Counter(marks).most_common()
    known = 2 * count > ranks.size
    right = marks.index(mark) if known else 0
    odd = [rank for rank in range(ranks.size) if marks[rank] != marks[right]]
    number, first, most = _differences(ranks, theta, right)
    names = f"rank {odd[0]} differs" if len(odd) == 1 else f"ranks {_listed(odd)} differ"
    who = (
        f"{names} from the majority of {ranks.size}"
        if known
        else f"{names} from rank {right}, and which of them are right cannot be told"
    )
    layer = "" if network is None else _layer(network, first)
    return (
        f"the ranks no longer hold the same parameters at step {step}: {who}; {number:,} of {len(theta):,} "
        f"entries differ, by at most {most:.3g}, the first is parameter {first:,}{layer}. Usual causes: "
        "ranks on different processors or libraries, a memory error, a residual that draws random numbers "
        "of its own or depends on the rank. `sngd resume` goes on from the last checkpoint, which is good"
    )


def _listed(numbers: list[int], most: int = 8) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"


def _layer(network: AnyNetwork, index: int) -> str:
    places = zip(network.weight_slices, network.bias_slices, strict=True)
    for number, (weight, bias) in enumerate(places, start=1):
        for what, where in (("a weight", weight), ("a bias", bias)):
            if where.start <= index < where.stop:
                return f", {what} of layer {number}"
    return ""


def _differences(ranks: Ranks, theta: Tensor, right: int) -> tuple[int, int, float]:
    """How many entries differ between some rank and `right`, the first, max |Δθ|: R·P numbers travel."""
    number, first, most = 0, -1, 0.0
    length = max(1, _GATHERED // ranks.size)
    for start in range(0, len(theta), length):
        everyone = ranks.gather(theta.detach()[start : start + length].contiguous(), "check")
        bits = _bits(everyone)
        places = (bits != bits[right]).any(0).nonzero().flatten()
        if len(places):
            first = start + int(places[0]) if first < 0 else first
            number += len(places)
            values = everyone[:, places].double()
            gaps = torch.where(bits[:, places] == bits[right, places], 0.0, values - values[right]).abs()
            most = max(most, float(gaps.nan_to_num(nan=math.inf, posinf=math.inf).max()))
    return number, first, most
